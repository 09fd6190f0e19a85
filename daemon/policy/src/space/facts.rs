//! What the kernel decides without any rule of ours, as sets of packets: connection state, kind of destination, routes, martians.
//!
//! Everything here has its counterpart for one packet in `simulate`, and a property test holds the two together.

use std::net::IpAddr;

use super::{DESTINATION, Free, IIF, IPV6, OIF, OWN, PORT, SOURCE, Set, Space, TCP_FLAGS, Var};
use crate::name::IfName;
use crate::simulate::conntrack::{self, ESTABLISHED, INVALID, NEW, RELATED, UNTRACKED};
use crate::simulate::packet::{ICMP, ICMPV6, TCP};
use crate::simulate::{AddressType, Fib, Hop, Transport};

pub struct Facts {
    /// Headers that can exist: an ICMP type has 8 bits, an own address has the right family.
    pub possible: Set,
    pub states: [(u32, Set); 3],
    /// Packets that have a connection, whose status and mark can be looked at.
    pub tracked: Set,
    pub kinds: [(AddressType, Set); 5],
    /// Destination and egress port: what the main table says.
    pub routes: Set,
    /// What the kernel accepts from a port at all, and its source where reverse-path filtering looks at it.
    pub welcome: Set,
    pub source_routed_back: Set,
    /// Sources that may be forwarded.
    pub forwardable: Set,
}

impl Facts {
    pub fn of(space: &mut Space, fib: &Fib) -> Self {
        let kinds = kinds(space, fib, DESTINATION);
        let possible = possible(space, fib);
        let states = states(space);
        Facts {
            possible,
            states,
            tracked: states[1].1,
            routes: routes(space, fib),
            welcome: welcome(space, &kinds),
            source_routed_back: source_routed_back(space, fib),
            forwardable: forwardable(space),
            kinds,
        }
    }

    /// The same for packets of connections that exist already, or that one of those has brought about.
    pub fn of_known(space: &mut Space, fib: &Fib) -> Self {
        let related = space.free(Free::Related);
        let established = space.bdd.not(related);
        let states = [(ESTABLISHED, established), (RELATED, related), (NEW, Set::EMPTY)];
        Facts { states, tracked: Set::ALL, ..Facts::of(space, fib) }
    }

    pub fn kind(&self, space: &mut Space, wanted: &[AddressType]) -> Set {
        let sets: Vec<Set> = self.kinds.iter().filter(|(kind, _)| wanted.contains(kind)).map(|(_, set)| *set).collect();
        space.bdd.any(&sets)
    }

    pub fn state(&self, wanted: u32) -> Set {
        self.states.iter().find(|(state, _)| *state == wanted).map_or(Set::EMPTY, |(_, set)| *set)
    }
}

/// Asks [`conntrack::state`] about every kind of header that it distinguishes.
fn states(space: &mut Space) -> [(u32, Set); 3] {
    let mut found = [INVALID, NEW, UNTRACKED].map(|state| (state, Set::EMPTY));
    for (ipv6, protocol, field, width) in [
        (false, TCP, TCP_FLAGS, 8),
        (true, TCP, TCP_FLAGS, 8),
        (false, ICMP, PORT, 16),
        (true, ICMPV6, PORT, 16),
        (false, ICMPV6, PORT, 0),
        (true, ICMP, PORT, 0),
    ] {
        let header = [if ipv6 { space.ipv6() } else { space.ipv4() }, space.protocols(&[protocol])];
        let header = space.and(&header);
        for (state, set) in &mut found {
            let values: Vec<_> = (0..256u16)
                .filter(|value| {
                    let transport = Transport { protocol, source_port: 0, port: *value, tcp_flags: *value as u8 };
                    conntrack::state(ipv6, &transport) == *state
                })
                .map(|value| (u128::from(value), u128::from(value)))
                .collect();
            let values = match width {
                0 if values.is_empty() => Set::EMPTY,
                0 => Set::ALL,
                _ => space.numbers(field, width, &values),
            };
            let these = space.bdd.and(header, values);
            *set = space.bdd.or(*set, these);
        }
    }
    let special = space.protocols(&[TCP, ICMP, ICMPV6]);
    let rest = space.bdd.not(special);
    found[1].1 = space.bdd.or(found[1].1, rest);
    found
}

