use std::net::{IpAddr, SocketAddr};

use crate::dial::{Refused, printable};

/// Reads a web server's answer to the probe: its status, and the first IP address in its body.
///
/// The server is behind the upstream and no more trusted than that: heads, bodies and chunks are bounded.
#[derive(Debug, Default)]
pub struct Answer {
    at: At,
    bytes: usize,
    /// The line of the head that is coming.
    line: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
    body: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Status,
    /// Of an answer that precedes the real one (1xx), or of that.
    Headers {
        interim: bool,
    },
    /// So many bytes are still to come; None is until the connection ends.
    Body(Option<u64>),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Ended,
}

/// Of everything but the body.
const HEAD_MAX: usize = 16 << 10;
const LINE_MAX: usize = 4 << 10;
/// An address fits well; whoever sends more is not asked for the rest.
const BODY_MAX: usize = 4 << 10;

impl Answer {
    /// Some when the answer is complete, or enough of it is here.
    pub fn received(&mut self, input: &[u8]) -> Result<Option<IpAddr>, Refused> {
        for byte in input {
            self.byte(*byte)?;
            if self.at == At::Ended || self.body.len() >= BODY_MAX {
                return self.exit().map(Some);
            }
        }
        Ok(None)
    }

    /// The connection ended.
    pub fn ended(&self) -> Result<IpAddr, Refused> {
        match self.at {
            At::Body(None) | At::Ended => self.exit(),
            _ => Err(Refused::upstream("the probe's answer was cut off")),
        }
    }

    fn byte(&mut self, byte: u8) -> Result<(), Refused> {
        match self.at {
            At::Body(left) => {
                self.body.push(byte);
                self.at = match left {
                    Some(1) => At::Ended,
                    left => At::Body(left.map(|left| left - 1)),
                };
                Ok(())
            }
            At::Chunk(left) => {
                self.body.push(byte);
                self.at = if left > 1 { At::Chunk(left - 1) } else { At::ChunkEnd };
                Ok(())
            }
            At::Ended => Ok(()),
            At::Status | At::Headers { .. } | At::ChunkSize | At::ChunkEnd => self.byte_of_line(byte),
        }
    }

    fn byte_of_line(&mut self, byte: u8) -> Result<(), Refused> {
        self.bytes += 1;
        if self.bytes > HEAD_MAX || self.line.len() > LINE_MAX {
            return Err(Refused::upstream("the probe's answer has too long a head"));
        }
        if byte != b'\n' {
            self.line.push(byte);
            return if self.at == At::Status && !b"HTTP/1.".iter().zip(&self.line).all(|(ours, theirs)| ours == theirs) {
                Err(not_http())
            } else {
                Ok(())
            };
        }
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        self.at = match self.at {
            At::Status => status(line)?,
            At::Headers { interim } if line.is_empty() => self.head_ended(interim),
            At::Headers { interim } => {
                if !interim {
                    self.header(line)?;
                }
                self.at
            }
            At::ChunkSize => chunk_size(line)?,
            At::ChunkEnd if line.is_empty() => At::ChunkSize,
            _ => return Err(not_http()),
        };
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Refused> {
        let line = String::from_utf8_lossy(line);
        let (name, value) = line.split_once(':').ok_or_else(not_http)?;
        if name.eq_ignore_ascii_case("content-length") {
            self.length = Some(value.trim().parse().map_err(|_| not_http())?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.trim().eq_ignore_ascii_case("chunked") {
                return Err(Refused::upstream("the probe's answer is encoded in a way that was not asked for"));
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// RFC 9112 section 6.3.
    fn head_ended(&self, interim: bool) -> At {
        match self.length {
            _ if interim => At::Status,
            _ if self.chunked => At::ChunkSize,
            Some(0) => At::Ended,
            length => At::Body(length),
        }
    }

    fn exit(&self) -> Result<IpAddr, Refused> {
        first_address(&self.body).ok_or_else(|| {
            let body = printable(&self.body, 40);
            Refused::upstream(if body.is_empty() {
                "the probe's answer is empty".to_owned()
            } else {
                format!("there is no address in the probe's answer: {body}")
            })
        })
    }
}

fn status(line: &[u8]) -> Result<At, Refused> {
    let said = line.get(b"HTTP/1.1 ".len()..).ok_or_else(not_http)?;
    let code = said.first_chunk::<3>().filter(|code| code.iter().all(u8::is_ascii_digit)).ok_or_else(not_http)?;
    match code {
        b"101" => Err(not_http()),
        [b'1', ..] => Ok(At::Headers { interim: true }),
        b"200" => Ok(At::Headers { interim: false }),
        _ => Err(Refused::upstream(format!("the probe was answered with {}", printable(said, 60)))),
    }
}

/// RFC 9112 section 7.1. With the last chunk, what could follow it is of no interest.
fn chunk_size(line: &[u8]) -> Result<At, Refused> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let size = std::str::from_utf8(&line[..digits])
        .ok()
        .filter(|digits| digits.len() <= 15)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match size.ok_or_else(not_http)? {
        0 => Ok(At::Ended),
        size => Ok(At::Chunk(size)),
    }
}

/// `192.0.2.1`, `{"ip":"2001:db8::1"}`, `You are 192.0.2.1:4711.`
fn first_address(body: &[u8]) -> Option<IpAddr> {
    let text = String::from_utf8_lossy(body);
    let mut words = text.split(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '[' | ']')));
    words.find_map(address)
}

fn address(word: &str) -> Option<IpAddr> {
    let bare = word.trim_end_matches(['.', ':']);
    let with_port = || bare.parse::<SocketAddr>().ok().map(|address| address.ip());
    let spellings = [word, bare, bare.trim_matches(['.', ':']), bare.trim_matches(['[', ']'])];
    spellings.iter().find_map(|spelling| spelling.parse().ok()).or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

fn not_http() -> Refused {
    Refused::upstream("the probe was not answered by a web server")
}
