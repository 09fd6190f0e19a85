//! The whole pipeline over sets of packets: the symbolic twin of `simulate::World::run`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::facts::Facts;
use super::fields::Class;
use super::summary::Summaries;
use super::{DESTINATION, FREE, Free, IIF, IPV6, OIF, OWN, PORT, SOURCE, Set, Space, Var};
use crate::name::IfName;
use crate::plan::RouteAction;
use crate::ruleset::{BasePolicy, ChainKind, Hook};
use crate::simulate::packet::bits;
use crate::simulate::{AddressType, Exit, Nat, World, conntrack};

/// Packets that were treated alike so far: the same marks and the same translation.
#[derive(Debug, Clone)]
pub struct Stream {
    /// As sent; `OIF` is decided by routing.
    pub set: Set,
    pub class: Class,
    pub destination: Destination,
    /// The port that the destination port became.
    pub port: Option<u16>,
    pub source: Option<Nat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    AsSent,
    To(IpAddr),
    /// An address of the box that the plan does not know.
    Own,
}

/// Everything that a plan lets through, and what was decided before any rule could.
pub struct Flow {
    pub facts: Facts,
    /// What leaves by a port, or is delivered to the box.
    pub permitted: Vec<Stream>,
    /// After routing, before the rules of forward, input and output.
    pub headed: Vec<Stream>,
    /// Passed prerouting: the posture and anti-spoofing had no objection. From the box: everything.
    pub admitted: Set,
    /// As sent: destination and egress port before any translation.
    pub routes_as_sent: Set,
    /// What the kernel would drop for its source alone.
    pub odd: Set,
}

impl Stream {
    pub fn translated(&self) -> bool {
        self.destination != Destination::AsSent || self.port.is_some()
    }

    /// A condition on what the packet has become, as a condition on what was sent.
    pub fn as_sent(&self, space: &mut Space, condition: Set) -> Set {
        if !self.translated() {
            return condition;
        }
        let (address, own) = match self.destination {
            Destination::AsSent => (None, None),
            Destination::To(address) => (Some((bits(address), if address.is_ipv6() { 128 } else { 32 })), Some(false)),
            Destination::Own => (None, Some(true)),
        };
        let port = self.port;
        space.bdd.restrict(condition, &(PORT..SOURCE), &|var: Var| match var {
            OWN => own,
            _ if (DESTINATION..DESTINATION + 128).contains(&var) => {
                address.filter(|(_, width)| var - DESTINATION < *width).map(|(bits, _)| bits >> (127 - (var - DESTINATION)) & 1 == 1)
            }
            _ if (PORT..PORT + 16).contains(&var) => port.map(|port| port >> (15 - (var - PORT)) & 1 == 1),
            _ => None,
        })
    }

    fn within(&self, set: Set) -> Stream {
        Stream { set, ..self.clone() }
    }
}

impl Flow {
    pub fn of(space: &mut Space, world: &World) -> Flow {
        let facts = Facts::of(space, &world.fib);
        let mut pipe = Pipe { space, world, facts: &facts, summaries: Summaries::new(world) };
        let received = pipe.received();
        let (mut permitted, mut headed, mut admitted) = (Vec::new(), Vec::new(), Vec::new());
        for stream in &received {
            admitted.push(stream.set);
            for (hook, routed) in pipe.routed(stream) {
                permitted.extend(pipe.decided(hook, routed.clone()));
                headed.push(routed);
            }
        }
        for routed in pipe.sent() {
            admitted.push(routed.set);
            permitted.extend(pipe.decided(Hook::Output, routed.clone()));
            headed.push(routed);
        }
        let from_box = space.the_box(IIF);
        admitted.push(from_box);
        let admitted = space.bdd.any(&admitted);
        let to_box = space.the_box(OIF);
        let here = facts.kind(space, &LOCAL);
        let here = space.bdd.and(here, to_box);
        let away = facts.kind(space, &[AddressType::Unicast]);
        let away = space.bdd.and(away, facts.routes);
        let routes_as_sent = space.bdd.or(here, away);
        let odd = space.and(&[facts.welcome, facts.source_routed_back]);
        let odd = space.bdd.minus(Set::ALL, odd);
        let odd = space.bdd.minus(odd, from_box);
        Flow { facts, permitted, headed, admitted, routes_as_sent, odd }
    }

    /// The union of what is permitted, as sent, each with its egress port.
    pub fn all(&self, space: &mut Space) -> Set {
        let sets: Vec<Set> = self.permitted.iter().map(|stream| stream.set).collect();
        space.bdd.any(&sets)
    }
}

/// The comment of the rules that let administrators in.
const ADMINISTRATION: &str = "admin access";

