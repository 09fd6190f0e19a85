//! The words that several kinds share: their types, and how each is written and read.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::name::{IfName, Name};
use crate::problem::quote;
use crate::shape::{Word, shape};
use crate::url::is_host_name;

/// A zone's name, `box` for the gateway itself, or `any` for every zone (never the box).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ZoneTerm {
    Any,
    Box,
    Zone(Name),
}

/// `192.168.2.10`, `192.168.2.0/24`, `192.168.2.10-192.168.2.20`, and the same in IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A host is a prefix of full length. No host bits are set.
    Prefix(IpNet),
    /// Both of one family, first not above last.
    Range(IpAddr, IpAddr),
}

/// An address as above, or the name of an `AddressSet`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressTerm {
    Literal(Address),
    Set(Name),
}

/// An address or a prefix, as what it covers: `198.51.100.7`, `2001:db8::/32`. No host bits are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix(pub IpNet);

/// Who is meant by a mapping: an address, a prefix, or the hardware address of a client whatever its addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientTerm {
    Net(Prefix),
    Mac(Mac),
}

/// The hardware address of one network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// Certificates as PEM (RFC 7468), in several lines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pem(pub String);

/// `tcp/443`, `udp/5000-5010`, `tcp`, `icmp`, `gre`, `proto/89`, or the name of a `Service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceTerm {
    Literal { protocol: Protocol, ports: Option<PortRange> },
    Named(Name),
}

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers"). Written by name where it has a usual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    pub const ICMP: Protocol = Protocol(1);
    pub const TCP: Protocol = Protocol(6);
    pub const UDP: Protocol = Protocol(17);
    pub const ICMPV6: Protocol = Protocol(58);
    pub const SCTP: Protocol = Protocol(132);

    /// The names that a policy may use, with their numbers.
    pub const NAMES: [(&'static str, u8); 14] = [
        ("icmp", 1),
        ("igmp", 2),
        ("ipip", 4),
        ("tcp", 6),
        ("udp", 17),
        ("dccp", 33),
        ("ipv6", 41),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("icmpv6", 58),
        ("ospf", 89),
        ("vrrp", 112),
        ("sctp", 132),
    ];

    /// TCP, UDP and SCTP, whose ports rules can name.
    pub fn has_ports(self) -> bool {
        [Protocol::TCP, Protocol::UDP, Protocol::SCTP].contains(&self)
    }

    fn named(name: &str) -> Option<Protocol> {
        Protocol::NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| Protocol(*number))
    }
}

/// Inclusive; a single port has `first == last`. Port 0 does not occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

shape! {
    /// When a rule holds: on these days between these times, local to `System.timezone`. `until` before `from` runs past midnight.
    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    pub struct RuleSchedule {
        /// Empty means every day.
        pub days: Vec<Weekday> = Vec::new(),
        /// The first minute.
        pub from: TimeOfDay = TimeOfDay(0),
        /// The first minute that no longer belongs to it.
        pub until: TimeOfDay = TimeOfDay(1440),
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// `HH:MM`, as minutes since midnight; 1440 is `24:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(pub u16);

/// Why a text is not such a word, as a sentence with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadWord(pub String);

/// `FromStr` for those words whose type is ours, so that command lines read them alike.
macro_rules! from_str {
    ($($type:ty),*) => {$(
        impl FromStr for $type {
            type Err = BadWord;
            fn from_str(text: &str) -> Result<Self, BadWord> {
                <$type as Word>::parse(text).map_err(BadWord)
            }
        }
    )*};
}

from_str!(ZoneTerm, Address, AddressTerm, Prefix, ClientTerm, Mac, ServiceTerm, Protocol, PortRange, Weekday, TimeOfDay);

impl Word for ZoneTerm {
    const WHAT: &'static str = "the name of a zone, `box` for the gateway itself, or `any` for every zone";
    const PATTERN: &'static str = Name::PATTERN;
    const EXAMPLES: &'static [&'static str] = &["lan", "any", "box"];
    const ABSENT_MEANS: Option<&'static str> = Some("every zone");

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "any" => Ok(ZoneTerm::Any),
            "box" => Ok(ZoneTerm::Box),
            name => Name::parse(name).map(ZoneTerm::Zone),
        }
    }
}

