use ipnet::IpNet;

use crate::name::Name;
use crate::shape::shape;

shape! {
    /// A network port of the box, named as the kernel names it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Interface {
        /// The zone that the port belongs to.
        pub zone: Name,
        /// The box's own addresses with their prefix length; host bits are kept.
        pub addresses: Vec<IpNet> = Vec::new(),
        /// Which families are leased from a DHCP server (and router advertisements) on this port.
        pub dhcp: Vec<DhcpFamily> = Vec::new(),
        /// Bytes, 1280 (the least that IPv6 allows, RFC 8200 section 5) to 9216.
        pub mtu: Option<u32> = None,
    }
}

shape! {
    /// A family that a port gets its address in.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum DhcpFamily {
        /// DHCP (RFC 2131).
        Ipv4,
        /// Router advertisements and DHCPv6 (RFC 8415).
        Ipv6,
    }
}