impl Flow {
    /// What the input rules for administrators match.
    pub fn administration(&self, space: &mut Space, world: &World) -> Set {
        let mut summaries = Summaries::new(world);
        let mut found = Vec::new();
        for (table, name, _) in world.base_chains(Hook::Input) {
            for (number, rule) in table.chains.get(name).map_or(&[][..], |chain| &chain.rules).iter().enumerate() {
                if rule.comment.as_deref() == Some(ADMINISTRATION) {
                    found.push(summaries.matched(space, &self.facts, table, (name, number), rule));
                }
            }
        }
        let to_box = space.the_box(OIF);
        let any = space.bdd.any(&found);
        space.bdd.and(any, to_box)
    }
}

/// With every limit not exhausted.
pub fn within_limits(space: &mut Space, set: Set) -> Set {
    let limits = space.free_where(|free| matches!(free, Free::Limit { .. }));
    space.bdd.restrict(set, &(FREE..Var::MAX), &|var| limits.contains(&var).then_some(true))
}

/// What the box receives itself.
const LOCAL: [AddressType; 4] = [AddressType::Local, AddressType::Anycast, AddressType::Broadcast, AddressType::Multicast];

struct Pipe<'s, 'w> {
    space: &'s mut Space,
    world: &'w World<'w>,
    facts: &'s Facts,
    summaries: Summaries<'w>,
}

impl Pipe<'_, '_> {
    /// Everything that any port can receive, after prerouting.
    fn received(&mut self) -> Vec<Stream> {
        let ports = self.space.ports(IIF, &self.world.fib.interfaces);
        // ip6_rcv_core refuses these before any hook; for IPv4 routing does it, with the same result for all that can follow.
        let set = self.space.and(&[ports, self.facts.possible, self.facts.welcome]);
        let fresh = Stream { set, class: Class::default(), destination: Destination::AsSent, port: None, source: None };
        self.hook(Hook::Prerouting, vec![fresh])
    }

    /// Delivered to the box, or headed for a port, by the destination that it has now.
    fn routed(&mut self, stream: &Stream) -> Vec<(Hook, Stream)> {
        let fib = &self.world.fib;
        let here = self.facts.kind(self.space, &LOCAL);
        let here = stream.as_sent(self.space, here);
        let to_box = self.space.the_box(OIF);
        let welcome = stream.as_sent(self.space, self.facts.welcome);
        let welcome = self.space.and(&[stream.set, welcome, self.facts.source_routed_back]);
        let local_reverse = self.reverse(stream.class.mark, false);
        let local = self.space.and(&[welcome, here, to_box, local_reverse]);

        let away = self.space.bdd.minus(welcome, here);
        let routes = stream.as_sent(self.space, self.facts.routes);
        let forward_reverse = self.reverse(stream.class.mark, true);
        let families = (if fib.forwarding4 { Set::ALL } else { Set::EMPTY }, if fib.forwarding6 { Set::ALL } else { Set::EMPTY });
        let forwarding = self.space.bdd.node(IPV6, families.0, families.1);
        let action = fib.action(stream.class.mark, false);
        let captured = match action {
            RouteAction::Deliver => self.space.and(&[away, to_box, local_reverse]),
            _ => Set::EMPTY,
        };
        let local = self.space.bdd.or(local, captured);
        let away = match action {
            RouteAction::Main => self.space.and(&[away, routes, self.facts.forwardable, forwarding, forward_reverse]),
            _ => Set::EMPTY,
        };
        [(Hook::Input, local), (Hook::Forward, away)]
            .into_iter()
            .filter(|(_, set)| !set.is_empty())
            .map(|(hook, set)| (hook, stream.within(set)))
            .collect()
    }

    /// From ports whose reverse-path test can follow the routing rules at all.
    fn reverse(&mut self, mark: u32, forwarded: bool) -> Set {
        let fib = &self.world.fib;
        let blocked: Vec<&IfName> =
            fib.strict_reverse_path.iter().filter(|port| !fib.reverse_rules_permit(port, mark, forwarded)).collect();
        let blocked = self.space.ports(IIF, blocked);
        let v4 = self.space.ipv4();
        let blocked = self.space.bdd.and(blocked, v4);
        self.space.bdd.not(blocked)
    }

    /// What the box itself may send, by route. Between its own addresses it goes through `lo`.
    fn sent(&mut self) -> Vec<Stream> {
        let from_box = self.space.the_box(IIF);
        let to_box = self.space.the_box(OIF);
        let local = self.facts.kind(self.space, &[AddressType::Local]);
        let here = self.space.bdd.and(local, to_box);
        let away = match self.world.fib.action(0, true) {
            RouteAction::Main => self.space.bdd.minus(self.facts.routes, local),
            _ => Set::EMPTY,
        };
        let either = self.space.bdd.or(here, away);
        let set = self.space.and(&[from_box, self.facts.possible, either]);
        vec![Stream { set, class: Class::default(), destination: Destination::AsSent, port: None, source: None }]
    }