impl Word for Address {
    const WHAT: &'static str = "an address, a prefix or a range";
    const PATTERN: &'static str = "^[0-9a-fA-F:.]+(/[0-9]{1,3}|-[0-9a-fA-F:.]+)?$";
    const EXAMPLES: &'static [&'static str] = &["192.168.2.10", "192.168.2.0/24", "192.168.2.10-192.168.2.20", "2001:db8::/32"];
    const ABSENT_MEANS: Option<&'static str> = None;

    fn parse(text: &str) -> Result<Self, String> {
        if let Some((first, last)) = text.split_once('-') {
            return range(text, first.trim(), last.trim());
        }
        if text.contains('/') {
            let net = parse_prefix(text)?;
            let whole = net.trunc();
            if whole != net {
                return Err(format!(
                    "{text} has bits set behind its prefix length; write {whole} for the network or {} for the host",
                    net.addr()
                ));
            }
            return Ok(Address::Prefix(net));
        }
        parse_ip(text).map(|address| Address::Prefix(address.into()))
    }
}

fn range(text: &str, first: &str, last: &str) -> Result<Address, String> {
    let (first, last) = (parse_ip(first)?, parse_ip(last)?);
    if first.is_ipv4() != last.is_ipv4() {
        return Err(format!("{text} begins in one IP family and ends in the other; write one range for each"));
    }
    if first > last {
        return Err(format!("{text} begins above its end; write {last}-{first}"));
    }
    Ok(if first == last { Address::Prefix(first.into()) } else { Address::Range(first, last) })
}

/// An address of either family; IPv4 in IPv6 clothes is refused, since packets never carry it.
fn parse_ip(text: &str) -> Result<IpAddr, String> {
    match text.parse() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => Err(format!(
            "{text} is an IPv4 address mapped into IPv6; write {} instead",
            address.to_ipv4_mapped().map(|address| address.to_string()).unwrap_or_default()
        )),
        Ok(address) => Ok(address),
        Err(_) => Err(format!("{} is not an IP address; write one like 192.168.2.10 or 2001:db8::10", quote(text))),
    }
}

fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let wrong = || format!("{} is not a prefix; write one like 192.168.2.0/24 or 2001:db8::/32", quote(text));
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let address = parse_ip(address)?;
    let length: u8 = Some(length)
        .filter(|text| text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(wrong)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    IpNet::new(address, length).map_err(|_| format!("{text} has a prefix length above {most}; write /{most} or less"))
}

impl Word for AddressTerm {
    const WHAT: &'static str = "an address, a prefix, a range, or the name of an AddressSet";
    const PATTERN: &'static str = "^[0-9a-zA-Z:./-]+$";
    const EXAMPLES: &'static [&'static str] = &["192.168.2.10", "192.168.2.0/24", "servers"];
    const ABSENT_MEANS: Option<&'static str> = Some("every address");

    fn parse(text: &str) -> Result<Self, String> {
        // Names have neither dots, colons nor slashes; addresses always have one of them.
        if text.contains(['.', ':', '/']) {
            return Address::parse(text).map(AddressTerm::Literal);
        }
        Name::parse(text).map(AddressTerm::Set)
    }
}

impl Word for Prefix {
    const WHAT: &'static str = "an address or a prefix";
    const PATTERN: &'static str = "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$";
    const EXAMPLES: &'static [&'static str] = &["198.51.100.7", "198.51.100.0/24", "2001:db8::/32"];

    fn parse(text: &str) -> Result<Self, String> {
        match Address::parse(text)? {
            Address::Prefix(net) => Ok(Prefix(net)),
            Address::Range(..) => Err(format!("{text} is a range, which cannot stand here; write prefixes or single addresses")),
        }
    }
}

