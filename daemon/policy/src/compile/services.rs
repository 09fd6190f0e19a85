//! What the services of a rule become: protocols, ports and ICMP types.

use std::collections::BTreeMap;

use crate::check::ranges::{Family, Interval};
use crate::check::services::Traffic;
use crate::model::{Config, IcmpType, Icmpv6Type, Protocol, ServiceTerm};
use crate::ruleset::{Datum, Field, Op, Operand, Part, Span};

use super::spans::operand;

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
    let Some(traffic) = Traffic::of(config, terms) else { return vec![Alternative::default()] };
    let mut found = Vec::new();

    let mut by_ports: BTreeMap<(bool, Vec<Interval>), Vec<Protocol>> = BTreeMap::new();
    for (protocol, ports) in traffic.ports {
        let alone = grain == Grain::TcpAlone && protocol == Protocol::TCP;
        by_ports.entry((alone, ports)).or_default().push(protocol);
    }
    // Sorted by protocol, so that adding a port does not turn the order of the rules around.
    let mut by_ports: Vec<_> = by_ports.into_iter().collect();
    by_ports.sort_by(|left, right| left.1.cmp(&right.1));
    for ((_, ports), protocols) in by_ports {
        let dport = Part::Match { field: Field::Dport, op: Op::Eq, to: operand(port_spans(&ports)) };
        found.push(Alternative { family: None, parts: vec![protocol_part(&protocols), dport], protocols });
    }

    let (tcp, others): (Vec<_>, Vec<_>) =
        traffic.whole.into_iter().partition(|protocol| grain == Grain::TcpAlone && *protocol == Protocol::TCP);
    for protocols in [tcp, others] {
        if !protocols.is_empty() {
            found.push(Alternative { family: None, parts: vec![protocol_part(&protocols)], protocols });
        }
    }

    for (family, protocol, field, types) in [
        (Family::V4, Protocol::ICMP, Field::Icmp4Type, traffic.icmp.into_iter().map(|IcmpType(number)| number).collect::<Vec<_>>()),
        (Family::V6, Protocol::ICMPV6, Field::Icmp6Type, traffic.icmpv6.into_iter().map(|Icmpv6Type(number)| number).collect::<Vec<_>>()),
    ] {
        if !types.is_empty() {
            let spans = types.into_iter().map(|number| Span::One(Datum::Byte(number))).collect();
            let types = Part::Match { field, op: Op::Eq, to: operand(spans) };
            found.push(Alternative { family: Some(family), parts: vec![protocol_part(&[protocol]), types], protocols: vec![protocol] });
        }
    }
    found
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
