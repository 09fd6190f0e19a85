//! The words that several kinds share.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::name::Name;

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
}

/// Inclusive; a single port has `first == last`. Port 0 does not occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

/// When a rule holds: on these days between these times, local to `System.timezone`. `until` before `from` runs past midnight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleSchedule {
    /// Empty means every day.
    pub days: Vec<Weekday>,
    pub from: TimeOfDay,
    pub until: TimeOfDay,
}

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
