//! One packet, as it was sent and as it stands after the translations so far.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::IfName;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const DCCP: u8 = 33;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;
pub const UDPLITE: u8 = 136;

/// Protocols that have ports at the place where `th sport` and `th dport` look.
pub const WITH_PORTS: [u8; 5] = [TCP, UDP, DCCP, SCTP, UDPLITE];

/// The first packet of a connection as its sender sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub from: Ingress,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// The destination is an address of the box that the plan does not know: a leased one, or a link-local one.
    pub own: bool,
    /// The hardware address that it came from, where it matters.
    pub mac: Option<[u8; 6]>,
    pub transport: Transport,
}

/// Where the box meets the packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ingress {
    Interface(IfName),
    /// The box itself sends it.
    Box,
}

/// The transport header, as far as rules can see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    pub protocol: u8,
    pub source_port: u16,
    /// Destination port; for ICMP and ICMPv6 the type.
    pub port: u16,
    /// Zero unless TCP.
    pub tcp_flags: u8,
}

impl Packet {
    pub fn ipv6(&self) -> bool {
        self.destination.is_ipv6()
    }
}

impl Transport {
    pub fn has_ports(&self) -> bool {
        WITH_PORTS.contains(&self.protocol)
    }
}

/// An address as a number of 128 bits; IPv4 lies in the highest 32, so that both families compare bit by bit from the left.
pub fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

pub fn address(ipv6: bool, bits: u128) -> IpAddr {
    match ipv6 {
        true => IpAddr::V6(Ipv6Addr::from(bits)),
        false => IpAddr::V4(Ipv4Addr::from((bits >> 96) as u32)),
    }
}
