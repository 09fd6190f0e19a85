//! A TCP connection to an upstream that becomes a tunnel, without waiting: the handshake inside it, TLS around it (to the upstream)
//! and TLS through it (to a server of DNS over HTTPS), as far as they are wanted.
//!
//! ```text
//! socket ◀─▶ outer TLS ◀─▶ handshake, then ◀─▶ inner TLS ◀─▶ plain bytes
//! ```

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with, sockopt};

use crate::config::Route;
use crate::dial::tls::{Plain, Tls};
use crate::dial::{Handshake, Progress, Refused, Target};

pub struct Tunnel {
    socket: OwnedFd,
    outer: Option<Tls>,
    /// None when it is done.
    handshake: Option<Handshake>,
    inner: Option<Tls>,
    /// Plain bytes that wait for the handshake.
    plain: Vec<u8>,
    /// Bytes for the socket, as they go over the wire.
    wire: Vec<u8>,
    relay: Option<SocketAddr>,
    epoll_wants_write: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// It is the upstream's fault.
    Upstream(String),
    /// It is that of whom we wanted to reach through it.
    Destination(String),
    /// The other side closed, after the handshake.
    Closed,
}

/// What one read takes, so that one tunnel does not hold up the others.
const READ_MAX: usize = 32 << 10;

impl Tunnel {
    pub fn associate(route: &Route) -> Result<Tunnel, Broken> {
        Tunnel::open(route, Handshake::associate(&route.upstream, route.password())?, None)
    }

    pub fn connect(route: &Route, target: &Target, pipelined: bool, inner: Option<Tls>) -> Result<Tunnel, Broken> {
        Tunnel::open(route, Handshake::connect(&route.upstream, route.password(), target, pipelined)?, inner)
    }

    fn open(route: &Route, handshake: Handshake, inner: Option<Tls>) -> Result<Tunnel, Broken> {
        let outer = Tls::client(&route.upstream)?;
        let address = SocketAddr::new(route.upstream.address, route.upstream.port);
        let socket = dial(address).map_err(|error| Broken::Upstream(format!("could not connect: {error}")))?;
        let (plain, wire) = (Vec::new(), Vec::new());
        Ok(Tunnel { socket, outer, handshake: Some(handshake), inner, plain, wire, relay: None, epoll_wants_write: true })
    }

    pub fn watch(&self, epoll: &OwnedFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::OUT;
        Ok(epoll::add(epoll, &self.socket, EventData::new_u64(token), flags)?)
    }

    /// The handshake is done, and so is that of TLS through it.
    pub fn ready(&self) -> bool {
        self.handshake.is_none() && self.inner.as_ref().is_none_or(|tls| !tls.handshaking())
    }

    /// Where datagrams go, once the handshake is done.
    pub fn relay(&self) -> Option<SocketAddr> {
        self.relay
    }

    /// Whoever calls bounds how much; it goes out with the next [`Tunnel::turn`].
    pub fn send(&mut self, bytes: &[u8]) {
        self.plain.extend_from_slice(bytes);
    }

    /// Does what can be done now. What arrived is appended to `arrived`; an end is told only after all that came before it.
    pub fn turn(&mut self, epoll: &OwnedFd, token: u64, arrived: &mut Vec<u8>) -> Result<(), Broken> {
        self.flush()?;
        let ended = self.receive(arrived)?;
        self.flush()?;
        if ended && arrived.is_empty() {
            return Err(Broken::Closed);
        }
        let wants = !self.wire.is_empty();
        if wants != self.epoll_wants_write {
            self.epoll_wants_write = wants;
            let flags = EventFlags::IN | EventFlags::RDHUP | if wants { EventFlags::OUT } else { EventFlags::empty() };
            epoll::modify(epoll, &self.socket, EventData::new_u64(token), flags).map_err(|error| Broken::Upstream(error.to_string()))?;
        }
        Ok(())
    }

