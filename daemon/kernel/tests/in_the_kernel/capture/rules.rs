use std::collections::BTreeSet;

use policy::compile::proxy::{ANSWER, CAPTURED, MAPPING, MAPPING_SHIFT, PERMITS, REDIRECTED};
use policy::messages::forwarder::{DATAGRAMS_PORT, REDIRECTED_PORT, TRANSPARENT_PORT};
use policy::plan::{RouteAction, RouteRule, RouteSelector};
use policy::ruleset::*;

use super::{BY_MAC, BY_REDIRECT, BY_TPROXY, MAPPED_MAC, key};
use crate::build::*;

pub fn route_rules() -> BTreeSet<RouteRule> {
    let rule = |preference, selector, action| RouteRule { preference, selector, action };
    BTreeSet::from([
        rule(50, RouteSelector::FromBox, RouteAction::Main),
        rule(60, RouteSelector::Mark { mask: CAPTURED, value: CAPTURED }, RouteAction::Deliver),
        rule(100, RouteSelector::WithoutMark { mask: 1, value: 1 }, RouteAction::Unreachable),
    ])
}

/// What the compiler writes for mapped clients, and of the rest only what it stands on.
pub fn ruleset() -> Ruleset {
    let rule = |parts: &[Part]| Rule::of(parts.to_vec());
    let mark = |id: u16| u32::from(id) << MAPPING_SHIFT;
    let among = |set: &str, negate| Part::InSet { fields: vec![Field::Mark], negate, set: set.into() };
    let bits = |field, mask, op| Part::Masked { field, mask, op, value: 0 };
    let set_bits = |bits| Part::SetMark { mask: bits, value: bits };
    let to_here = |kind| rule(&[is(Field::FibDaddrType, Datum::Byte(kind)), accept()]);
    let let_in = Chain { base: base(ChainKind::Filter, Hook::Prerouting, -150, BasePolicy::Accept), rules: vec![rule(&[set_bits(1)])] };
    let proxy = Chain {
        base: base(ChainKind::Filter, Hook::Prerouting, -140, BasePolicy::Accept),
        rules: vec![
            rule(&[ipv4(), Part::MarkFromMap { fields: vec![Field::Ip4Saddr], map: "proxy_clients4".into() }]),
            rule(&[ipv6(), Part::MarkFromMap { fields: vec![Field::Ip6Saddr], map: "proxy_clients6".into() }]),
            // The same machine plays all clients: only one of its addresses is looked up by hardware.
            rule(&[
                ipv4(),
                is(Field::Ip4Saddr, v4("192.168.2.12")),
                Part::MarkFromMap { fields: vec![Field::EtherSaddr], map: "proxy_macs".into() },
            ]),
            rule(&[bits(Field::Mark, MAPPING, Op::Eq), accept()]),
            rule(&[Part::CtMarkFromMark { mask: MAPPING }]),
            to_here(2),
            to_here(3),
            to_here(5),
            rule(&[among(PERMITS, true), Part::Counter, drop()]).because("proxy/blocked"),
            rule(&[tcp(), among("proxy_tproxy", false), Part::Tproxy { port: TRANSPARENT_PORT }, set_bits(CAPTURED), accept()]),
            rule(&[tcp(), among("proxy_tproxy", true), set_bits(CAPTURED | REDIRECTED), accept()]),
            rule(&[udp(), Part::Tproxy { port: DATAGRAMS_PORT }, set_bits(CAPTURED), accept()]),
            rule(&[Part::Counter, drop()]).because("proxy/other"),
        ],
    };
    let dstnat = Chain {
        base: base(ChainKind::Nat, Hook::Prerouting, -100, BasePolicy::Accept),
        rules: vec![rule(&[bits(Field::Mark, REDIRECTED, Op::Ne), tcp(), Part::Redirect { port: Some(REDIRECTED_PORT) }])],
    };
    let input = Chain {
        base: base(ChainKind::Filter, Hook::Input, 0, BasePolicy::Drop),
        rules: vec![
            rule(&[bits(Field::Mark, CAPTURED, Op::Ne), accept()]),
            rule(&[ipv6(), is(Field::L4Proto, Datum::Byte(58)), accept()]),
            rule(&[drop()]),
        ],
    };
    let forward = Chain {
        base: base(ChainKind::Filter, Hook::Forward, 0, BasePolicy::Accept),
        rules: vec![rule(&[bits(Field::Mark, MAPPING, Op::Ne), Part::Counter, drop()]).because("proxy/forward")],
    };
    let output = Chain {
        base: base(ChainKind::Filter, Hook::Output, 0, BasePolicy::Accept),
        rules: vec![
            rule(&[
                bits(Field::Mark, ANSWER, Op::Ne),
                Part::Masked { field: Field::CtState, mask: 2, op: Op::Ne, value: 0 },
                bits(Field::CtMark, MAPPING, Op::Ne),
                accept(),
            ]),
            rule(&[bits(Field::Mark, ANSWER, Op::Ne), Part::Counter, drop()]).because("proxy/unasked"),
        ],
    };
    let v4_clients = vec![marked(Span::One(v4("192.168.2.10")), mark(BY_REDIRECT)), marked(Span::One(v4("192.168.2.11")), mark(BY_TPROXY))];
    let v6_clients = vec![marked(Span::One(v6("fd00:2::10")), mark(BY_REDIRECT)), marked(Span::One(v6("fd00:2::11")), mark(BY_TPROXY))];
    let map = |field, interval, elements| Set { maps_to: Some(Maps::Mark), interval, ..set(&[field], elements) };
    let sets = vec![
        ("proxy_clients4", map(Field::Ip4Saddr, true, v4_clients)),
        ("proxy_clients6", map(Field::Ip6Saddr, true, v6_clients)),
        ("proxy_macs", map(Field::EtherSaddr, false, vec![marked(Span::One(Datum::Mac(MAPPED_MAC)), mark(BY_MAC))])),
        ("proxy_tproxy", set(&[Field::Mark], vec![element(&key(BY_TPROXY))])),
        (PERMITS, Set { timeout: true, ..set(&[Field::Mark], vec![]) }),
    ];
    let chains = vec![("let_in", let_in), ("proxy", proxy), ("dstnat", dstnat), ("input", input), ("forward", forward), ("output", output)];
    table(sets, chains)
}
