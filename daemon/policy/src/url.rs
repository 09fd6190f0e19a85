//! The two kinds of address of the web that a policy holds: where a probe asks, and where names are resolved over HTTPS.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::problem::quote;

/// `http://host[:port]/path` or the same with https. No user, no fragment: neither would mean anything here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
    /// With what follows it after `?`; never empty.
    pub path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// In lower case.
    Name(String),
    Address(IpAddr),
}

const MOST_BYTES: usize = 500;

impl Url {
    /// The error is a whole sentence with the remedy.
    pub fn parse(text: &str, scheme: Scheme) -> Result<Url, String> {
        let like = match scheme {
            Scheme::Http => "http://host/path",
            Scheme::Https => "https://host/path",
        };
        let wrong = |what: &str| format!("{} {what}; write one like {like}", quote(text));
        let rest = text.strip_prefix(scheme.begins()).ok_or_else(|| wrong(&format!("does not begin with {}", scheme.begins())))?;
        if text.len() > MOST_BYTES || !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains(['#', '@', '"', '\\', '<', '>']) {
            return Err(wrong("holds characters that cannot stand in such an address, or a user, a fragment, or too many bytes"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = split_port(authority).ok_or_else(|| wrong("has no port from 1 to 65535 after its colon"))?;
        let host = Host::parse(host).ok_or_else(|| wrong("has no host that is a name or an address"))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Url { scheme, host, port: port.unwrap_or(scheme.port()), path })
    }

    /// What the field `Host` of a request holds (RFC 9110 section 7.2).
    pub fn authority(&self) -> String {
        let host = match &self.host {
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        };
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }
}

impl Scheme {
    fn begins(self) -> &'static str {
        match self {
            Scheme::Http => "http://",
            Scheme::Https => "https://",
        }
    }

    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// None where something after a colon is no port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_brackets..].find(':') {
        None => Some((authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at(after_brackets + colon);
            let digits = Some(&port[1..]).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let port = digits.and_then(|digits| digits.parse::<u16>().ok()).filter(|port| *port > 0)?;
            Some((host, Some(port)))
        }
    }
}

impl Host {
    fn parse(text: &str) -> Option<Host> {
        if let Some(inside) = text.strip_prefix('[') {
            return inside.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|address| Host::Address(address.into()));
        }
        // What ends in a number is an address or nothing (RFC 1123 section 2.1).
        if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return text.parse().ok().filter(IpAddr::is_ipv4).map(Host::Address);
        }
        is_host_name(text).then(|| Host::Name(text.to_ascii_lowercase()))
    }
}

/// Labels of letters, digits and hyphens (RFC 1123 section 2.1), as TLS and HTTP carry them.
pub fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.scheme.begins(), self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_web_is_host_port_and_path() {
        let url = Url::parse("http://Probe.example.net:8080/ip?plain", Scheme::Http).unwrap();
        assert_eq!((url.host.clone(), url.port, url.path.as_str()), (Host::Name("probe.example.net".into()), 8080, "/ip?plain"));
        assert_eq!(url.to_string(), "http://probe.example.net:8080/ip?plain");
        let url = Url::parse("https://[2001:db8::1]", Scheme::Https).unwrap();
        assert_eq!((url.authority().as_str(), url.port, url.path.as_str()), ("[2001:db8::1]", 443, "/"));
        assert_eq!(Url::parse("http://192.0.2.80?x", Scheme::Http).unwrap().path, "/?x");
    }

    #[test]
    fn what_is_not_one_is_refused() {
        for bad in [
            "",
            "http://",
            "https://host/",
            "ftp://host/",
            "http://host:0/",
            "http://host:70000/",
            "http://host:/",
            "http://a b/",
            "http://user@host/",
            "http://host/#x",
            "http://[::1",
            "http://[1.2.3.4]/",
            "http://1.2.3/",
            "http://-a/",
            "http://a..b/",
            "http://host/\u{e9}",
            "http://h\r\nX: y/",
            "http://[::1]x/",
            "http://::1/",
        ] {
            assert!(Url::parse(bad, Scheme::Http).is_err(), "{bad:?} passed");
        }
    }
}
