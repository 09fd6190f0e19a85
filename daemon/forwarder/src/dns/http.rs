//! DNS over HTTPS (RFC 8484) in HTTP/1.1 (RFC 9112): one POST after the other over a connection that is kept. No I/O.
//!
//! No HTTP client, because the connection is ours already (through the upstream, TLS inside), and what is left of HTTP is this.

/// `https://name[:port]/path`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub name: String,
    pub port: u16,
    authority: String,
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// The body is a DNS message.
    pub dns: bool,
    /// Another question may follow over the same connection.
    pub keep: bool,
    pub body: Vec<u8>,
}

/// It is not HTTP, or larger than any answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

const HEAD_MAX: usize = 16 << 10;
const BODY_MAX: usize = 65_535;
/// Chunks may be as small as a byte each.
const WIRE_MAX: usize = 8 * BODY_MAX;
const MEDIA: &str = "application/dns-message";

impl Url {
    pub fn read(url: &str) -> Option<Url> {
        let rest = url.strip_prefix("https://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (name, port) = match authority.strip_prefix('[') {
            Some(literal) => literal.split_once(']')?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None if port.is_empty() => 443,
            None => return None,
        };
        let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let well = !name.is_empty() && printable(authority) && printable(&path) && !authority.contains('@');
        well.then(|| Url { name: name.to_owned(), port, authority: authority.to_owned(), path })
    }

    pub fn post(&self, message: &[u8]) -> Vec<u8> {
        let Url { path, authority, .. } = self;
        let length = message.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: {MEDIA}\r\nAccept: {MEDIA}\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), message].concat()
    }
}

/// Takes the first whole response out of what arrived. A body that ends with the connection is not taken: somebody may have cut it.
pub fn take(arrived: &mut Vec<u8>) -> Result<Option<Response>, Malformed> {
    loop {
        let Some(end) = arrived.windows(4).position(|four| four == b"\r\n\r\n").map(|place| place + 4) else {
            return if arrived.len() > HEAD_MAX { Err(Malformed) } else { Ok(None) };
        };
        let head = Head::read(arrived.get(..end).filter(|head| head.len() <= HEAD_MAX).ok_or(Malformed)?)?;
        if matches!(head.status, 100..=199) && head.status != 101 {
            arrived.drain(..end);
            continue;
        }
        let Some((body, used)) = head.body(&arrived[end..])? else { return Ok(None) };
        arrived.drain(..end + used);
        return Ok(Some(Response { status: head.status, dns: head.dns, keep: head.keep, body }));
    }
}

struct Head {
    status: u16,
    dns: bool,
    keep: bool,
    length: Option<usize>,
    chunked: bool,
}

impl Head {
    fn read(head: &[u8]) -> Result<Head, Malformed> {
        let head = std::str::from_utf8(head).map_err(|_| Malformed)?;
        let mut lines = head.split("\r\n");
        let first = lines.next().ok_or(Malformed)?;
        let version = first.get(..9).ok_or(Malformed)?;
        let keeps = match version {
            "HTTP/1.1 " => true,
            "HTTP/1.0 " => false,
            _ => return Err(Malformed),
        };
        let status = first.get(9..12).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit())).ok_or(Malformed)?;
        let mut read = Head { status: status.parse().map_err(|_| Malformed)?, dns: false, keep: keeps, length: None, chunked: false };
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(Malformed)?;
            read.header(name, value.trim_matches([' ', '\t']))?;
        }
        // Both would be two opinions about where the answer ends (RFC 9112 section 6.3).
        if read.chunked && read.length.is_some() { Err(Malformed) } else { Ok(read) }
    }

    fn header(&mut self, name: &str, value: &str) -> Result<(), Malformed> {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let length = value.parse().ok().filter(|length| digits && *length <= BODY_MAX).ok_or(Malformed)?;
                if self.length.replace(length).is_some_and(|before| before != length) {
                    return Err(Malformed);
                }
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => self.chunked = true,
            "transfer-encoding" => return Err(Malformed),
            "content-type" => {
                let kind = value.split(';').next().unwrap_or_default();
                self.dns = kind.trim().eq_ignore_ascii_case(MEDIA);
            }
            "connection" if value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")) => self.keep = false,
            _ => {}
        }
        Ok(())
    }

    /// The body and how many bytes it took; None: it is not whole yet.
    fn body(&self, rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
        match (self.chunked, self.length) {
            (true, _) => chunks(rest),
            (false, Some(length)) => Ok(rest.get(..length).map(|body| (body.to_vec(), length))),
            (false, None) if matches!(self.status, 204 | 304) => Ok(Some((Vec::new(), 0))),
            (false, None) => Err(Malformed),
        }
    }
}

