//! Which packets match one part of a rule: the symbolic twin of `simulate::matching`.

use super::facts::Facts;
use super::{DESTINATION, Free, IIF, IPV6, OIF, PORT, PROTOCOL, SOURCE, SOURCE_PORT, Set, Space, TCP_FLAGS, Var};
use crate::ruleset::{Datum, Field, Op, Operand, Span};
use crate::simulate::conntrack::NEW;
use crate::simulate::matching::{holds, number};
use crate::simulate::packet::{ICMP, ICMPV6, TCP};

/// What is constant while a set of packets walks through a chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    pub mark: u32,
    pub ct_mark: u32,
    pub ct_status: u32,
}

pub fn matches(space: &mut Space, facts: &Facts, class: Class, field: Field, op: Op, to: &Operand) -> Set {
    let spans = match to {
        Operand::One(span) => std::slice::from_ref(span),
        Operand::Any(spans) => spans,
    };
    let found = spans_of(space, facts, class, field, spans);
    negated_if(space, facts, op == Op::Ne, &[field], found)
}

pub fn masked(space: &mut Space, facts: &Facts, class: Class, field: Field, mask: u32, op: Op, value: u32) -> Set {
    let holds = |number: u32| number & mask == value;
    let of_byte =
        |width: u32| -> Vec<(u128, u128)> { (0..1u32 << width).filter(|n| holds(*n)).map(|n| (u128::from(n), u128::from(n))).collect() };
    let found = match field {
        Field::TcpFlags => space.numbers(TCP_FLAGS, 8, &of_byte(8)),
        Field::CtState => states_where(space, facts, &holds),
        Field::Mark => constant(holds(class.mark)),
        Field::CtMark => constant(holds(class.ct_mark)),
        Field::CtStatus => constant(holds(class.ct_status)),
        Field::L4Proto => space.numbers(PROTOCOL, 8, &of_byte(8)),
        Field::Dport => space.numbers(PORT, 16, &of_byte(16)),
        Field::Sport => space.numbers(SOURCE_PORT, 16, &of_byte(16)),
        Field::Icmp4Type | Field::Icmp6Type => space.numbers(PORT, 16, &of_byte(8)),
        Field::NfProto => {
            let (v4, v6) = (constant(holds(2)), constant(holds(10)));
            space.bdd.node(IPV6, v4, v6)
        }
        Field::FibDaddrType => kinds_where(space, facts, &|kind| holds(u32::from(kind))),
        Field::PktType => packet_types_where(space, facts, &|kind| holds(u32::from(kind))),
        Field::SkUid => space.free(Free::User(format!("& {mask} == {value}"))),
        Field::IifName | Field::OifName | Field::Ip4Saddr | Field::Ip4Daddr | Field::Ip6Saddr | Field::Ip6Daddr | Field::EtherSaddr => {
            return Set::EMPTY;
        }
    };
    negated_if(space, facts, op == Op::Ne, &[field], found)
}

/// Packets whose fields have one of these keys.
pub fn keys(space: &mut Space, facts: &Facts, class: Class, fields: &[Field], keys: &[&[Span]]) -> Set {
    let found = if let [field] = fields {
        let spans: Vec<Span> = keys.iter().filter_map(|key| key.first().copied()).collect();
        spans_of(space, facts, class, *field, &spans)
    } else {
        let mut boxes = Vec::with_capacity(keys.len());
        for key in keys {
            let sides: Vec<Set> =
                fields.iter().zip(*key).map(|(field, span)| spans_of(space, facts, class, *field, std::slice::from_ref(span))).collect();
            // From the leaves up, so that each step only puts a few nodes on top.
            boxes.push(sides.into_iter().rev().reduce(|below, side| space.bdd.and(side, below)).unwrap_or(Set::ALL));
        }
        space.bdd.any(&boxes)
    };
    let guard = guard(space, facts, fields);
    space.bdd.and(guard, found)
}

pub fn negated_if(space: &mut Space, facts: &Facts, negate: bool, fields: &[Field], found: Set) -> Set {
    let guard = guard(space, facts, fields);
    if negate { space.bdd.minus(guard, found) } else { space.bdd.and(guard, found) }
}

/// Packets that have these fields at all; for others the rule ends.
fn guard(space: &mut Space, facts: &Facts, fields: &[Field]) -> Set {
    let mut all = Set::ALL;
    for field in fields {
        let has = match field {
            Field::Ip4Saddr | Field::Ip4Daddr => space.ipv4(),
            Field::Ip6Saddr | Field::Ip6Daddr => space.ipv6(),
            Field::Sport | Field::Dport => space.with_ports(),
            Field::TcpFlags => space.protocols(&[TCP]),
            Field::Icmp4Type => space.protocols(&[ICMP]),
            Field::Icmp6Type => space.protocols(&[ICMPV6]),
            Field::CtStatus | Field::CtMark => facts.state(NEW),
            Field::SkUid => space.the_box(IIF),
            Field::EtherSaddr => {
                let from_box = space.the_box(IIF);
                space.bdd.not(from_box)
            }
            _ => continue,
        };
        all = space.bdd.and(all, has);
    }
    all
}