    /// Says whether the other side ended.
    fn receive(&mut self, arrived: &mut Vec<u8>) -> Result<bool, Broken> {
        let mut buffer = [0; READ_MAX];
        match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => self.ended(arrived),
            Ok((_, length)) => self.take_wire(&buffer[..length], arrived),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => Ok(false),
            Err(error) if self.handshake.is_some() => Err(Broken::Upstream(format!("could not connect: {}", io::Error::from(error)))),
            Err(_) => Err(Broken::Closed),
        }
    }

    fn ended(&mut self, arrived: &mut Vec<u8>) -> Result<bool, Broken> {
        match (&self.handshake, &mut self.inner) {
            (Some(handshake), _) => Err(handshake.ended().into()),
            (None, Some(tls)) => {
                tls.ended();
                _ = decrypt(tls, &[], arrived);
                Ok(true)
            }
            (None, None) => Ok(true),
        }
    }

    fn take_wire(&mut self, bytes: &[u8], arrived: &mut Vec<u8>) -> Result<bool, Broken> {
        let Some(tls) = &mut self.outer else { return self.take_tunnelled(bytes, arrived) };
        let mut decrypted = Vec::new();
        let outcome = decrypt(tls, bytes, &mut decrypted);
        let ended = outcome?;
        Ok(self.take_tunnelled(&decrypted, arrived)? || ended)
    }

    fn take_tunnelled(&mut self, bytes: &[u8], arrived: &mut Vec<u8>) -> Result<bool, Broken> {
        let mut rest = bytes;
        if let Some(handshake) = &mut self.handshake {
            match handshake.received(bytes)? {
                Progress::More => return Ok(false),
                Progress::Done { used, relay } => {
                    self.handshake = None;
                    self.relay = relay;
                    rest = bytes.get(used..).unwrap_or_default();
                }
            }
        }
        match &mut self.inner {
            // Whom we reach through the tunnel is not the upstream.
            Some(tls) => decrypt(tls, rest, arrived).map_err(|refused| Broken::Destination(refused.why)),
            None => {
                arrived.extend_from_slice(rest);
                Ok(false)
            }
        }
    }

    fn flush(&mut self) -> Result<(), Broken> {
        self.encode();
        while !self.wire.is_empty() {
            match send(&self.socket, &self.wire, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => _ = self.wire.drain(..sent),
                Err(Errno::AGAIN | Errno::NOTCONN | Errno::INTR) => return Ok(()),
                // What the other side said before it went away is still to be read, and says why.
                Err(Errno::PIPE | Errno::CONNRESET) if self.handshake.is_none() => return Ok(()),
                Err(error) if self.handshake.is_some() => {
                    return Err(Broken::Upstream(format!("could not connect: {}", io::Error::from(error))));
                }
                Err(_) => return Err(Broken::Closed),
            }
            self.encode();
        }
        Ok(())
    }

    /// From plain bytes to those on the wire, through all the layers.
    fn encode(&mut self) {
        let mut tunnelled = Vec::new();
        if let Some(handshake) = &mut self.handshake {
            tunnelled.extend_from_slice(handshake.to_send());
            handshake.sent(tunnelled.len());
        } else if let Some(tls) = &mut self.inner {
            encrypt(tls, &mut self.plain, &mut tunnelled);
        } else {
            tunnelled.append(&mut self.plain);
        }
        match &mut self.outer {
            Some(tls) => encrypt(tls, &mut tunnelled, &mut self.wire),
            None => self.wire.append(&mut tunnelled),
        }
    }
}

/// Takes all of `plain`, unless TLS takes no more.
fn encrypt(tls: &mut Tls, plain: &mut Vec<u8>, wire: &mut Vec<u8>) {
    loop {
        let taken = tls.write(plain);
        plain.drain(..taken);
        let sent = tls.to_send().len();
        wire.extend_from_slice(tls.to_send());
        tls.sent(sent);
        if taken == 0 && sent == 0 {
            return;
        }
    }
}

/// Says whether the other side ended.
fn decrypt(tls: &mut Tls, bytes: &[u8], plain: &mut Vec<u8>) -> Result<bool, Refused> {
    let mut rest = bytes;
    let mut buffer = [0; 16 << 10];
    loop {
        let taken = tls.received(rest)?;
        rest = &rest[taken..];
        let mut read = false;
        loop {
            match tls.read(&mut buffer)? {
                Plain::Bytes(length) => plain.extend_from_slice(&buffer[..length]),
                Plain::Nothing => break,
                Plain::End => return Ok(true),
            }
            read = true;
        }
        if rest.is_empty() || (taken == 0 && !read) {
            return Ok(false);
        }
    }
}

/// Begins to connect.
fn dial(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

impl From<Refused> for Broken {
    fn from(refused: Refused) -> Broken {
        if refused.upstream_at_fault { Broken::Upstream(refused.why) } else { Broken::Destination(refused.why) }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Upstream(why) | Broken::Destination(why) => f.write_str(why),
            Broken::Closed => f.write_str("the other side closed"),
        }
    }
}
