//! Translations. The first packet of a connection decides, conntrack repeats it for the others and undoes it for the answers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::check::ranges::{Family, merge, number};
use crate::model::{Address, AddressTerm, DhcpFamily, NatKind, NatRule, PortRange, Protocol, ZoneTerm};
use crate::name::IfName;
use crate::plan::proxy::Proxy;
use crate::ruleset::{BasePolicy, Datum, Field, Hook, NatTarget, Op, Operand, Part, Rule, Source, Span};

use super::antispoof::{own_addresses, own_set};
use super::hygiene::base;
use super::matches::{Conjunction, Terms, conjunctions};
use super::services::{Grain, protocol_part};
use super::spans::operand;
use super::zones::{End, through};
use super::{Context, Fragment, LET_IN, accept, input, proxy, rules};

/// `fib daddr type local`: an address of the box, leased ones included.
const LOCAL: u8 = 2;
/// `ct status`: the destination was translated.
const DNAT: u32 = 32;

pub fn chains(context: &Context<'_>, forwarder: &Proxy) -> Fragment {
    let (mut destination, mut source) = (Vec::new(), Vec::new());
    for (id, rule) in context.nat_rules() {
        let nat = Nat { context, id, rule: &rule.value };
        match &rule.value.kind {
            NatKind::Masquerade { to } => source.extend(nat.outgoing(to, None, None)),
            NatKind::Snat { to, to_address, to_ports } => source.extend(nat.outgoing(to, Some(*to_address), *to_ports)),
            NatKind::Redirect { to_port } => destination.extend(nat.redirect(*to_port)),
            NatKind::PortForward { .. } => {
                let Some(forward) = nat.forward() else { continue };
                destination.extend(forward.translations());
                source.extend(forward.hairpin());
            }
        }
    }
    let mut chains = BTreeMap::new();
    let captured = proxy::dstnat(forwarder);
    if !destination.is_empty() || !captured.is_empty() {
        // A translation must not lead those who administer away from the box.
        let admin = input::admin(context).into_iter().map(|parts| accept([parts, vec![is_local()]].concat()).because("admin access"));
        let admin = admin.filter(|_| !destination.is_empty());
        let rules = captured.into_iter().chain(admin).chain(destination.clone()).collect();
        chains.insert("dstnat".to_owned(), base(Hook::Prerouting, -100, BasePolicy::Accept, rules));
    }
    if !source.is_empty() {
        chains.insert("srcnat".to_owned(), base(Hook::Postrouting, 100, BasePolicy::Accept, source));
    }
    Fragment { sets: BTreeMap::new(), chains }
}

/// What port forwards let through the firewall: exactly the translated connections.
pub fn permits(context: &Context<'_>) -> Vec<Rule> {
    let rules = context.nat_rules().filter(|(_, rule)| matches!(rule.value.kind, NatKind::PortForward { permit: true, .. }));
    rules
        .flat_map(|(id, rule)| Nat { context, id, rule: &rule.value }.forward().map(|forward| forward.permits()).unwrap_or_default())
        .collect()
}

struct Nat<'a, 'b> {
    context: &'b Context<'a>,
    id: Source,
    rule: &'b NatRule,
}

impl<'a, 'b> Nat<'a, 'b> {
    fn conjunctions(&self, family: Option<Family>, destinations: &[AddressTerm]) -> Vec<Conjunction> {
        let terms = Terms { family, sources: &self.rule.sources, destinations, services: &self.rule.services };
        conjunctions(self.context.config, self.context.addresses, terms, Grain::Shared)
    }

    fn compiled(&self, parts: Vec<Part>) -> Rule {
        Rule { parts, source: Some(self.id.clone()), comment: Some(rules::comment(&self.id.id, self.rule.comment.as_deref())) }
    }

