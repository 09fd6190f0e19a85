//! All packets at once: sets of packets as binary decision diagrams, and the plan's pipeline over such sets.
//!
//! A member is the first packet of a connection *as its sender sends it*, together with the port by which it leaves and the
//! state of the world that it meets (which schedules are open, which limits are not exhausted). Translations do not
//! rewrite sets: packets that get the same translation travel as one [`flow::Stream`], and conditions on what was
//! translated are answered with the constant that it became. So a counter-example is always something one can send.

pub mod bdd;
mod facts;
mod fields;
pub mod flow;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

pub use bdd::{Bdd, Set, Var};
pub use facts::{Facts, link_local, openers, unspecified};

use crate::model::Address;
use crate::name::IfName;
use crate::plan::Plan;
use crate::simulate::packet::{TCP, WITH_PORTS, address, bits};
use crate::simulate::{Ingress, Packet, Transport};

/// Where each field lies, from the root. Few services and many addresses is how policies look: services near the root keep
/// "everyone may use these ports" small, and a rule about two hosts then costs one path below one service.
pub const IIF: Var = 0;
pub const OIF: Var = 10;
pub const IPV6: Var = 20;
pub const PROTOCOL: Var = 21;
/// Destination port; for ICMP and ICMPv6 the type.
pub const PORT: Var = 29;
pub const TCP_FLAGS: Var = 45;
pub const OWN: Var = 53;
pub const DESTINATION: Var = 54;
pub const SOURCE: Var = 182;
pub const SOURCE_PORT: Var = 310;
/// Schedules, limits and other things that a packet does not carry, in the order in which they were met.
pub const FREE: Var = 326;

const PORT_BITS: u16 = 10;
/// The number of the box itself among the ports: sender of what comes from it, receiver of what is for it.
const BOX: u16 = 1023;

/// What a free bit stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Free {
    /// The element of this schedule's set is there.
    Schedule(String),
    /// The limit of the rule at this place is not exceeded.
    Limit { chain: String, rule: usize },
    /// A condition on who owns the sending socket.
    User(String),
    /// The applier holds an element of this mark in the set.
    Permit { set: String, mark: u32 },
    /// A transparent socket listens on this port.
    Listens(u16),
    /// The packet came from this hardware address.
    Hardware([u8; 6]),
}

pub struct Space {
    pub bdd: Bdd,
    ports: Vec<IfName>,
    free: Vec<Free>,
    /// Where each stands in `free`.
    numbers: BTreeMap<Free, usize>,
}

/// Enough for 10,000 rules over hosts; about 100 MB at the very most, given back when the proof ends.
const NODES: usize = 3_000_000;

impl Space {
    /// Over all ports of these plans.
    pub fn of(plans: &[&Plan]) -> Self {
        let links = plans.iter().flat_map(|plan| plan.links.keys().cloned());
        let named = plans.iter().flat_map(|plan| plan.ruleset.interfaces()).filter(|name| *name != "lo");
        let ports: BTreeSet<IfName> = links.chain(named.filter_map(|name| IfName::try_from(name).ok())).collect();
        Space::with_limit(ports.into_iter().take(usize::from(BOX)).collect(), NODES)
    }

    pub fn with_limit(ports: Vec<IfName>, nodes: usize) -> Self {
        Space { bdd: Bdd::new(nodes), ports, free: Vec::new(), numbers: BTreeMap::new() }
    }

    pub fn free(&mut self, what: Free) -> Set {
        let index = *self.numbers.entry(what).or_insert_with_key(|what| {
            self.free.push(what.clone());
            self.free.len() - 1
        });
        self.bdd.var(FREE + index as Var)
    }

    pub fn free_bits(&self) -> impl Iterator<Item = (Var, &Free)> {
        self.free.iter().enumerate().map(|(index, what)| (FREE + index as Var, what))
    }

    /// The bits for which `known` is what they stand for.
    pub fn free_where(&self, known: impl Fn(&Free) -> bool) -> BTreeSet<Var> {
        self.free_bits().filter(|(_, what)| known(what)).map(|(var, _)| var).collect()
    }

    fn number(&self, port: &str) -> u16 {
        match self.ports.iter().position(|known| known.as_str() == port) {
            Some(index) => index as u16,
            // `lo` is where the box meets itself; a name that no plan knows has no packets, and a number of its own.
            None if port == "lo" => BOX,
            None => BOX - 1,
        }
    }

    pub fn port(&mut self, at: Var, port: &str) -> Set {
        let number = u128::from(self.number(port));
        self.bdd.ranges(at, PORT_BITS, &[(number, number)])
    }

