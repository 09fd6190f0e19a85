//! How an upstream is asked to carry: SOCKS5 (RFC 1928, RFC 1929), HTTP CONNECT (RFC 9110 section 9.3.6), and TLS around either.
//!
//! ```text
//! Handshake ──to_send──▶ upstream        bytes go out, bytes come in, in pieces of any size;
//!     ▲                      │           nothing here opens a socket, reads a clock or resolves a name
//!     └──────received────────┘
//! ```
//!
//! The server is not trusted: what it says is bounded, byte for byte, and what is not the protocol ends the attempt. How long an
//! answer may take is the caller's to limit, by one deadline for the whole handshake, so that a server that drips gains nothing.

mod http;
mod socks;
pub mod tls;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use policy::plan::proxy::{Upstream, UpstreamKind};

/// Where the client wants to go. A name is resolved by the upstream, never here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Address(SocketAddr),
    Name(String, u16),
}

/// One request to an upstream and what it answers.
pub struct Handshake {
    out: Vec<u8>,
    sent: usize,
    reader: Reader,
    /// Where UDP goes, once the server has said the port.
    relay_at: IpAddr,
    end: Option<Result<Option<SocketAddr>, Refused>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The answer is not complete; there may be more to send.
    More,
    /// From here on the connection is the tunnel.
    Done {
        /// Bytes of this input that were the handshake's. The rest is the tunnel's.
        used: usize,
        /// For [`Handshake::associate`]: where datagrams go. Always at the upstream's own address.
        relay: Option<SocketAddr>,
    },
}

/// Why there is no tunnel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// In plain words, without control characters, whatever the server sent.
    pub why: String,
    /// It would have refused every destination: it does not speak the protocol, does not take our password, ...
    pub upstream_at_fault: bool,
}

enum Reader {
    Socks(socks::Reader),
    Http(http::Reader),
}

/// What one byte of the server's led to.
enum Step {
    More,
    Send(Vec<u8>),
    /// With the port that the server named.
    Done(Option<u16>),
}

impl Handshake {
    /// Asks for a connection to `target`. With `pipelined`, a SOCKS server is sent everything at once, without waiting for its answers.
    pub fn connect(upstream: &Upstream, password: Option<&str>, target: &Target, pipelined: bool) -> Result<Handshake, Refused> {
        target.check()?;
        let credentials = Credentials::of(upstream, password)?;
        let (reader, out) = match upstream.kind {
            UpstreamKind::Socks5 | UpstreamKind::Socks5Tls => {
                let (reader, out) = socks::Reader::begin(socks::Command::Connect, target, credentials.as_ref(), pipelined)?;
                (Reader::Socks(reader), out)
            }
            UpstreamKind::HttpConnect | UpstreamKind::HttpsConnect => {
                (Reader::Http(http::Reader::default()), http::request(target, credentials.as_ref()))
            }
        };
        Ok(Handshake { out, sent: 0, reader, relay_at: upstream.address, end: None })
    }

    /// Asks for datagrams to be carried. The connection stays open as long as they are.
    pub fn associate(upstream: &Upstream, password: Option<&str>) -> Result<Handshake, Refused> {
        if !upstream.udp || upstream.kind != UpstreamKind::Socks5 {
            return Err(Refused::destination("this upstream carries no UDP"));
        }
        let credentials = Credentials::of(upstream, password)?;
        // RFC 1928 section 7: zeros, because the port that datagrams will come from is not known yet.
        let anywhere = match upstream.address {
            IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
            IpAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
        };
        let (reader, out) = socks::Reader::begin(socks::Command::Associate, &Target::Address(anywhere), credentials.as_ref(), false)?;
        Ok(Handshake { out, sent: 0, reader: Reader::Socks(reader), relay_at: upstream.address, end: None })
    }

    /// What has to be sent next; empty while the server has to answer.
    pub fn to_send(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    /// So many bytes of [`Handshake::to_send`] were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.sent = self.out.len().min(self.sent + bytes);
    }