    /// The rules of the hook, then source translation.
    fn decided(&mut self, hook: Hook, stream: Stream) -> Vec<Stream> {
        let passed = self.hook(hook, vec![stream]);
        if hook == Hook::Input { passed } else { self.hook(Hook::Postrouting, passed) }
    }

    fn hook(&mut self, hook: Hook, mut streams: Vec<Stream>) -> Vec<Stream> {
        for (table, name, base) in self.world.base_chains(hook) {
            let mut next: Vec<Stream> = Vec::new();
            for stream in streams {
                let summary = self.summaries.chain(self.space, self.facts, table, name, stream.class, 0);
                let tracked = if base.kind == ChainKind::Nat { self.facts.state(conntrack::NEW) } else { Set::ALL };
                let untouched = self.space.bdd.minus(stream.set, tracked);
                next.push(stream.within(untouched));
                for ((exit, class), set) in summary.iter() {
                    if *exit == Exit::Return && base.policy == BasePolicy::Drop {
                        continue;
                    }
                    let condition = stream.as_sent(self.space, *set);
                    let set = self.space.and(&[stream.set, tracked, condition]);
                    if set.is_empty() {
                        continue;
                    }
                    let stream = Stream { class: *class, ..stream.within(set) };
                    match exit {
                        Exit::Accept | Exit::Return => next.push(stream),
                        Exit::Nat(nat) => next.extend(self.translated(stream, *nat)),
                        Exit::Drop | Exit::Reject(_) => {}
                    }
                }
            }
            streams = self.joined(next);
        }
        streams
    }

    fn joined(&mut self, streams: Vec<Stream>) -> Vec<Stream> {
        let mut joined: BTreeMap<_, Stream> = BTreeMap::new();
        for stream in streams.into_iter().filter(|stream| !stream.set.is_empty()) {
            let key = (stream.class, stream.destination, stream.port, stream.source);
            match joined.get_mut(&key) {
                Some(same) => same.set = self.space.bdd.or(same.set, stream.set),
                None => {
                    joined.insert(key, stream);
                }
            }
        }
        joined.into_values().collect()
    }

    fn translated(&mut self, stream: Stream, nat: Nat) -> Vec<Stream> {
        match nat {
            Nat::Masquerade | Nat::Snat(_) => vec![Stream { source: Some(nat), ..stream }],
            Nat::Dnat(to) => self.retargeted(stream, Destination::To(to.address), to.ports.map(|ports| ports.0)),
            Nat::Redirect(port) => {
                let mut found = Vec::new();
                for name in &self.world.fib.interfaces {
                    let here = self.space.port(IIF, name.as_str());
                    for ipv6 in [false, true] {
                        let family = if ipv6 { self.space.ipv6() } else { self.space.ipv4() };
                        let set = self.space.and(&[stream.set, here, family]);
                        let first = self.world.first_address(name, ipv6);
                        found.extend(self.retargeted(stream.within(set), first.map_or(Destination::Own, Destination::To), port));
                    }
                }
                found
            }
        }
    }

    /// Only protocols with ports get another port, and a translation that changes nothing leaves no trace in the connection.
    fn retargeted(&mut self, stream: Stream, destination: Destination, port: Option<u16>) -> Vec<Stream> {
        let ports = if port.is_some() { self.space.with_ports() } else { Set::EMPTY };
        let with = self.space.bdd.and(stream.set, ports);
        let without = self.space.bdd.minus(stream.set, ports);
        let mut found = Vec::new();
        for (set, port) in [(with, port), (without, None)] {
            let same_address = match destination {
                Destination::AsSent => Set::ALL,
                Destination::To(address) => self.space.hosts(DESTINATION, [&address]),
                Destination::Own => Set::EMPTY,
            };
            let same_port = port.map_or(Set::ALL, |port| self.space.numbers(PORT, 16, &[(u128::from(port), u128::from(port))]));
            let unchanged = self.space.and(&[set, same_address, same_port]);
            let changed = self.space.bdd.minus(set, unchanged);
            found.push(Stream { set: unchanged, ..stream.clone() });
            let class = Class { ct_status: stream.class.ct_status | conntrack::STATUS_DNAT, ..stream.class };
            found.push(Stream { set: changed, class, destination, port: port.or(stream.port), ..stream.clone() });
        }
        found
    }
}