impl Word for ClientTerm {
    const WHAT: &'static str = "a client: an address, a prefix or a hardware address";
    const PATTERN: &'static str = "^[0-9a-fA-F:.-]+(/[0-9]{1,3})?$";
    const EXAMPLES: &'static [&'static str] = &["192.168.2.10", "192.168.2.64/26", "fd00:2::10", "02:00:00:00:00:01"];

    fn parse(text: &str) -> Result<Self, String> {
        // Five separators and no more than two digits between them: an IPv6 address has seven colons, or two beside each other.
        if text.split([':', '-']).count() == 6 && !text.contains(['.', '/']) && !text.contains("::") {
            return Mac::parse(text).map(ClientTerm::Mac);
        }
        Prefix::parse(text).map(ClientTerm::Net)
    }
}

impl Word for Mac {
    const WHAT: &'static str = "a hardware address";
    const PATTERN: &'static str = "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$";
    const EXAMPLES: &'static [&'static str] = &["02:00:00:00:00:01"];

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{} is not a hardware address; write six pairs of digits, as in 02:00:00:00:00:01", quote(text));
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
            *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)?;
        }
        if pairs.next().is_some() {
            return Err(wrong());
        }
        // The lowest bit of the first byte makes it a group's (IEEE 802-2014, section 8.2.2); no frame comes from a group.
        if bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(format!("{text} is not the address of one card; write the one that the client's port shows"));
        }
        Ok(Mac(bytes))
    }
}

/// Bytes of certificates in one place.
const MOST_PEM: usize = 64 << 10;

impl Word for Pem {
    const WHAT: &'static str = "certificates in PEM";
    const PATTERN: &'static str = "^\\s*-----BEGIN CERTIFICATE-----";
    const EXAMPLES: &'static [&'static str] = &["-----BEGIN CERTIFICATE-----"];

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.contains("PRIVATE KEY") {
            return Err(
                "a private key never belongs into a policy; write the certificate of the authority alone, and give this key up".into()
            );
        }
        if text.len() > MOST_PEM {
            return Err(format!(
                "these certificates have {} bytes; at most {MOST_PEM} are possible: write the authority's alone",
                text.len()
            ));
        }
        let mut inside = None;
        let mut certificates = 0;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match (line, inside) {
                ("-----BEGIN CERTIFICATE-----", None) => inside = Some(0),
                ("-----END CERTIFICATE-----", Some(1..)) => {
                    inside = None;
                    certificates += 1;
                }
                (line, Some(lines)) if line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)) => {
                    inside = Some(lines + 1)
                }
                (line, _) => {
                    return Err(format!("{} is no line of a certificate in PEM; keep each on its own line, after `|`", quote(line)));
                }
            }
        }
        if inside.is_some() || certificates == 0 {
            return Err("this is not a whole certificate; it ends with the line -----END CERTIFICATE-----".into());
        }
        Ok(Pem(format!("{text}\n")))
    }
}