    pub fn ports<'a>(&mut self, at: Var, ports: impl IntoIterator<Item = &'a IfName>) -> Set {
        let numbers: BTreeSet<u128> = ports.into_iter().map(|port| u128::from(self.number(port.as_str()))).collect();
        let ranges: Vec<_> = numbers.into_iter().map(|number| (number, number)).collect();
        self.bdd.ranges(at, PORT_BITS, &ranges)
    }

    pub fn the_box(&mut self, at: Var) -> Set {
        self.port(at, "lo")
    }

    pub fn ipv6(&mut self) -> Set {
        self.bdd.var(IPV6)
    }

    pub fn ipv4(&mut self) -> Set {
        self.bdd.node(IPV6, Set::ALL, Set::EMPTY)
    }

    /// Addresses of one or both families at `DESTINATION` or `SOURCE`, as inclusive ranges.
    pub fn addresses(&mut self, at: Var, ranges: &[(IpAddr, IpAddr)]) -> Set {
        let of = |ipv6: bool, shift: u32| {
            let family = ranges.iter().filter(|(first, _)| first.is_ipv6() == ipv6);
            merged(family.map(|(first, last)| (bits(*first) >> shift, bits(*last) >> shift)).collect())
        };
        let v4 = self.bdd.ranges(at, 32, &of(false, 96));
        let v6 = self.bdd.ranges(at, 128, &of(true, 0));
        self.bdd.node(IPV6, v4, v6)
    }

    pub fn prefixes<'a>(&mut self, at: Var, nets: impl IntoIterator<Item = &'a IpNet>) -> Set {
        let ranges: Vec<_> = nets.into_iter().map(|net| (net.network(), net.broadcast())).collect();
        self.addresses(at, &ranges)
    }

    pub fn hosts<'a>(&mut self, at: Var, hosts: impl IntoIterator<Item = &'a IpAddr>) -> Set {
        let ranges: Vec<_> = hosts.into_iter().map(|host| (*host, *host)).collect();
        self.addresses(at, &ranges)
    }

    pub fn numbers(&mut self, at: Var, width: u16, ranges: &[(u128, u128)]) -> Set {
        self.bdd.ranges(at, width, &merged(ranges.to_vec()))
    }

    pub fn protocols(&mut self, protocols: &[u8]) -> Set {
        let ranges: Vec<_> = protocols.iter().map(|number| (u128::from(*number), u128::from(*number))).collect();
        self.numbers(PROTOCOL, 8, &ranges)
    }

    pub fn with_ports(&mut self) -> Set {
        self.protocols(&WITH_PORTS)
    }

    pub fn and(&mut self, sets: &[Set]) -> Set {
        sets.iter().fold(Set::ALL, |all, set| self.bdd.and(all, *set))
    }

    /// Forgets every bit in `from..to`.
    pub fn forget(&mut self, set: Set, from: Var, to: Var) -> Set {
        self.bdd.exists(set, &(from..to))
    }

    /// One member of a set as a packet, with the egress port (None: the box) and the free bits that are needed.
    pub fn packet(&self, set: Set) -> Option<Example> {
        let path = self.bdd.member(set)?;
        let number = |first: Var, width: u16| {
            let bit = |offset: u16| path.iter().any(|(var, value)| *var == first + offset && *value);
            (0..width).fold(0u128, |number, offset| number << 1 | u128::from(bit(offset)))
        };
        let port = |at| self.ports.get(number(at, PORT_BITS) as usize).cloned();
        let ipv6 = number(IPV6, 1) == 1;
        let protocol = number(PROTOCOL, 8) as u8;
        let packet = Packet {
            from: port(IIF).map_or(Ingress::Box, Ingress::Interface),
            source: address(ipv6, number(SOURCE, 128)),
            destination: address(ipv6, number(DESTINATION, 128)),
            own: number(OWN, 1) == 1,
            mac: path.iter().filter(|(_, value)| *value).find_map(|(var, _)| match self.free.get(usize::from(var.checked_sub(FREE)?)) {
                Some(Free::Hardware(mac)) => Some(*mac),
                _ => None,
            }),
            transport: Transport {
                protocol,
                source_port: number(SOURCE_PORT, 16) as u16,
                port: number(PORT, 16) as u16,
                tcp_flags: if protocol == TCP { number(TCP_FLAGS, 8) as u8 } else { 0 },
            },
        };
        let needed = self.free_bits().filter_map(|(bit, what)| {
            let (_, value) = path.iter().find(|(var, _)| *var == bit)?;
            Some((what.clone(), *value))
        });
        Some(Example { packet, out: port(OIF), free: needed.collect() })
    }

    /// Whether this packet, leaving by `out` (None: for the box), is a member; free bits as `free` says.
    pub fn contains(&self, set: Set, packet: &Packet, out: Option<&IfName>, free: &dyn Fn(&Free) -> bool) -> bool {
        let port = |port: Option<&IfName>| u128::from(port.map_or(BOX, |name| self.number(name.as_str())));
        let iif = match &packet.from {
            Ingress::Interface(name) => port(Some(name)),
            Ingress::Box => port(None),
        };
        let transport = packet.transport;
        let fields = [
            (IIF, PORT_BITS, iif),
            (OIF, PORT_BITS, port(out)),
            (IPV6, 1, u128::from(packet.ipv6())),
            (PROTOCOL, 8, u128::from(transport.protocol)),
            (PORT, 16, u128::from(transport.port)),
            (TCP_FLAGS, 8, u128::from(transport.tcp_flags)),
            (OWN, 1, u128::from(packet.own)),
            (DESTINATION, 128, bits(packet.destination)),
            (SOURCE, 128, bits(packet.source)),
            (SOURCE_PORT, 16, u128::from(transport.source_port)),
        ];
        self.bdd.contains(set, &|var| match fields.iter().rev().find(|(first, _, _)| *first <= var) {
            Some((first, width, value)) if var < first + width => value >> (width - 1 - (var - first)) & 1 == 1,
            _ => self.free.get(usize::from(var - FREE)).is_some_and(free),
        })
    }
}

/// A member of a set, made concrete.
#[derive(Debug, Clone)]
pub struct Example {
    pub packet: Packet,
    pub out: Option<IfName>,
    pub free: Vec<(Free, bool)>,
}

/// First and last address of an [`Address`].
pub fn span(address: &Address) -> (IpAddr, IpAddr) {
    match address {
        Address::Prefix(net) => (net.network(), net.broadcast()),
        Address::Range(first, last) => (*first, *last),
    }
}

/// Sorted, and without overlaps.
fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if before.1 == u128::MAX || first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}
