use std::fmt;

use super::{PortRange, Protocol};
use crate::problem::{nearest, quote};
use crate::shape::{Word, shape};

shape! {
    /// Protocols and ports under a name. A packet belongs to it when any of the lists matches.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Service {
        /// Destination ports.
        pub tcp: Vec<PortRange> = Vec::new(),
        /// Destination ports.
        pub udp: Vec<PortRange> = Vec::new(),
        /// Destination ports.
        pub sctp: Vec<PortRange> = Vec::new(),
        /// ICMP (IPv4) types.
        pub icmp: Vec<IcmpType> = Vec::new(),
        /// ICMPv6 types.
        pub icmpv6: Vec<Icmpv6Type> = Vec::new(),
        /// Whole protocols: `gre`, `esp`, `47`.
        pub protocols: Vec<Protocol> = Vec::new(),
    }
}

/// An ICMP type by number or usual name (`echo-request`), in the numbering of IPv4 (RFC 792).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IcmpType(pub u8);

/// An ICMPv6 type by number or usual name, in the numbering of IPv6 (RFC 4443), which is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Icmpv6Type(pub u8);

/// Names as nftables has them.
const ICMP: [(&str, u8); 9] = [
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
];

const ICMPV6: [(&str, u8); 14] = [
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-listener-query", 130),
    ("mld-listener-report", 131),
    ("mld-listener-done", 132),
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
    ("nd-redirect", 137),
];

fn parse(text: &str, names: &[(&str, u8)], family: &str) -> Result<u8, String> {
    if let Some((_, number)) = names.iter().find(|(name, _)| *name == text) {
        return Ok(*number);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| format!("{} is not an {family} type; they end at 255", quote(text)));
    }
    let near = nearest(text, names.iter().map(|(name, _)| *name));
    Err(format!("{} is not an {family} type; write its number or one of the usual names, as echo-request{near}", quote(text)))
}

impl Word for IcmpType {
    const WHAT: &'static str = "an ICMP type by number or name";
    const PATTERN: &'static str = "^[a-z0-9-]+$";
    const EXAMPLES: &'static [&'static str] = &["echo-request", "time-exceeded"];
    const NUMBERS: Option<(u64, u64)> = Some((0, 255));

    fn parse(text: &str) -> Result<Self, String> {
        parse(text, &ICMP, "ICMP").map(IcmpType)
    }
}

impl Word for Icmpv6Type {
    const WHAT: &'static str = "an ICMPv6 type by number or name";
    const PATTERN: &'static str = "^[a-z0-9-]+$";
    const EXAMPLES: &'static [&'static str] = &["echo-request", "packet-too-big"];
    const NUMBERS: Option<(u64, u64)> = Some((0, 255));

    fn parse(text: &str) -> Result<Self, String> {
        parse(text, &ICMPV6, "ICMPv6").map(Icmpv6Type)
    }
}

impl fmt::Display for IcmpType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        named(self.0, &ICMP, f)
    }
}

impl fmt::Display for Icmpv6Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        named(self.0, &ICMPV6, f)
    }
}

fn named(number: u8, names: &[(&str, u8)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match names.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => f.write_str(name),
        None => write!(f, "{number}"),
    }
}