fn range(first: &str, last: &str) -> (IpAddr, IpAddr) {
    let parse = |text: &str| text.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    (parse(first), parse(last))
}

fn zero_net() -> (IpAddr, IpAddr) {
    range("0.0.0.0", "0.255.255.255")
}

fn limited_broadcast() -> (IpAddr, IpAddr) {
    range("255.255.255.255", "255.255.255.255")
}

fn multicast() -> [(IpAddr, IpAddr); 2] {
    [range("224.0.0.0", "239.255.255.255"), range("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]
}

fn loopback() -> [(IpAddr, IpAddr); 2] {
    [range("127.0.0.0", "127.255.255.255"), range("::1", "::1")]
}

/// The unspecified IPv6 address, which a host uses only before it has one.
pub fn unspecified() -> (IpAddr, IpAddr) {
    range("::", "::")
}

pub fn link_local() -> (IpAddr, IpAddr) {
    range("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
}

/// In the order in which [`Fib::kind`] asks.
fn kinds(space: &mut Space, fib: &Fib, at: Var) -> [(AddressType, Set); 5] {
    let own = if at == DESTINATION { space.bdd.var(OWN) } else { Set::EMPTY };
    let broadcast: Vec<_> = fib.broadcast.iter().map(|a| (*a, *a)).chain([zero_net(), limited_broadcast()]).collect();
    let broadcast = space.addresses(at, &broadcast);
    let multicast = space.addresses(at, &multicast());
    let local: Vec<_> = fib.local.iter().map(|a| (*a, *a)).chain(loopback()).collect();
    let local = space.addresses(at, &local);
    let anycast = space.hosts(at, &fib.anycast);
    let mut rest = Set::ALL;
    let mut take = |set: Set| {
        let taken = space.bdd.and(rest, set);
        rest = space.bdd.minus(rest, set);
        taken
    };
    let own = take(own);
    let broadcast = take(broadcast);
    let multicast = take(multicast);
    let local = take(local);
    let anycast = take(anycast);
    let local = space.bdd.or(own, local);
    [
        (AddressType::Unicast, rest),
        (AddressType::Local, local),
        (AddressType::Broadcast, broadcast),
        (AddressType::Anycast, anycast),
        (AddressType::Multicast, multicast),
    ]
}

fn possible(space: &mut Space, fib: &Fib) -> Set {
    let icmp = space.protocols(&[ICMP, ICMPV6]);
    let byte = space.numbers(PORT, 16, &[(0, 255)]);
    let no_type = space.bdd.minus(icmp, byte);

    // An own address that the plan does not know is leased, or link-local; and it is no address that the plan does know.
    let own = space.bdd.var(OWN);
    let (v4, v6) =
        (if fib.leased4.is_empty() { Set::EMPTY } else { space.ipv4() }, if fib.leased6.is_empty() { Set::EMPTY } else { space.ipv6() });
    let on_link = space.addresses(DESTINATION, &[link_local()]);
    let known: Vec<_> = fib
        .local
        .iter()
        .chain(&fib.broadcast)
        .chain(&fib.anycast)
        .map(|a| (*a, *a))
        .chain(multicast())
        .chain(loopback())
        .chain([zero_net(), limited_broadcast()])
        .collect();
    let known = space.addresses(DESTINATION, &known);
    let can_be_own = space.bdd.any(&[v4, v6, on_link]);
    let can_be_own = space.bdd.minus(can_be_own, known);
    let no_own = space.bdd.minus(own, can_be_own);
    let impossible = space.bdd.or(no_type, no_own);
    space.bdd.not(impossible)
}

fn routes(space: &mut Space, fib: &Fib) -> Set {
    let main = table(space, fib, DESTINATION, OIF);
    // A link-local destination stays on the link that it came from; the box itself may mean any link.
    let link_local = space.addresses(DESTINATION, &[link_local()]);
    let elsewhere = space.bdd.minus(main, link_local);
    let mut same_link = Vec::new();
    for port in &fib.interfaces {
        let out = space.port(OIF, port.as_str());
        let from = [space.port(IIF, port.as_str()), space.the_box(IIF)];
        let from = space.bdd.or(from[0], from[1]);
        same_link.push(space.and(&[from, out, link_local]));
    }
    let same_link = space.bdd.any(&same_link);
    space.bdd.or(elsewhere, same_link)
}

/// Longest prefix wins: shorter ones first, each longer one cuts out its part.
fn table(space: &mut Space, fib: &Fib, address: Var, port: Var) -> Set {
    let mut relation = Set::EMPTY;
    let mut prefixes: Vec<_> = fib.hops.iter().collect();
    prefixes.sort_by_key(|(net, _)| net.prefix_len());
    for (net, hops) in prefixes {
        let inside = space.prefixes(address, [net]);
        let ports: Vec<&IfName> = hops.iter().filter_map(|hop| if let Hop::Out(port) = hop { Some(port) } else { None }).collect();
        let ports = space.ports(port, ports);
        let here = space.bdd.and(inside, ports);
        let others = space.bdd.minus(relation, inside);
        relation = space.bdd.or(others, here);
    }
    relation
}

fn welcome(space: &mut Space, kinds: &[(AddressType, Set); 5]) -> Set {
    let [multicast4, multicast6] = multicast();
    let [loopback4, loopback6] = loopback();
    let broadcast = kinds.iter().find(|(kind, _)| *kind == AddressType::Broadcast).map_or(Set::EMPTY, |(_, set)| *set);
    let odd_source = space.addresses(SOURCE, &[multicast4, multicast6, loopback4, loopback6, limited_broadcast()]);
    let zero_source = space.addresses(SOURCE, &[zero_net()]);
    let to_all = space.addresses(DESTINATION, &[limited_broadcast()]);
    let zero_source = space.bdd.minus(zero_source, to_all);
    let odd_destination = space.addresses(DESTINATION, &[zero_net(), loopback6]);
    let loopback_destination = space.addresses(DESTINATION, &[loopback4]);
    let loopback_destination = space.bdd.minus(loopback_destination, broadcast);
    let unwelcome = space.bdd.any(&[odd_source, zero_source, odd_destination, loopback_destination]);
    space.bdd.not(unwelcome)
}

fn source_routed_back(space: &mut Space, fib: &Fib) -> Set {
    let back = table(space, fib, SOURCE, IIF);
    let kinds = kinds(space, fib, SOURCE);
    let unicast = kinds.iter().find(|(kind, _)| *kind == AddressType::Unicast).map_or(Set::EMPTY, |(_, set)| *set);
    let back = space.bdd.and(back, unicast);
    let strict = space.ports(IIF, &fib.strict_reverse_path);
    let lenient = space.bdd.not(strict);
    let zero = space.addresses(SOURCE, &[zero_net()]);
    let ipv6 = space.bdd.var(IPV6);
    space.bdd.any(&[back, lenient, zero, ipv6])
}

fn forwardable(space: &mut Space) -> Set {
    let never = space.addresses(SOURCE, &[unspecified(), link_local()]);
    space.bdd.not(never)
}

/// Openers of connections that a well-behaved sender sends: for TCP a SYN, possibly asking for ECN (RFC 3168).
pub fn openers(space: &mut Space, facts: &Facts) -> Set {
    let syn = space.numbers(TCP_FLAGS, 8, &[(2, 2), (2 | 64 | 128, 2 | 64 | 128)]);
    let tcp = space.protocols(&[TCP]);
    let not_syn = space.bdd.minus(tcp, syn);
    let new = facts.state(NEW);
    space.bdd.minus(new, not_syn)
}