impl Word for ServiceTerm {
    const WHAT: &'static str = "a service: tcp/443, udp/5000-5010, a protocol, or the name of a Service";
    const PATTERN: &'static str = "^[0-9a-z/-]+$";
    const EXAMPLES: &'static [&'static str] = &["https", "tcp/8443", "udp/5000-5010", "gre", "proto/89"];
    const ABSENT_MEANS: Option<&'static str> = Some("every service");

    fn parse(text: &str) -> Result<Self, String> {
        let Some((protocol, rest)) = text.split_once('/') else {
            return match Protocol::named(text) {
                Some(protocol) => Ok(ServiceTerm::Literal { protocol, ports: None }),
                None => Name::parse(text).map(ServiceTerm::Named),
            };
        };
        match Protocol::named(protocol) {
            _ if protocol == "proto" => Ok(ServiceTerm::Literal { protocol: protocol_number(rest)?, ports: None }),
            Some(protocol) if protocol.has_ports() => Ok(ServiceTerm::Literal { protocol, ports: Some(PortRange::parse(rest)?) }),
            Some(Protocol::ICMP | Protocol::ICMPV6) => Err(format!(
                "{} names an ICMP type; make a Service with `{protocol}: [{}]`, or use the service ping",
                quote(text),
                rest.escape_debug().take(40).collect::<String>()
            )),
            Some(_) => Err(format!("{protocol} has no ports; write {protocol} alone")),
            None => {
                Err(format!("{} is not a service; write tcp/PORT, udp/PORT, sctp/PORT, proto/NUMBER or the name of a Service", quote(text)))
            }
        }
    }
}

fn protocol_number(text: &str) -> Result<Protocol, String> {
    let number = Some(text).filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).and_then(|text| text.parse().ok());
    number.map(Protocol).ok_or_else(|| format!("{} is not a protocol number; write one from 0 to 255", quote(text)))
}

impl Word for Protocol {
    const WHAT: &'static str = "an IP protocol by name or number";
    const PATTERN: &'static str = "^[0-9a-z]+$";
    const EXAMPLES: &'static [&'static str] = &["gre", "esp", "47"];
    const NUMBERS: Option<(u64, u64)> = Some((0, 255));

    fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = Protocol::NAMES.iter().map(|(name, _)| *name).collect();
        Protocol::named(text).or_else(|| protocol_number(text).ok()).ok_or_else(|| {
            let near = crate::problem::nearest(text, names.iter().copied());
            format!("{} is not a protocol; write a number from 0 to 255 or one of {}{near}", quote(text), names.join(", "))
        })
    }
}

impl Word for PortRange {
    const WHAT: &'static str = "a port or a range of ports";
    const PATTERN: &'static str = "^[0-9]{1,5}(-[0-9]{1,5})?$";
    const EXAMPLES: &'static [&'static str] = &["443", "8000-8100"];
    const NUMBERS: Option<(u64, u64)> = Some((1, 65535));

    fn parse(text: &str) -> Result<Self, String> {
        let port = |part: &str| -> Result<u16, String> {
            let number =
                Some(part).filter(|part| part.len() <= 5 && part.bytes().all(|b| b.is_ascii_digit())).and_then(|part| part.parse().ok());
            number
                .filter(|number| *number > 0)
                .ok_or_else(|| format!("{} is not a port; write a number from 1 to 65535, or two as in 8000-8100", quote(text)))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(format!("{text} begins above its end; write {last}-{first}"));
        }
        Ok(PortRange { first, last })
    }
}

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Mon),
    ("tue", Weekday::Tue),
    ("wed", Weekday::Wed),
    ("thu", Weekday::Thu),
    ("fri", Weekday::Fri),
    ("sat", Weekday::Sat),
    ("sun", Weekday::Sun),
];

impl Word for Weekday {
    const WHAT: &'static str = "a day of the week";
    const PATTERN: &'static str = "^(mon|tue|wed|thu|fri|sat|sun)$";
    const EXAMPLES: &'static [&'static str] = &["mon", "sun"];
    const ABSENT_MEANS: Option<&'static str> = Some("every day");

    fn parse(text: &str) -> Result<Self, String> {
        let day = DAYS.iter().find(|(word, _)| *word == text).map(|(_, day)| *day);
        day.ok_or_else(|| format!("{} is not a day; write mon, tue, wed, thu, fri, sat or sun", quote(text)))
    }
}

