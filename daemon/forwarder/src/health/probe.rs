//! One probe, without a socket: TLS, the handshake, `GET`, and the address in the answer.

use std::net::{IpAddr, SocketAddr};

use policy::plan::proxy::Upstream;

use super::answer::Answer;
use crate::dial::tls::{Plain, Tls};
use crate::dial::{Handshake, Progress, Refused, Target};

/// Everything that is said over the one connection to the upstream.
pub struct Conversation {
    tls: Option<Tls>,
    stage: Stage,
    request: Vec<u8>,
    /// What is to be sent, after TLS where there is TLS.
    out: Vec<u8>,
    sent: usize,
}

enum Stage {
    Handshake(Handshake),
    Answer(Answer),
}

/// Where a probe asks for the exit address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub target: Target,
    pub request: Vec<u8>,
}

/// What has come of it so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Nothing,
    /// The web server behind the upstream has begun to answer.
    Answering,
    Exit(IpAddr),
}

impl Conversation {
    pub fn begin(upstream: &Upstream, password: Option<&str>, pipelined: bool) -> Result<Conversation, Refused> {
        let Question { target, request } = Question::parse(&upstream.probe)?;
        let handshake = Handshake::connect(upstream, password, &target, pipelined)?;
        let mut conversation =
            Conversation { tls: Tls::client(upstream)?, stage: Stage::Handshake(handshake), request, out: Vec::new(), sent: 0 };
        conversation.say();
        Ok(conversation)
    }

    pub fn to_send(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    pub fn sent(&mut self, bytes: usize) {
        self.sent = self.out.len().min(self.sent + bytes);
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        self.say();
    }

    pub fn received(&mut self, mut bytes: &[u8]) -> Result<Heard, Refused> {
        if self.tls.is_none() {
            return self.plain(bytes);
        }
        let mut heard = Heard::Nothing;
        let mut plain = [0; 4096];
        while !bytes.is_empty() {
            let Some(tls) = &mut self.tls else { break };
            let taken = tls.received(bytes)?;
            bytes = &bytes[taken..];
            while let Some(tls) = &mut self.tls {
                match tls.read(&mut plain)? {
                    Plain::Bytes(read) => heard = self.plain(&plain[..read])?,
                    Plain::End => return self.ended().map(Heard::Exit),
                    Plain::Nothing => break,
                }
                if let Heard::Exit(_) = heard {
                    return Ok(heard);
                }
            }
        }
        self.say();
        Ok(heard)
    }

    /// The connection ended.
    pub fn ended(&mut self) -> Result<IpAddr, Refused> {
        match &self.stage {
            Stage::Handshake(_) if self.tls.as_ref().is_some_and(Tls::handshaking) => {
                Err(Refused::upstream("it closed the connection during the TLS handshake"))
            }
            Stage::Handshake(handshake) => Err(handshake.ended()),
            Stage::Answer(answer) => answer.ended(),
        }
    }

    /// How far it has come, for when it goes no further.
    pub fn stands(&self) -> &'static str {
        match &self.stage {
            Stage::Handshake(_) if self.tls.as_ref().is_some_and(Tls::handshaking) => "it did not finish the TLS handshake in time",
            Stage::Handshake(_) => "it did not answer in time",
            Stage::Answer(_) => "the probe through it was not answered in time",
        }
    }

    fn plain(&mut self, bytes: &[u8]) -> Result<Heard, Refused> {
        let rest = match &mut self.stage {
            Stage::Answer(_) => bytes,
            Stage::Handshake(handshake) => match handshake.received(bytes)? {
                Progress::More => {
                    self.say();
                    return Ok(Heard::Nothing);
                }
                Progress::Done { used, .. } => {
                    self.stage = Stage::Answer(Answer::default());
                    self.say();
                    &bytes[used..]
                }
            },
        };
        match &mut self.stage {
            Stage::Answer(answer) if !rest.is_empty() => Ok(answer.received(rest)?.map_or(Heard::Answering, Heard::Exit)),
            _ => Ok(Heard::Nothing),
        }
    }

    /// Whatever is to be said now goes out, through TLS where there is TLS.
    fn say(&mut self) {
        let words = match &self.stage {
            Stage::Handshake(handshake) => handshake.to_send(),
            Stage::Answer(_) => &self.request,
        };
        let taken = match &mut self.tls {
            Some(tls) => tls.write(words),
            None => {
                self.out.extend(words);
                words.len()
            }
        };
        match &mut self.stage {
            Stage::Handshake(handshake) => handshake.sent(taken),
            Stage::Answer(_) => _ = self.request.drain(..taken),
        }
        if let Some(tls) = &mut self.tls {
            let cipher = tls.to_send().len();
            self.out.extend(tls.to_send());
            tls.sent(cipher);
        }
    }
}

impl Question {
    /// `http://host[:port][/path]`
    pub fn parse(url: &str) -> Result<Question, Refused> {
        let bad = || Refused::upstream("its probe is not http://host[:port]/path");
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad());
        }
        let rest = url.strip_prefix("http://").ok_or_else(bad)?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let slash = if path.starts_with('/') { "" } else { "/" };
        let target = target(authority).ok_or_else(bad)?;
        let request = format!(
            "GET {slash}{path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: portcullis\r\nAccept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
        );
        Ok(Question { target, request: request.into_bytes() })
    }
}

fn target(authority: &str) -> Option<Target> {
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return Some(Target::Address(address));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, 80),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare.unwrap_or(host).parse::<IpAddr>() {
        Ok(address) => Some(Target::Address(SocketAddr::new(address, port))),
        Err(_) if bare.is_some() || host.is_empty() => None,
        Err(_) => Some(Target::Name(host.to_owned(), port)),
    }
}
