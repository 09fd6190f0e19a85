//! What the services of a rule become: protocols, ports and ICMP types.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Config, IcmpType, Icmpv6Type, PortRange, Protocol, Service, ServiceTerm};
use crate::ruleset::{Datum, Field, Op, Operand, Part, Span};

use super::ranges::{Family, Interval, merge, operand};

/// One way in which a packet can belong to the services of a rule: matches that hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alternative {
    /// ICMP types exist in one family only.
    pub family: Option<Family>,
    /// Empty means any.
    pub protocols: Vec<Protocol>,
    pub parts: Vec<Part>,
}

/// How finely the alternatives of a rule are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// Protocols with the same ports share an alternative.
    Shared,
    /// TCP stands alone, since it is rejected in its own way.
    TcpAlone,
}

/// No terms mean every packet.
pub fn alternatives(config: &Config, terms: &[ServiceTerm], grain: Grain) -> Vec<Alternative> {
    if terms.is_empty() {
        return vec![Alternative::default()];
    }
    let union = union(config, terms);
    let mut found = Vec::new();

    let mut by_ports: BTreeMap<(bool, Vec<Interval>), Vec<Protocol>> = BTreeMap::new();
    for (protocol, ports) in union.ports {
        let alone = grain == Grain::TcpAlone && protocol == Protocol::TCP;
        by_ports.entry((alone, merge(ports))).or_default().push(protocol);
    }
    // Sorted by protocol, so that adding a port does not turn the order of the rules around.
    let mut by_ports: Vec<_> = by_ports.into_iter().collect();
    by_ports.sort_by(|left, right| left.1.cmp(&right.1));
    for ((_, ports), protocols) in by_ports {
        let dport = Part::Match { field: Field::Dport, op: Op::Eq, to: operand(port_spans(&ports)) };
        found.push(Alternative { family: None, parts: vec![protocol_part(&protocols), dport], protocols });
    }

    let (tcp, others): (Vec<_>, Vec<_>) =
        union.whole.into_iter().partition(|protocol| grain == Grain::TcpAlone && *protocol == Protocol::TCP);
    for protocols in [tcp, others] {
        if !protocols.is_empty() {
            found.push(Alternative { family: None, parts: vec![protocol_part(&protocols)], protocols });
        }
    }

    for (family, protocol, field, types) in [
        (Family::V4, Protocol::ICMP, Field::Icmp4Type, union.icmp.into_iter().map(|IcmpType(number)| number).collect::<Vec<_>>()),
        (Family::V6, Protocol::ICMPV6, Field::Icmp6Type, union.icmpv6.into_iter().map(|Icmpv6Type(number)| number).collect::<Vec<_>>()),
    ] {
        if !types.is_empty() {
            let spans = types.into_iter().map(|number| Span::One(Datum::Byte(number))).collect();
            let types = Part::Match { field, op: Op::Eq, to: operand(spans) };
            found.push(Alternative { family: Some(family), parts: vec![protocol_part(&[protocol]), types], protocols: vec![protocol] });
        }
    }
    found
}

/// Everything that the terms name, taken together.
#[derive(Default)]
struct Union {
    ports: BTreeMap<Protocol, Vec<Interval>>,
    whole: BTreeSet<Protocol>,
    icmp: BTreeSet<IcmpType>,
    icmpv6: BTreeSet<Icmpv6Type>,
}

fn union(config: &Config, terms: &[ServiceTerm]) -> Union {
    let mut union = Union::default();
    for term in terms {
        match term {
            ServiceTerm::Literal { protocol, ports: Some(ports) } => union.add(*protocol, &[*ports]),
            ServiceTerm::Literal { protocol, ports: None } => _ = union.whole.insert(*protocol),
            ServiceTerm::Named(name) => {
                if let Some(service) = config.services.get(name) {
                    union.add_service(&service.spec);
                }
            }
        }
    }
    // A whole protocol leaves nothing for its ports and types to add.
    let whole = &union.whole;
    union.ports.retain(|protocol, ports| !whole.contains(protocol) && !ports.is_empty());
    if whole.contains(&Protocol::ICMP) {
        union.icmp.clear();
    }
    if whole.contains(&Protocol::ICMPV6) {
        union.icmpv6.clear();
    }
    union
}

impl Union {
    fn add(&mut self, protocol: Protocol, ports: &[PortRange]) {
        let intervals = ports.iter().map(|range| (u128::from(range.first), u128::from(range.last)));
        self.ports.entry(protocol).or_default().extend(intervals);
    }

    fn add_service(&mut self, service: &Service) {
        self.add(Protocol::TCP, &service.tcp);
        self.add(Protocol::UDP, &service.udp);
        self.add(Protocol::SCTP, &service.sctp);
        self.whole.extend(&service.protocols);
        self.icmp.extend(&service.icmp);
        self.icmpv6.extend(&service.icmpv6);
    }
}

pub fn protocol_part(protocols: &[Protocol]) -> Part {
    let spans = protocols.iter().map(|Protocol(number)| Span::One(Datum::Byte(*number))).collect();
    Part::Match { field: Field::L4Proto, op: Op::Eq, to: operand(spans) }
}

pub fn port_spans(ports: &[Interval]) -> Vec<Span> {
    let port = |number: u128| Datum::Port(number as u16);
    ports.iter().map(|(first, last)| if first == last { Span::One(port(*first)) } else { Span::Range(port(*first), port(*last)) }).collect()
}

/// `tcp dport N`, `{ tcp, udp } th dport …` and the like, for the posture's own rules.
pub fn to_port(protocols: &[Protocol], port: u16) -> Vec<Part> {
    let to = Operand::One(Span::One(Datum::Port(port)));
    vec![protocol_part(protocols), Part::Match { field: Field::Dport, op: Op::Eq, to }]
}
