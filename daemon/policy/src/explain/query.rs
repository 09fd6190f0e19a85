//! The question: who, to whom, with what, and when.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::{IcmpType, Icmpv6Type, Mac, PortRange, Protocol, TimeOfDay};
use crate::shape::Word;
use crate::simulate::packet::{ICMP, ICMPV6, TCP};

/// The first packet of a connection that one wants to know about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Query {
    /// A zone, an interface, or `box`.
    pub from: String,
    /// None: some address that lives there.
    #[serde(default)]
    pub source: Option<IpAddr>,
    /// The sender's hardware address, `02:00:00:00:00:01`, by which it may be mapped. None: one that nobody names.
    #[serde(default)]
    pub mac: Option<String>,
    /// None: the box itself.
    #[serde(default)]
    pub destination: Option<IpAddr>,
    /// IP protocol number.
    pub protocol: u8,
    #[serde(default)]
    pub source_port: Option<u16>,
    /// Destination port; for ICMP and ICMPv6 the type.
    #[serde(default)]
    pub port: Option<u16>,
    /// None: SYN, as whoever opens a connection sends.
    #[serde(default)]
    pub tcp_flags: Option<u8>,
    /// Minutes since Monday 00:00 in the box's time zone. None: whenever; the answer says when it depends on the time.
    #[serde(default)]
    pub at: Option<u16>,
}

/// Why a question cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadQuery(pub String);

impl Query {
    /// The same of a sender with this hardware address.
    pub fn with_mac(self, mac: Option<&str>) -> Result<Query, BadQuery> {
        Ok(Query { mac: mac.map(hardware_address).transpose()?.or(self.mac), ..self })
    }

    /// From words, as on the command line: `lan:192.168.2.10` or `lan:192.168.2.10@02:00:00:00:00:01`, `1.1.1.1` or `box`, `tcp/443` or `icmp/echo-request`, `mon 12:00`.
    pub fn parse(from: &str, to: &str, service: &str, at: Option<&str>) -> Result<Query, BadQuery> {
        let (from, mac) = match from.split_once('@') {
            Some((from, mac)) => (from, Some(hardware_address(mac)?)),
            None => (from, None),
        };
        let (from, source) = match from.split_once(':') {
            Some((from, source)) => (from, Some(address(source)?)),
            None => (from, None),
        };
        let destination = if to == "box" { None } else { Some(address(to)?) };
        let (protocol, port) = service_of(service)?;
        let at = at.map(time).transpose()?;
        Ok(Query { from: from.to_owned(), source, mac, destination, protocol, source_port: None, port, tcp_flags: None, at })
    }
}

fn hardware_address(text: &str) -> Result<String, BadQuery> {
    Mac::parse(text.trim()).map(|mac| mac.to_string()).map_err(BadQuery)
}

fn address(text: &str) -> Result<IpAddr, BadQuery> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().map_err(|_| BadQuery(format!("{text:?} is not an IP address; write one like 192.168.2.10 or 2001:db8::10, or `box`")))
}

fn service_of(text: &str) -> Result<(u8, Option<u16>), BadQuery> {
    let (name, rest) = text.split_once('/').map_or((text, None), |(name, rest)| (name, Some(rest)));
    if name == "proto" {
        let number = rest.and_then(|rest| rest.parse().ok());
        return number.map(|number| (number, None)).ok_or_else(|| BadQuery(format!("{text:?} is not a protocol; write proto/47")));
    }
    let protocol = Protocol::parse(name).map_err(BadQuery)?;
    let Some(rest) = rest else { return Ok((protocol.0, None)) };
    let port = match protocol.0 {
        ICMP => u16::from(IcmpType::parse(rest).map_err(BadQuery)?.0),
        ICMPV6 => u16::from(Icmpv6Type::parse(rest).map_err(BadQuery)?.0),
        _ if protocol.has_ports() => match PortRange::parse(rest).map_err(BadQuery)? {
            PortRange { first, last } if first == last => first,
            _ => return Err(BadQuery(format!("{text:?} holds several ports; ask about one"))),
        },
        _ => return Err(BadQuery(format!("{name} has no ports; write {name} alone"))),
    };
    Ok((protocol.0, Some(port)))
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY: u16 = 24 * 60;

/// `mon 12:00`
fn time(text: &str) -> Result<u16, BadQuery> {
    let wrong = || BadQuery(format!("{text:?} is not a time of the week; write a day and a time, as in `mon 12:00`"));
    let (day, clock) = text.trim().split_once(' ').ok_or_else(wrong)?;
    let day = DAYS.iter().position(|known| *known == day.to_lowercase()).ok_or_else(wrong)? as u16;
    let TimeOfDay(minutes) = TimeOfDay::parse(clock.trim()).map_err(BadQuery)?;
    if minutes >= DAY {
        return Err(BadQuery(format!("{text:?}: 24:00 is the next day's 00:00")));
    }
    Ok(day * DAY + minutes)
}

/// `mon 12:00`, the inverse of what [`Query::parse`] reads.
pub fn week_time(minute: u16) -> String {
    let day = DAYS.get(usize::from(minute / DAY)).unwrap_or(&"sun");
    format!("{day} {:02}:{:02}", minute / 60 % 24, minute % 60)
}

/// `tcp/443`, `icmp/echo-request`, `gre`
pub fn service_words(protocol: u8, port: u16) -> String {
    match protocol {
        ICMP => format!("icmp/{}", IcmpType(port as u8)),
        ICMPV6 => format!("icmpv6/{}", Icmpv6Type(port as u8)),
        _ if Protocol(protocol).has_ports() => format!("{}/{port}", Protocol(protocol)),
        _ => protocol_words(protocol),
    }
}

/// `gre`, or `proto/89` where there is no usual name.
pub fn protocol_words(protocol: u8) -> String {
    match Protocol::NAMES.iter().find(|(_, number)| *number == protocol) {
        Some((name, _)) => (*name).to_owned(),
        None => format!("proto/{protocol}"),
    }
}

/// TCP's flags where they are not a plain SYN: ` (fin,ack)`.
pub fn flag_words(protocol: u8, flags: u8) -> String {
    if protocol != TCP || flags == 2 {
        return String::new();
    }
    let names = [(1, "fin"), (2, "syn"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg"), (64, "ece"), (128, "cwr")];
    let set: Vec<&str> = names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    format!(" ({})", if set.is_empty() { "no flags".to_owned() } else { set.join(",") })
}