impl Word for TimeOfDay {
    const WHAT: &'static str = "a time of day, HH:MM";
    const PATTERN: &'static str = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$";
    const EXAMPLES: &'static [&'static str] = &["08:00", "24:00"];

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{} is not a time of day; write HH:MM in quotes, from \"00:00\" to \"24:00\"", quote(text));
        let number = |part: &str| {
            Some(part).filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).and_then(|part| part.parse::<u16>().ok())
        };
        let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
        match (number(hours), number(minutes)) {
            (Some(hours @ 0..=23), Some(minutes @ 0..=59)) => Ok(TimeOfDay(hours * 60 + minutes)),
            (Some(24), Some(0)) => Ok(TimeOfDay(1440)),
            _ => Err(wrong()),
        }
    }

    fn text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// An address without a prefix length: a gateway, a translation's target.
impl Word for IpAddr {
    const WHAT: &'static str = "an IP address";
    const PATTERN: &'static str = "^[0-9a-fA-F:.]+$";
    const EXAMPLES: &'static [&'static str] = &["192.168.2.10", "2001:db8::10"];

    fn parse(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Err(format!("{} has a prefix length; write the address alone", quote(text)));
        }
        if is_host_name(text) && text.contains('.') && text.bytes().any(|byte| byte.is_ascii_alphabetic()) {
            return Err(format!(
                "{} is a name, and whoever answers for it would say where packets go; write its address (`getent ahosts {text}` tells it)",
                quote(text)
            ));
        }
        parse_ip(text)
    }
}

/// An address of the box with the length of its network.
impl Word for IpNet {
    const WHAT: &'static str = "an address with its prefix length";
    const PATTERN: &'static str = "^[0-9a-fA-F:.]+/[0-9]{1,3}$";
    const EXAMPLES: &'static [&'static str] = &["192.168.2.1/24", "2001:db8:2::1/64"];

    fn parse(text: &str) -> Result<Self, String> {
        if !text.contains('/') {
            let address = parse_ip(text)?;
            let usual = if address.is_ipv4() { 24 } else { 64 };
            return Err(format!("{text} has no prefix length; write how many bits the network has, as in {text}/{usual}"));
        }
        parse_prefix(text)
    }
}

impl Word for Name {
    const WHAT: &'static str = "a name";
    const PATTERN: &'static str = Name::PATTERN;
    const EXAMPLES: &'static [&'static str] = &["lan", "web-servers"];

    fn parse(text: &str) -> Result<Self, String> {
        Name::try_from(text).map_err(|bad| bad.0)
    }
}

impl Word for IfName {
    const WHAT: &'static str = "a network interface as the kernel calls it";
    const PATTERN: &'static str = IfName::PATTERN;
    const EXAMPLES: &'static [&'static str] = &["eth0", "enp3s0", "lan0"];

    fn parse(text: &str) -> Result<Self, String> {
        IfName::try_from(text).map_err(|bad| bad.0)
    }
}

impl fmt::Display for ZoneTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ZoneTerm::Any => f.write_str("any"),
            ZoneTerm::Box => f.write_str("box"),
            ZoneTerm::Zone(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Prefix(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Address::Prefix(net) => net.fmt(f),
            Address::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Display for AddressTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressTerm::Literal(address) => address.fmt(f),
            AddressTerm::Set(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Address::Prefix(self.0).fmt(f)
    }
}

impl fmt::Display for ClientTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientTerm::Net(net) => net.fmt(f),
            ClientTerm::Mac(mac) => mac.fmt(f),
        }
    }
}

/// In lower case, as `ip link` shows it.
impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for ServiceTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceTerm::Literal { protocol, ports: Some(ports) } => write!(f, "{protocol}/{ports}"),
            ServiceTerm::Literal { protocol, ports: None } => match Protocol::NAMES.iter().any(|(_, number)| *number == protocol.0) {
                true => protocol.fmt(f),
                false => write!(f, "proto/{protocol}"),
            },
            ServiceTerm::Named(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Protocol::NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl fmt::Display for Weekday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DAYS[*self as usize].0)
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}
