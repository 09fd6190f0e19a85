use super::{PortRange, Protocol};

/// Protocols and ports under a name. A packet belongs to it when any of the lists matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub tcp: Vec<PortRange>,
    pub udp: Vec<PortRange>,
    pub sctp: Vec<PortRange>,
    pub icmp: Vec<IcmpType>,
    pub icmpv6: Vec<IcmpType>,
    /// Whole protocols: `gre`, `esp`, `47`.
    pub protocols: Vec<Protocol>,
}

/// An ICMP or ICMPv6 type by number or usual name (`echo-request`), in the numbering of its own family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IcmpType(pub u8);