    pub fn received(&mut self, input: &[u8]) -> Result<Progress, Refused> {
        if let Some(end) = &self.end {
            return end.clone().map(|relay| Progress::Done { used: 0, relay });
        }
        let result = self.read(input);
        match &result {
            Ok(Progress::Done { relay, .. }) => self.end = Some(Ok(*relay)),
            Err(refused) => self.end = Some(Err(refused.clone())),
            Ok(Progress::More) => {}
        }
        result
    }

    /// The server closed before its answer was complete.
    pub fn ended(&self) -> Refused {
        match &self.end {
            Some(Err(refused)) => refused.clone(),
            _ => Refused::upstream("it closed the connection before its answer was complete"),
        }
    }

    // Byte by byte, so that the pieces in which an answer arrives cannot make a difference. It is a few dozen bytes once per connection.
    fn read(&mut self, input: &[u8]) -> Result<Progress, Refused> {
        for (index, byte) in input.iter().enumerate() {
            let step = match &mut self.reader {
                Reader::Socks(reader) => reader.byte(*byte)?,
                Reader::Http(reader) => reader.byte(*byte)?,
            };
            match step {
                Step::More => {}
                Step::Send(next) => {
                    self.not_before_asked()?;
                    (self.out, self.sent) = (next, 0);
                }
                Step::Done(port) => {
                    self.not_before_asked()?;
                    return Ok(Progress::Done { used: index + 1, relay: port.map(|port| SocketAddr::new(self.relay_at, port)) });
                }
            }
        }
        Ok(Progress::More)
    }

    /// An answer to a question that is not out yet is no answer, and what is still to be sent would end up in the tunnel.
    fn not_before_asked(&self) -> Result<(), Refused> {
        if self.to_send().is_empty() { Ok(()) } else { Err(Refused::upstream("it answered before it was asked")) }
    }
}

// Holds the password, in what is to be sent.
impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("unsent", &self.to_send().len()).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Target {
    pub fn port(&self) -> u16 {
        match self {
            Target::Address(address) => address.port(),
            Target::Name(_, port) => *port,
        }
    }

    /// A name goes into the request as it is: one that a resolver would not take, or that would end an HTTP line, goes nowhere.
    fn check(&self) -> Result<(), Refused> {
        let Target::Name(name, _) = self else { return Ok(()) };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty() || name.len() > 253 || !name.bytes().all(allowed) {
            return Err(Refused::destination("the destination's name is not one"));
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => SocketAddr::new(address.ip().to_canonical(), address.port()).fmt(f),
            Target::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl Refused {
    pub fn upstream(why: impl Into<String>) -> Refused {
        Refused { why: why.into(), upstream_at_fault: true }
    }

    /// The fault is the destination's, or the question's; the next one may be carried.
    pub fn destination(why: impl Into<String>) -> Refused {
        Refused { why: why.into(), upstream_at_fault: false }
    }
}

struct Credentials {
    username: String,
    password: String,
}

impl Credentials {
    fn of(upstream: &Upstream, password: Option<&str>) -> Result<Option<Credentials>, Refused> {
        let Some(username) = upstream.username.clone() else { return Ok(None) };
        match (&upstream.password, password) {
            (_, Some(password)) => Ok(Some(Credentials { username, password: password.to_owned() })),
            (None, None) => Ok(Some(Credentials { username, password: String::new() })),
            (Some(secret), None) => Err(Refused::upstream(format!("the secret {secret} is not set"))),
        }
    }
}

/// Why there is no connection to the upstream itself, in plain words.
pub fn not_connected(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "it refuses connections".to_owned(),
        ErrorKind::TimedOut => "it does not answer".to_owned(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "it cannot be reached".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => "it cut the connection off".to_owned(),
        ErrorKind::PermissionDenied => "this box does not let the forwarder connect to it".to_owned(),
        _ => format!("there is no connection to it: {error}"),
    }
}

/// Of what a server said, what can be shown to people.
pub fn printable(bytes: &[u8], most: usize) -> String {
    let shown = bytes.iter().filter(|byte| byte.is_ascii_graphic() || **byte == b' ').take(most);
    shown.map(|byte| char::from(*byte)).collect::<String>().trim().to_owned()
}
