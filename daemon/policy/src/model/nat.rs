use std::net::IpAddr;

use super::{AddressTerm, Located, PortRange, ServiceTerm, ZoneTerm};
use crate::name::Name;

/// Ordered translations; the first that matches a new connection decides for all of its packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatPolicy {
    /// Default 100.
    pub order: u32,
    pub rules: Vec<Located<NatRule>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatRule {
    /// Unique in its policy.
    pub name: Name,
    /// Zones where the connection comes from; empty means every zone, for `snat` and `masquerade` also the box.
    pub from: Vec<ZoneTerm>,
    pub sources: Vec<AddressTerm>,
    /// For `portForward`: empty means the box's own addresses in the `from` zones.
    pub destinations: Vec<AddressTerm>,
    pub services: Vec<ServiceTerm>,
    pub kind: NatKind,
    pub enabled: bool,
    pub comment: Option<String>,
}

/// `type:` in the text, with the fields that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatKind {
    /// Source becomes the address of the outgoing port.
    Masquerade { to: Vec<ZoneTerm> },
    /// Source becomes `to_address`, of the same family as the packets; ports may be narrowed.
    Snat { to: Vec<ZoneTerm>, to_address: IpAddr, to_ports: Option<PortRange> },
    /// Destination becomes `to_address`; without `to_port` the port stays. `permit` (default true) also lets exactly this
    /// traffic through the firewall; `hairpin` (default true) lets the target's own zone use the outside address as well.
    PortForward { to_address: IpAddr, to_port: Option<u16>, hairpin: bool, permit: bool },
    /// Destination becomes the box itself at `to_port`; a rule to `box` must permit it.
    Redirect { to_port: u16 },
}
