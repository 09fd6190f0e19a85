use ipnet::IpNet;

use crate::name::Name;

/// A network port of the box, named as the kernel names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub zone: Name,
    /// The box's own addresses with their prefix length; host bits are kept.
    pub addresses: Vec<IpNet>,
    /// Which families are leased from a DHCP server (and router advertisements) on this port.
    pub dhcp: Vec<DhcpFamily>,
    /// Bytes, 1280 (the least that IPv6 allows, RFC 8200 section 5) to 9216.
    pub mtu: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DhcpFamily {
    Ipv4,
    Ipv6,
}