    /// The zones that the rule names; none named are all.
    fn from(&self) -> Vec<End<'a>> {
        let terms = if self.rule.from.is_empty() { &[ZoneTerm::Any][..] } else { &self.rule.from };
        self.context.zones.ends(terms)
    }

    fn incoming_ports(&self) -> Vec<&'a IfName> {
        self.context.zones.ports_of(&self.from()).into_iter().map(|(name, _)| name).collect()
    }

    /// Where the packets come from, seen after routing. Nothing to compare when every zone and the box are meant.
    fn origins(&self) -> Vec<Option<Part>> {
        if self.rule.from.is_empty() {
            return vec![None];
        }
        let zones = through(Field::IifName, self.incoming_ports()).map(Some);
        // What the box itself sends came through no port, so nothing has marked it.
        let own = Part::Masked { field: Field::Mark, mask: LET_IN, op: Op::Eq, value: 0 };
        zones.into_iter().chain(self.from().contains(&End::Box).then_some(Some(own))).collect()
    }

    /// Masquerade, or with an address SNAT.
    fn outgoing(&self, to: &[ZoneTerm], address: Option<IpAddr>, ports: Option<PortRange>) -> Vec<Rule> {
        let to = if to.is_empty() { &[ZoneTerm::Any][..] } else { to };
        let to = self.context.zones.ports_of(&self.context.zones.ends(to));
        let Some(to) = through(Field::OifName, to.into_iter().map(|(name, _)| name)) else { return Vec::new() };
        let mut rules = Vec::new();
        for origin in self.origins() {
            for mut conjunction in self.conjunctions(address.map(Family::of), &self.rule.destinations) {
                let ports = ports.filter(|_| with_ports(&mut conjunction)).map(|range| (range.first, range.last));
                let last = address.map_or(Part::Masquerade, |address| Part::Snat { to: NatTarget { address, ports } });
                let parts = origin.iter().cloned().chain([to.clone()]).chain(conjunction.parts).chain([Part::Counter, last]);
                rules.push(self.compiled(parts.collect()));
            }
        }
        rules
    }

    fn redirect(&self, to_port: u16) -> Vec<Rule> {
        let Some(from) = through(Field::IifName, self.incoming_ports()) else { return Vec::new() };
        let rule = |mut conjunction: Conjunction| {
            let port = with_ports(&mut conjunction).then_some(to_port);
            let parts = [from.clone()].into_iter().chain(conjunction.parts).chain([Part::Counter, Part::Redirect { port }]);
            self.compiled(parts.collect())
        };
        self.conjunctions(None, &self.rule.destinations).into_iter().map(rule).collect()
    }

    fn forward(&self) -> Option<Forward<'a, '_>> {
        let NatKind::PortForward { to_address, to_port, hairpin, .. } = self.rule.kind else { return None };
        let zone = self.context.territory.ports(to_address).next().map(|port| &self.context.config.interfaces[port].spec.zone);
        let target: Vec<_> =
            zone.and_then(|zone| self.context.zones.ports.get(zone)).into_iter().flatten().map(|(name, _)| *name).collect();
        Some(Forward {
            nat: self,
            to: to_address,
            to_port,
            family: Family::of(to_address),
            hairpin: if hairpin { target } else { Vec::new() },
        })
    }
}

/// A port forward.
struct Forward<'a, 'b> {
    nat: &'b Nat<'a, 'b>,
    to: IpAddr,
    to_port: Option<u16>,
    family: Family,
    /// The ports of the target's own zone, if it may use the outside address too.
    hairpin: Vec<&'a IfName>,
}

