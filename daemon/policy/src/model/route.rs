use std::net::IpAddr;

use ipnet::IpNet;

use crate::name::IfName;

/// A static route. Routes to the box's own prefixes follow from the interfaces' addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `default` in the text stands for both 0.0.0.0/0 and ::/0, by the family of `via`.
    pub destination: IpNet,
    pub kind: RouteType,
    /// Default 100; lower wins.
    pub metric: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteType {
    /// Through a neighbour; the interface is derived from its address unless stated (needed for link-local gateways).
    Via { gateway: IpAddr, interface: Option<IfName> },
    /// Straight onto a link.
    Direct { interface: IfName },
    /// Dropped silently.
    Blackhole,
    /// Answered with ICMP unreachable.
    Unreachable,
}
