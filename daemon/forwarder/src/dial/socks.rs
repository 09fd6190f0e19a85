use std::net::IpAddr;

use super::{Credentials, Refused, Step, Target};

/// Reads the answers of a SOCKS5 server, and knows what to say after each.
pub struct Reader {
    awaiting: Awaiting,
    /// Of the answer that is coming; the longest is 262 bytes.
    answer: Vec<u8>,
    command: Command,
    offered: &'static [u8],
    sign_in: Vec<u8>,
    request: Vec<u8>,
    /// Everything was sent at once; what is read is only looked at.
    pipelined: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Connect = 1,
    Associate = 3,
}

enum Awaiting {
    Method,
    SignedIn,
    Reply,
}

const VERSION: u8 = 5;
const NO_SIGN_IN: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_OF_THEM: u8 = 0xff;

impl Reader {
    /// With what is to be sent first.
    pub fn begin(
        command: Command,
        target: &Target,
        credentials: Option<&Credentials>,
        pipelined: bool,
    ) -> Result<(Reader, Vec<u8>), Refused> {
        let offered: &[u8] = match (credentials, pipelined) {
            (None, _) => &[NO_SIGN_IN],
            (Some(_), false) => &[NO_SIGN_IN, PASSWORD],
            // What follows at once can only be right for one method.
            (Some(_), true) => &[PASSWORD],
        };
        let sign_in = credentials.map_or(Ok(Vec::new()), sign_in)?;
        let request = request(command, target);
        let mut out = vec![VERSION, offered.len() as u8];
        out.extend(offered);
        if pipelined {
            out.extend(&sign_in);
            out.extend(&request);
        }
        Ok((Reader { awaiting: Awaiting::Method, answer: Vec::new(), command, offered, sign_in, request, pipelined }, out))
    }

    pub fn byte(&mut self, byte: u8) -> Result<Step, Refused> {
        self.answer.push(byte);
        match self.awaiting {
            Awaiting::Method => self.method(),
            Awaiting::SignedIn => self.signed_in(),
            Awaiting::Reply => self.reply(),
        }
    }

    /// RFC 1928 section 3.
    fn method(&mut self) -> Result<Step, Refused> {
        match self.answer[..] {
            [VERSION] => Ok(Step::More),
            [VERSION, NONE_OF_THEM] if self.sign_in.is_empty() => Err(Refused::upstream("it wants a user name and a password")),
            [VERSION, NONE_OF_THEM] => Err(Refused::upstream("it accepts no user name and password")),
            [VERSION, method] if !self.offered.contains(&method) => {
                Err(Refused::upstream("it chose a way to sign in that was not offered"))
            }
            [VERSION, PASSWORD] => Ok(self.say(Awaiting::SignedIn, self.sign_in.clone())),
            [VERSION, _] => Ok(self.say(Awaiting::Reply, self.request.clone())),
            _ => Err(not_socks()),
        }
    }

    /// RFC 1929. Some servers put SOCKS' own version where this sub-negotiation has 1.
    fn signed_in(&mut self) -> Result<Step, Refused> {
        match self.answer[..] {
            [1 | VERSION] => Ok(Step::More),
            [_, 0] => Ok(self.say(Awaiting::Reply, self.request.clone())),
            [1 | VERSION, _] => Err(Refused::upstream("it refused the user name or password")),
            _ => Err(not_socks()),
        }
    }

    /// RFC 1928 section 6. A refusal is one as soon as its code is here; some servers send no more than that.
    fn reply(&mut self) -> Result<Step, Refused> {
        let length = match self.answer[..] {
            [VERSION] | [VERSION, 0] | [VERSION, 0, _] => return Ok(Step::More),
            [VERSION, code] => return Err(self.refusal(code)),
            [VERSION, 0, _, 1, ..] => 4 + 4 + 2,
            [VERSION, 0, _, 4, ..] => 4 + 16 + 2,
            [VERSION, 0, _, 3] => return Ok(Step::More),
            // Where the server binds may be told by name; nobody asks where that is.
            [VERSION, 0, _, 3, name, ..] => 4 + 1 + usize::from(name) + 2,
            _ => return Err(not_socks()),
        };
        if self.answer.len() < length {
            return Ok(Step::More);
        }
        match (self.command, port(&self.answer)) {
            (Command::Connect, _) => Ok(Step::Done(None)),
            (Command::Associate, 0) => Err(Refused::destination("it named no port for UDP")),
            (Command::Associate, port) => Ok(Step::Done(Some(port))),
        }
    }

    fn say(&mut self, next: Awaiting, bytes: Vec<u8>) -> Step {
        self.awaiting = next;
        self.answer.clear();
        if self.pipelined { Step::More } else { Step::Send(bytes) }
    }

    fn refusal(&self, code: u8) -> Refused {
        match code {
            1 => Refused::destination("it could not carry this (general failure)"),
            2 => Refused::destination("its rules do not allow this destination"),
            3 => Refused::destination("the destination's network is unreachable"),
            4 => Refused::destination("the destination is unreachable"),
            5 => Refused::destination("the destination refused the connection"),
            6 => Refused::destination("the destination did not answer in time"),
            // What carries no datagrams may well carry connections.
            7 if self.command == Command::Associate => Refused::destination("it carries no UDP"),
            7 => Refused::upstream("it carries no connections (command not supported)"),
            8 => Refused::destination("it carries nothing to addresses of this kind"),
            other => Refused::destination(format!("it could not carry this (code {other})")),
        }
    }
}

fn sign_in(credentials: &Credentials) -> Result<Vec<u8>, Refused> {
    let mut bytes = vec![1];
    for field in [&credentials.username, &credentials.password] {
        let length =
            u8::try_from(field.len()).map_err(|_| Refused::upstream("SOCKS takes user names and passwords of at most 255 bytes"))?;
        bytes.push(length);
        bytes.extend(field.as_bytes());
    }
    Ok(bytes)
}

fn request(command: Command, target: &Target) -> Vec<u8> {
    let mut bytes = vec![VERSION, command as u8, 0];
    match target {
        Target::Address(address) => match address.ip().to_canonical() {
            IpAddr::V4(address) => {
                bytes.push(1);
                bytes.extend(address.octets());
            }
            IpAddr::V6(address) => {
                bytes.push(4);
                bytes.extend(address.octets());
            }
        },
        Target::Name(name, _) => {
            bytes.extend([3, name.len() as u8]);
            bytes.extend(name.as_bytes());
        }
    }
    bytes.extend(target.port().to_be_bytes());
    bytes
}

fn port(answer: &[u8]) -> u16 {
    answer.last_chunk().map_or(0, |port| u16::from_be_bytes(*port))
}

fn not_socks() -> Refused {
    Refused::upstream("it does not speak SOCKS5")
}