fn spans_of(space: &mut Space, facts: &Facts, class: Class, field: Field, spans: &[Span]) -> Set {
    let any = |datum: Datum| spans.iter().any(|span| holds(span, datum));
    match field {
        Field::IifName => names(space, IIF, spans),
        Field::OifName => names(space, OIF, spans),
        Field::NfProto => {
            let (v4, v6) = (constant(any(Datum::Byte(2))), constant(any(Datum::Byte(10))));
            space.bdd.node(IPV6, v4, v6)
        }
        Field::L4Proto => plain(space, PROTOCOL, 8, spans),
        Field::Ip4Saddr => addresses(space, SOURCE, 32, spans),
        Field::Ip4Daddr => addresses(space, DESTINATION, 32, spans),
        Field::Ip6Saddr => addresses(space, SOURCE, 128, spans),
        Field::Ip6Daddr => addresses(space, DESTINATION, 128, spans),
        Field::Sport => plain(space, SOURCE_PORT, 16, spans),
        Field::Dport | Field::Icmp4Type | Field::Icmp6Type => plain(space, PORT, 16, spans),
        Field::TcpFlags => plain(space, TCP_FLAGS, 8, spans),
        Field::CtState => states_where(space, facts, &|state| any(Datum::Word(state))),
        Field::CtStatus => constant(any(Datum::Word(class.ct_status))),
        Field::CtMark => constant(any(Datum::Word(class.ct_mark))),
        Field::Mark => constant(any(Datum::Word(class.mark))),
        Field::SkUid => space.free(Free::User(format!("{spans:?}"))),
        Field::PktType => packet_types_where(space, facts, &|kind| any(Datum::Byte(kind))),
        Field::EtherSaddr => hardware(space, spans),
        Field::FibDaddrType => kinds_where(space, facts, &|kind| any(Datum::Byte(kind))),
    }
}

fn constant(holds: bool) -> Set {
    if holds { Set::ALL } else { Set::EMPTY }
}

fn names(space: &mut Space, at: Var, spans: &[Span]) -> Set {
    let mut found = Vec::new();
    for span in spans {
        if let Span::One(Datum::Interface(name)) = span {
            found.push(space.port(at, name.as_str()));
        }
    }
    space.bdd.any(&found)
}

/// From one of these hardware addresses.
fn hardware(space: &mut Space, spans: &[Span]) -> Set {
    let mut found = Vec::new();
    for span in spans {
        if let Span::One(Datum::Mac(mac)) = span {
            found.push(space.free(Free::Hardware(*mac)));
        }
    }
    space.bdd.any(&found)
}

fn plain(space: &mut Space, at: Var, width: u16, spans: &[Span]) -> Set {
    let ranges: Vec<_> = spans.iter().map(|span| ends(span, 0)).collect();
    space.numbers(at, width, &ranges)
}

fn addresses(space: &mut Space, at: Var, width: u16, spans: &[Span]) -> Set {
    let ranges: Vec<_> = spans.iter().map(|span| ends(span, 128 - u32::from(width))).collect();
    space.numbers(at, width, &ranges)
}

/// First and last value of a span, without the lowest `shift` bits, which an IPv4 address does not use.
fn ends(span: &Span, shift: u32) -> (u128, u128) {
    let (first, last) = match *span {
        Span::One(one) => (number(one), number(one)),
        Span::Range(first, last) => (number(first), number(last)),
        Span::Prefix(start, length) => {
            let host_bits = if length == 0 { u128::MAX } else { (1u128 << (128 - u32::from(length))) - 1 };
            (number(start) & !host_bits, number(start) | host_bits)
        }
    };
    (first >> shift, last >> shift)
}

fn states_where(space: &mut Space, facts: &Facts, holds: &dyn Fn(u32) -> bool) -> Set {
    let sets: Vec<Set> = facts.states.iter().filter(|(state, _)| holds(*state)).map(|(_, set)| *set).collect();
    space.bdd.any(&sets)
}

fn kinds_where(space: &mut Space, facts: &Facts, holds: &dyn Fn(u8) -> bool) -> Set {
    let sets: Vec<Set> = facts.kinds.iter().filter(|(kind, _)| holds(*kind as u8)).map(|(_, set)| *set).collect();
    space.bdd.any(&sets)
}

fn packet_types_where(space: &mut Space, facts: &Facts, holds: &dyn Fn(u8) -> bool) -> Set {
    use crate::simulate::AddressType::{Broadcast, Multicast};
    let link_type = |kind| match kind {
        Broadcast => 1,
        Multicast => 2,
        _ => 0,
    };
    let sets: Vec<Set> = facts.kinds.iter().filter(|(kind, _)| holds(link_type(*kind))).map(|(_, set)| *set).collect();
    space.bdd.any(&sets)
}