fn chunks(wire: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
    let (mut body, mut place) = (Vec::new(), 0);
    loop {
        if wire.len() > WIRE_MAX {
            return Err(Malformed);
        }
        let Some((line, after)) = line(wire, place)? else { return Ok(None) };
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size.trim_ascii()).map_err(|_| Malformed)?;
        let hex = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size =
            usize::from_str_radix(size, 16).ok().filter(|size| hex && body.len() + *size.min(&WIRE_MAX) <= BODY_MAX).ok_or(Malformed)?;
        if size == 0 {
            return Ok(trailer_end(wire, after)?.map(|end| (body, end)));
        }
        let Some(chunk) = wire.get(after..after + size + 2) else { return Ok(None) };
        let (data, end) = chunk.split_at(size);
        if end != b"\r\n" {
            return Err(Malformed);
        }
        body.extend_from_slice(data);
        place = after + size + 2;
    }
}

fn trailer_end(wire: &[u8], mut place: usize) -> Result<Option<usize>, Malformed> {
    loop {
        match line(wire, place)? {
            None => return Ok(None),
            Some((b"", after)) => return Ok(Some(after)),
            Some((_, after)) => place = after,
        }
    }
}

/// A line without its end, and where the next begins.
fn line(wire: &[u8], place: usize) -> Result<Option<(&[u8], usize)>, Malformed> {
    let rest = wire.get(place..).unwrap_or_default();
    match rest.windows(2).take(1 << 10).position(|two| two == b"\r\n") {
        Some(length) => Ok(Some((&rest[..length], place + length + 2))),
        None if rest.len() > 1 << 10 => Err(Malformed),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(wire: &str) -> Result<Option<(u16, bool, bool, String)>, Malformed> {
        let told = |response: Response| (response.status, response.dns, response.keep, String::from_utf8(response.body).unwrap());
        take(&mut wire.as_bytes().to_vec()).map(|response| response.map(told))
    }

    #[test]
    fn urls_are_taken_apart() {
        let parts = |url| Url::read(url).map(|url| (url.name, url.port, url.authority, url.path));
        let some = |name: &str, port, authority: &str, path: &str| Some((name.into(), port, authority.into(), path.into()));
        assert_eq!(parts("https://dns.test/dns-query"), some("dns.test", 443, "dns.test", "/dns-query"));
        assert_eq!(parts("https://dns.test:8443"), some("dns.test", 8443, "dns.test:8443", "/"));
        assert_eq!(parts("https://[2001:db8::1]:8443/q?a=b"), some("2001:db8::1", 8443, "[2001:db8::1]:8443", "/q?a=b"));
        for bad in [
            "http://dns.test/",
            "https:///q",
            "https://dns.test:port/",
            "https://a b/",
            "https://u@h/",
            "https://[::1/",
            "https://h/\r\nX: y",
        ] {
            assert_eq!(Url::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_question_is_one_post() {
        let url = Url::read("https://dns.test:8443/dns-query").unwrap();
        let text = String::from_utf8(url.post(b"question")).unwrap();
        assert_eq!(
            text,
            "POST /dns-query HTTP/1.1\r\nHost: dns.test:8443\r\nContent-Type: application/dns-message\r\n\
             Accept: application/dns-message\r\nContent-Length: 8\r\n\r\nquestion"
        );
    }

    #[test]
    fn answers_are_taken_whole_whichever_way_they_say_their_length() {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n";
        let answer = Ok(Some((200, true, true, "answer".to_owned())));
        assert_eq!(taken(&format!("{head}Content-Length: 6\r\n\r\nanswer")), answer);
        assert_eq!(taken(&format!("{head}Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nan\r\n4\r\nswer\r\n0\r\nA: b\r\n\r\n")), answer);
        assert_eq!(taken(&format!("HTTP/1.1 103 Early\r\nLink: x\r\n\r\n{head}Content-Length: 6\r\n\r\nanswer")), answer);
        assert_eq!(taken(&format!("{head}Content-Length: 6\r\n\r\nanswe")), Ok(None));
        assert_eq!(taken(&format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\nan\r\n4\r\nswer\r\n0\r\n")), Ok(None));
        assert_eq!(taken("HTTP/1.0 404 No\r\nContent-Length: 0\r\n\r\n"), Ok(Some((404, false, false, String::new()))));
        assert_eq!(
            taken("HTTP/1.1 500 \r\nConnection: Keep-Alive, Close\r\nContent-Length: 0\r\n\r\n"),
            Ok(Some((500, false, false, String::new())))
        );
    }

    #[test]
    fn what_is_not_http_or_of_two_minds_is_refused() {
        for bad in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nuntil the end",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        ] {
            assert_eq!(taken(bad), Err(Malformed), "{bad}");
        }
        assert_eq!(taken(&"x".repeat(HEAD_MAX + 1)), Err(Malformed));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(wire in "(HTTP/1.1 200 OK\r\n)?(Transfer-Encoding: chunked\r\n|Content-Length: [0-9]{1,6}\r\n|[a-z]:\r\n){0,3}(\r\n)?([0-9a-f]{1,3}\r\n|\\PC){0,20}") {
            _ = taken(&wire);
            _ = Url::read(&wire);
        }
    }
}
