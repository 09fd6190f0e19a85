use std::net::IpAddr;

use super::{AddressTerm, Located, PortRange, ServiceTerm, ZoneTerm};
use crate::name::Name;
use crate::shape::shape;

shape! {
    /// Ordered translations; the first that matches a new connection decides for all of its packets.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct NatPolicy {
        /// Policies with a lower order come first; equal ones in the order of their names. Default 100.
        pub order: u32 = 100,
        /// From first to last.
        pub rules: Vec<Located<NatRule>>,
    }
}

shape! {
    /// One translation of addresses or ports.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct NatRule {
        /// Unique in its policy.
        pub name: Name,
        /// Zones where the connection comes from; empty means every zone, for `snat` and `masquerade` also the box.
        pub from: Vec<ZoneTerm> = Vec::new(),
        /// Left out: every source address.
        pub sources: Vec<AddressTerm> = Vec::new(),
        /// For `portForward`: empty means the box's own addresses in the `from` zones.
        pub destinations: Vec<AddressTerm> = Vec::new(),
        /// Left out: every service. With `toPort`, TCP, UDP or SCTP ports must be named here.
        pub services: Vec<ServiceTerm> = Vec::new(),
        pub kind: NatKind,
        /// Default true.
        pub enabled: bool = true,
        /// For people.
        pub comment: Option<String> = None,
    }
}

shape! {
    #[tag = "type"]
    /// `type:` in the text, with the fields that belong to it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum NatKind {
        /// Source becomes the address of the outgoing port.
        Masquerade {
            /// Zones where the connection leaves the box.
            to: Vec<ZoneTerm>,
        },
        /// Source becomes `to_address`, of the same family as the packets; ports may be narrowed.
        Snat {
            /// Zones where the connection leaves the box.
            to: Vec<ZoneTerm>,
            /// The new source.
            to_address: IpAddr,
            /// The new source port is one of these. Left out: the kernel chooses.
            to_ports: Option<PortRange> = None,
        },
        /// Destination becomes `to_address`; without `to_port` the port stays. `permit` (default true) also lets exactly this
        /// traffic through the firewall; `hairpin` (default true) lets the target's own zone use the outside address as well.
        PortForward {
            /// The new destination.
            to_address: IpAddr,
            /// The new port. Left out: the port stays.
            to_port: Option<u16> = None,
            /// Whether the target's own zone can use the outside address as well. Default true.
            hairpin: bool = true,
            /// Whether exactly this traffic also passes the firewall. Default true.
            permit: bool = true,
        },
        /// Destination becomes the box itself at `to_port`; a rule to `box` must permit it.
        Redirect {
            /// The port on the box.
            to_port: u16,
        },
    }
}
