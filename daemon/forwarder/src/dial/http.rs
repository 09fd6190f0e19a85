use base64ct::{Base64, Encoding};

use super::{Credentials, Refused, Step, Target, printable};

/// Bytes of all heads together that a server may send before it has answered.
const HEAD_MAX: usize = 16 << 10;
const STATUS_LINE_MAX: usize = 1 << 10;

/// Reads a server's answer to CONNECT. Only the status line is kept; of the other lines it is enough to see where they end, because
/// RFC 9110 section 9.3.6 wants Content-Length and Transfer-Encoding of a successful answer ignored.
#[derive(Default)]
pub struct Reader {
    head: usize,
    status_line: Vec<u8>,
    /// From the status line, when it is complete.
    status: Option<u16>,
    line: Line,
}

/// What has been seen of a header line.
#[derive(Default)]
struct Line {
    length: usize,
    colon: bool,
    folded: bool,
    carriage_return: bool,
}

pub fn request(target: &Target, credentials: Option<&Credentials>) -> Vec<u8> {
    let authorization = credentials.map_or(String::new(), |credentials| {
        let encoded = Base64::encode_string(format!("{}:{}", credentials.username, credentials.password).as_bytes());
        format!("Proxy-Authorization: Basic {encoded}\r\n")
    });
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n").into_bytes()
}

impl Reader {
    pub fn byte(&mut self, byte: u8) -> Result<Step, Refused> {
        self.head += 1;
        if self.head > HEAD_MAX {
            return Err(Refused::upstream(format!("its answer's head is longer than {HEAD_MAX} bytes")));
        }
        match self.status {
            None => self.status_line(byte),
            Some(status) => self.header(byte, status),
        }
    }

    fn status_line(&mut self, byte: u8) -> Result<Step, Refused> {
        if byte != b'\n' {
            self.status_line.push(byte);
            // What is not HTTP from its first byte on is told at once; it may never send a line's end.
            let agreed = self.status_line.iter().zip(b"HTTP/1.").all(|(ours, theirs)| ours == theirs);
            return if agreed && self.status_line.len() <= STATUS_LINE_MAX { Ok(Step::More) } else { Err(not_http()) };
        }
        self.status = Some(status(&self.status_line).ok_or_else(not_http)?);
        Ok(Step::More)
    }

    fn header(&mut self, byte: u8, status: u16) -> Result<Step, Refused> {
        let line = &mut self.line;
        match byte {
            b'\n' if line.length == 0 => self.head_ended(status),
            b'\n' if line.colon || line.folded => {
                self.line = Line::default();
                Ok(Step::More)
            }
            b'\r' if !line.carriage_return => {
                line.carriage_return = true;
                Ok(Step::More)
            }
            0 | b'\n' | b'\r' => Err(not_http()),
            _ if line.carriage_return => Err(not_http()),
            _ => {
                line.folded |= line.length == 0 && matches!(byte, b' ' | b'\t');
                line.colon |= byte == b':' && line.length > 0;
                line.length += 1;
                Ok(Step::More)
            }
        }
    }

    fn head_ended(&mut self, status: u16) -> Result<Step, Refused> {
        match status {
            // RFC 9110 section 15.2: any number of these may come before the answer. HEAD_MAX bounds them.
            100 | 102..=199 => {
                *self = Reader { head: self.head, ..Reader::default() };
                Ok(Step::More)
            }
            200..=299 => Ok(Step::Done(None)),
            _ => Err(self.refusal(status)),
        }
    }

    fn refusal(&self, status: u16) -> Refused {
        let said = self.said();
        match status {
            407 => Refused::upstream(format!("it refused the user name or password ({said})")),
            // It knows no CONNECT. Everything else could be about this one destination, and a client chooses where it goes.
            101 | 405 | 501 | 505 => Refused::upstream(format!("it does not carry connections ({said})")),
            // 403 of a port that is not allowed, 500 (tinyproxy, of a destination that refuses), 502 to 504, ...
            _ => Refused::destination(format!("it could not carry this ({said})")),
        }
    }

    /// The status and its reason, as far as they can be printed.
    fn said(&self) -> String {
        printable(self.status_line.get(9..).unwrap_or_default(), 60)
    }
}

/// RFC 9112 section 4: `HTTP/1.1 200 reason`. Some servers leave out the reason, with or without its space.
fn status(line: &[u8]) -> Option<u16> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let ([version @ .., b' '], rest) = line.split_at_checked(9)? else { return None };
    let (code, reason) = rest.split_at_checked(3)?;
    let well = matches!(version, b"HTTP/1.1" | b"HTTP/1.0") && code.iter().all(u8::is_ascii_digit) && matches!(reason, [] | [b' ', ..]);
    let code = code.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    (well && (100..=599).contains(&code)).then_some(code)
}

fn not_http() -> Refused {
    Refused::upstream("it does not answer like an HTTP proxy")
}