impl<'a> Forward<'a, '_> {
    fn translations(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (ports, destination) in self.outside() {
            let Some(from) = through(Field::IifName, ports) else { continue };
            for mut conjunction in self.nat.conjunctions(Some(self.family), &self.nat.rule.destinations) {
                let port = self.to_port.filter(|_| with_ports(&mut conjunction));
                let to = NatTarget { address: self.to, ports: port.map(|port| (port, port)) };
                // The family comes first in a conjunction, and has to precede the address.
                conjunction.parts.splice(1..1, destination.iter().cloned());
                let parts = [from.clone()].into_iter().chain(conjunction.parts).chain([Part::Counter, Part::Dnat { to }]);
                rules.push(self.nat.compiled(parts.collect()));
            }
        }
        rules
    }

    /// Where the outside address is used, and what it is called there.
    fn outside(&self) -> Vec<(Vec<&'a IfName>, Vec<Part>)> {
        let everywhere = self.everywhere();
        if !self.nat.rule.destinations.is_empty() {
            return vec![(everywhere, Vec::new())];
        }
        let ports = self.nat.context.zones.ports_of(&self.nat.from());
        let own = ports.iter().flat_map(|(_, interface)| &interface.addresses).map(|net| net.addr());
        let own =
            merge(own.filter(|address| Family::of(*address) == self.family).map(|address| (number(address), number(address))).collect());
        let family = if self.family == Family::V4 { DhcpFamily::Ipv4 } else { DhcpFamily::Ipv6 };
        let leased: Vec<_> = ports.iter().filter(|(_, interface)| interface.dhcp.contains(&family)).map(|(name, _)| *name).collect();

        let mut outside = Vec::new();
        if !own.is_empty() {
            let to_own = Part::Match { field: self.family.destination(), op: Op::Eq, to: operand(self.family.spans(&own)) };
            outside.push((everywhere, vec![to_own]));
        }
        if !leased.is_empty() {
            // A leased address is known to the kernel alone. From inside it is the local address that is not in the policy.
            let inside = self.hairpin.iter().copied().filter(|port| !leased.contains(port)).collect();
            outside.push((leased, vec![is_local()]));
            let known = !own_addresses(self.nat.context.config, self.family).is_empty();
            let not_ours = Part::InSet { fields: vec![self.family.destination()], negate: true, set: own_set(self.family) };
            outside.push((inside, [is_local()].into_iter().chain(known.then_some(not_ours)).collect()));
        }
        outside
    }

    /// The `from` ports, and with hairpin those of the target's zone.
    fn everywhere(&self) -> Vec<&'a IfName> {
        let mut ports = self.nat.incoming_ports();
        ports.extend(&self.hairpin);
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// The target would answer its neighbour directly, past the box that has to undo the translation.
    fn hairpin(&self) -> Vec<Rule> {
        let (Some(from), Some(to)) =
            (through(Field::IifName, self.hairpin.iter().copied()), through(Field::OifName, self.hairpin.iter().copied()))
        else {
            return Vec::new();
        };
        let rule = |conjunction: Conjunction| {
            let parts = [from.clone(), to.clone(), translated()].into_iter().chain(conjunction.parts).chain([Part::Masquerade]);
            self.nat.compiled(parts.collect())
        };
        self.translated_conjunctions().into_iter().map(rule).collect()
    }

    fn permits(&self) -> Vec<Rule> {
        let Some(from) = through(Field::IifName, self.everywhere()) else { return Vec::new() };
        let rule = |conjunction: Conjunction| {
            let verdict = accept([Part::Counter]).parts;
            let parts = [from.clone(), translated()].into_iter().chain(conjunction.parts).chain(verdict);
            self.nat.compiled(parts.collect())
        };
        self.translated_conjunctions().into_iter().map(rule).collect()
    }

    /// The traffic as it looks with its new destination.
    fn translated_conjunctions(&self) -> Vec<Conjunction> {
        let target = AddressTerm::Literal(Address::Prefix(self.to.into()));
        let mut conjunctions = self.nat.conjunctions(Some(self.family), &[target]);
        for conjunction in &mut conjunctions {
            let Some(port) = self.to_port.filter(|_| with_ports(conjunction)) else { continue };
            conjunction.parts.retain(|part| !matches!(part, Part::Match { field: Field::Dport, .. }));
            conjunction.parts.push(Part::Match { field: Field::Dport, op: Op::Eq, to: Operand::One(Span::One(Datum::Port(port))) });
        }
        conjunctions
    }
}

/// Whether ports can be translated: only where the protocol is known to have them. Without any service that means TCP and UDP.
fn with_ports(conjunction: &mut Conjunction) -> bool {
    if conjunction.protocols.is_empty() {
        conjunction.protocols = vec![Protocol::TCP, Protocol::UDP];
        conjunction.parts.push(protocol_part(&conjunction.protocols));
    }
    conjunction.protocols.iter().all(|protocol| matches!(*protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP))
}

fn is_local() -> Part {
    Part::Match { field: Field::FibDaddrType, op: Op::Eq, to: Operand::One(Span::One(Datum::Byte(LOCAL))) }
}

fn translated() -> Part {
    Part::Masked { field: Field::CtStatus, mask: DNAT, op: Op::Ne, value: 0 }
}
