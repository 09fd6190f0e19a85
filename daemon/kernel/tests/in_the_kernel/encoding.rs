use kernel::Nft;
use policy::ruleset::*;

use crate::build::*;
use crate::space::{alone, nft_load, run, same};

#[test]
fn every_part_and_field_lists_as_its_text_does() {
    both_encoders_agree(everything());
}

#[test]
fn the_kernel_holds_what_was_meant_for_every_part_and_field() {
    alone(|| {
        let ruleset = everything();
        let mut nft = Nft::open().unwrap();
        nft.apply(&ruleset).unwrap();
        assert_eq!(nft.differences(&ruleset).unwrap(), []);
    });
}

/// Loads the ruleset by text and by netlink, each into its own namespace, and lets nft tell whether they are one.
pub fn both_encoders_agree(ruleset: Ruleset) {
    let script = ruleset.script();
    let lists = || (run("nft", &["list", "ruleset"]), without_handles(&run("nft", &["-j", "list", "ruleset"])));
    let ours = alone(move || {
        Nft::open().unwrap().apply(&ruleset).unwrap();
        lists()
    });
    let text = script.clone();
    let theirs = alone(move || {
        nft_load(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        lists()
    });
    same(&ours.0, &theirs.0);
    same(&ours.1, &theirs.1);
}

/// One object to a line, and without the numbers that the kernel gives by the order of loading.
fn without_handles(json: &str) -> String {
    let objects = json.split("}}, {").map(|object| match object.split_once("\"handle\": ") {
        Some((before, after)) => format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => object.to_owned(),
    });
    objects.collect::<Vec<_>>().join("\n")
}

pub fn everything() -> Ruleset {
    let rule = |parts: &[Part]| Rule::of(parts.to_vec());
    let range = |a, b| Operand::One(Span::Range(a, b));
    let m = |field, to| Part::Match { field, op: Op::Eq, to };
    let not = |field, to| Part::Match { field, op: Op::Ne, to };
    let filter = chain(vec![
        rule(&[is(Field::IifName, port("lan0")), accept()]),
        rule(&[isnt(Field::OifName, port("wan0.5")), accept()]),
        rule(&[ipv4(), is(Field::Ip4Saddr, v4("192.168.2.10")), accept()]),
        rule(&[ipv4(), m(Field::Ip4Daddr, Operand::One(Span::Prefix(v4("10.0.0.0"), 8))), accept()]),
        rule(&[ipv4(), not(Field::Ip4Daddr, Operand::One(Span::Prefix(v4("10.16.0.0"), 12))), accept()]),
        rule(&[ipv4(), m(Field::Ip4Saddr, range(v4("10.0.0.5"), v4("10.0.1.7"))), accept()]),
        rule(&[ipv4(), not(Field::Ip4Saddr, range(v4("10.0.0.5"), v4("10.0.1.7"))), accept()]),
        rule(&[ipv6(), is(Field::Ip6Saddr, v6("fd00::1")), accept()]),
        rule(&[ipv6(), m(Field::Ip6Daddr, Operand::One(Span::Prefix(v6("fd00:1:2::"), 48))), accept()]),
        rule(&[ipv6(), m(Field::Ip6Daddr, Operand::One(Span::Prefix(v6("fe80::"), 10))), accept()]),
        rule(&[ipv6(), m(Field::Ip6Daddr, range(v6("fd00::5"), v6("fd00::ffff"))), accept()]),
        rule(&[tcp(), is(Field::Dport, Datum::Port(443)), accept()]),
        rule(&[udp(), m(Field::Sport, range(Datum::Port(1000), Datum::Port(2000))), accept()]),
        rule(&[udp(), not(Field::Dport, range(Datum::Port(1000), Datum::Port(2000))), accept()]),
        rule(&[tcp(), m(Field::Dport, Operand::Any(vec![Span::One(Datum::Port(22)), Span::One(Datum::Port(80))])), accept()]),
        rule(&[
            tcp(),
            m(
                Field::Dport,
                Operand::Any(vec![
                    Span::One(Datum::Port(22)),
                    Span::Range(Datum::Port(80), Datum::Port(90)),
                    Span::Range(Datum::Port(91), Datum::Port(95)),
                    Span::Range(Datum::Port(60000), Datum::Port(65535)),
                ]),
            ),
            accept(),
        ]),
        rule(&[
            ipv4(),
            not(
                Field::Ip4Saddr,
                Operand::Any(vec![Span::Prefix(v4("10.0.0.0"), 8), Span::One(v4("11.0.0.1")), Span::Range(v4("12.0.0.3"), v4("12.0.0.9"))]),
            ),
            accept(),
        ]),
        rule(&[tcp(), Part::Masked { field: Field::TcpFlags, mask: 0x3f, op: Op::Eq, value: 0 }, drop()]),
        rule(&[tcp(), Part::Masked { field: Field::TcpFlags, mask: 0x3, op: Op::Eq, value: 3 }, drop()]),
        rule(&[Part::Masked { field: Field::CtState, mask: 6, op: Op::Ne, value: 0 }, accept()]),
        rule(&[Part::Masked { field: Field::CtStatus, mask: 32, op: Op::Ne, value: 0 }, accept()]),
        rule(&[Part::Masked { field: Field::Mark, mask: 1, op: Op::Eq, value: 1 }, accept()]),
        rule(&[Part::Masked { field: Field::CtMark, mask: 0xff00, op: Op::Ne, value: 0x100 }, accept()]),
        rule(&[is(Field::Mark, Datum::Word(0x1234)), accept()]),
        rule(&[m(Field::Mark, range(Datum::Word(0x10), Datum::Word(0x20))), accept()]),
        rule(&[not(Field::Mark, range(Datum::Word(0x10), Datum::Word(0x20))), accept()]),
        rule(&[
            m(Field::Mark, Operand::Any(vec![Span::One(Datum::Word(1)), Span::Range(Datum::Word(0x10), Datum::Word(0x2000))])),
            accept(),
        ]),
        rule(&[is(Field::CtMark, Datum::Word(7)), accept()]),
        rule(&[is(Field::SkUid, Datum::Word(1000)), accept()]),
        rule(&[is(Field::PktType, Datum::Byte(2)), drop()]),
        rule(&[is(Field::FibDaddrType, Datum::Byte(2)), accept()]),
        rule(&[isnt(Field::FibDaddrType, Datum::Word(2)), accept()]),
        rule(&[ipv4(), is(Field::L4Proto, Datum::Byte(1)), is(Field::Icmp4Type, Datum::Byte(8)), accept()]),
        rule(&[
            ipv6(),
            is(Field::L4Proto, Datum::Byte(58)),
            m(Field::Icmp6Type, Operand::Any(vec![Span::One(Datum::Byte(133)), Span::One(Datum::Byte(135))])),
            accept(),
        ]),
        rule(&[ipv4(), Part::InSet { fields: vec![Field::Ip4Saddr], negate: false, set: "a4_hosts".into() }, accept()]),
        rule(&[ipv4(), Part::InSet { fields: vec![Field::Ip4Saddr], negate: true, set: "a4_nets".into() }, drop()]),
        rule(&[ipv4(), tcp(), Part::InSet { fields: vec![Field::Ip4Saddr, Field::Dport], negate: false, set: "pairs".into() }, accept()]),
        rule(&[
            ipv4(),
            tcp(),
            Part::InSet { fields: vec![Field::IifName, Field::Ip4Saddr, Field::Dport], negate: false, set: "triples".into() },
            accept(),
        ]),
        rule(&[Part::InSet { fields: vec![Field::NfProto], negate: false, set: "sched_1".into() }, accept()]),
        rule(&[Part::VerdictMap { fields: vec![Field::IifName, Field::OifName], map: "zones".into() }]),
        rule(&[ipv4(), Part::VerdictMap { fields: vec![Field::Ip4Daddr], map: "runs".into() }]),
        rule(&[Part::Limit { per: Per::Second, rate: 10, burst: 5, over: false }, Part::Counter, accept()]),
        rule(&[Part::Limit { per: Per::Minute, rate: 600, burst: 20, over: true }, Part::Counter, drop()]),
        rule(&[Part::Log { prefix: "scan ".into(), group: Some(1) }, Part::Log { prefix: "plain: ".into(), group: None }]),
        rule(&[Part::SetMark { mask: 1, value: 1 }]),
        rule(&[Part::SetMark { mask: 0xffff_ffff, value: 5 }]),
        rule(&[Part::SetCtMark { mask: 0xff00, value: 0x1200 }]),
        rule(&[Part::CtMarkFromMark { mask: u32::MAX }]),
        rule(&[Part::CtMarkFromMark { mask: 0x00ff_ff00 }]),
        rule(&[is(Field::EtherSaddr, mac(1)), accept()]),
        rule(&[m(Field::EtherSaddr, Operand::Any(vec![Span::One(mac(1)), Span::One(mac(2))])), drop()]),
        rule(&[
            is(Field::IifName, port("lan0")),
            Part::InSet { fields: vec![Field::EtherSaddr], negate: true, set: "macs".into() },
            drop(),
        ]),
        rule(&[Part::InSet { fields: vec![Field::Mark], negate: false, set: "permits".into() }, accept()]),
        rule(&[tcp(), Part::Reject(Reject::TcpReset)]),
        rule(&[Part::Reject(Reject::AdminProhibited)]),
        Rule {
            parts: vec![Part::Counter, Part::Verdict(Verdict::Jump("other".into()))],
            source: source("lan-out/web"),
            comment: Some("lan-out/web".into()),
        },
        rule(&[Part::Verdict(Verdict::Goto("other".into()))]),
    ]);
    let snat = Chain {
        base: base(ChainKind::Nat, Hook::Postrouting, 100, BasePolicy::Accept),
        rules: vec![
            rule(&[is(Field::OifName, port("wan0")), Part::Masquerade]),
            rule(&[ipv4(), Part::Snat { to: NatTarget { address: "1.2.3.4".parse().unwrap(), ports: None } }]),
            rule(&[ipv6(), Part::Snat { to: NatTarget { address: "fd00::9".parse().unwrap(), ports: None } }]),
            rule(&[ipv4(), tcp(), Part::Snat { to: NatTarget { address: "1.2.3.4".parse().unwrap(), ports: Some((1000, 2000)) } }]),
        ],
    };
    let dnat = Chain {
        base: base(ChainKind::Nat, Hook::Prerouting, -100, BasePolicy::Accept),
        rules: vec![
            rule(&[
                ipv4(),
                tcp(),
                is(Field::Dport, Datum::Port(8080)),
                Part::Dnat { to: NatTarget { address: "10.0.0.1".parse().unwrap(), ports: Some((80, 80)) } },
            ]),
            rule(&[ipv6(), tcp(), Part::Dnat { to: NatTarget { address: "fd00::1".parse().unwrap(), ports: Some((80, 80)) } }]),
            rule(&[ipv4(), Part::Dnat { to: NatTarget { address: "10.0.0.1".parse().unwrap(), ports: None } }]),
            rule(&[tcp(), Part::Redirect { port: Some(3128) }]),
            rule(&[tcp(), Part::Redirect { port: None }]),
        ],
    };
    let forward = Chain {
        base: base(ChainKind::Filter, Hook::Forward, 0, BasePolicy::Drop),
        rules: vec![rule(&[Part::Verdict(Verdict::Jump("checks".into()))]), rule(&[drop()])],
    };
    let prerouting = Chain { base: base(ChainKind::Filter, Hook::Prerouting, -150, BasePolicy::Accept), rules: vec![] };
    let proxy = Chain {
        base: base(ChainKind::Filter, Hook::Prerouting, -140, BasePolicy::Accept),
        rules: vec![
            rule(&[ipv4(), Part::MarkFromMap { fields: vec![Field::Ip4Saddr], map: "clients4".into() }]),
            rule(&[ipv6(), Part::MarkFromMap { fields: vec![Field::Ip6Saddr], map: "clients6".into() }]),
            rule(&[Part::MarkFromMap { fields: vec![Field::EtherSaddr], map: "mapped_macs".into() }]),
            rule(&[tcp(), Part::Tproxy { port: 61081 }, Part::SetMark { mask: 2, value: 2 }, accept()]),
            rule(&[udp(), is(Field::Dport, Datum::Port(53)), Part::Tproxy { port: 61082 }, Part::Counter, accept()]),
        ],
    };
    let other = chain(vec![rule(&[Part::Verdict(Verdict::Return)])]);
    let ip = |text: &str| Span::One(v4(text));
    let sets = vec![
        (
            "a4_hosts",
            Set {
                counters: true,
                comment: Some("the hosts".into()),
                ..set(&[Field::Ip4Saddr], vec![element(&[ip("10.0.0.1")]), element(&[ip("10.0.0.2")])])
            },
        ),
        (
            "a4_nets",
            Set {
                interval: true,
                ..set(
                    &[Field::Ip4Saddr],
                    vec![
                        element(&[Span::Prefix(v4("10.0.0.0"), 8)]),
                        element(&[Span::Range(v4("11.0.0.0"), v4("11.0.0.9"))]),
                        element(&[ip("11.0.0.10")]),
                        element(&[Span::Prefix(v4("224.0.0.0"), 3)]),
                    ],
                )
            },
        ),
        ("empty6", Set { interval: true, ..set(&[Field::Ip6Saddr], vec![]) }),
        (
            "nets6",
            Set {
                interval: true,
                ..set(&[Field::Ip6Saddr], vec![element(&[Span::Prefix(v6("::"), 128)]), element(&[Span::Prefix(v6("fe80::"), 10)])])
            },
        ),
        ("pairs", set(&[Field::Ip4Saddr, Field::Dport], vec![element(&[ip("10.0.0.1"), Span::One(Datum::Port(22))])])),
        (
            "triples",
            Set {
                interval: true,
                ..set(
                    &[Field::IifName, Field::Ip4Saddr, Field::Dport],
                    vec![
                        element(&[Span::One(port("lan0")), Span::Prefix(v4("10.0.0.0"), 8), Span::Range(Datum::Port(20), Datum::Port(30))]),
                        element(&[Span::One(port("lan1")), ip("10.0.0.1"), Span::One(Datum::Port(22))]),
                    ],
                )
            },
        ),
        ("macs", set(&[Field::EtherSaddr], vec![element(&[Span::One(mac(1))])])),
        ("permits", Set { timeout: true, ..set(&[Field::Mark], vec![]) }),
        (
            "mapped_macs",
            Set {
                maps_to: Some(Maps::Mark),
                ..set(&[Field::EtherSaddr], vec![marked(Span::One(mac(1)), 0x100), marked(Span::One(mac(2)), 0x200)])
            },
        ),
        (
            "clients4",
            Set {
                maps_to: Some(Maps::Mark),
                interval: true,
                ..set(&[Field::Ip4Saddr], vec![marked(ip("10.0.0.1"), 0x100), marked(Span::Prefix(v4("10.0.0.2"), 31), 0x200)])
            },
        ),
        (
            "clients6",
            Set {
                maps_to: Some(Maps::Mark),
                interval: true,
                ..set(&[Field::Ip6Saddr], vec![marked(Span::Prefix(v6("fd00::"), 64), 0x100)])
            },
        ),
        ("sched_1", Set { timeout: true, ..set(&[Field::NfProto], vec![]) }),
        (
            "marks",
            Set {
                maps_to: Some(Maps::Mark),
                ..set(&[Field::Ip4Saddr], vec![Element { key: vec![ip("10.0.0.1")], to: Some(Target::Mark(0x17)), source: None }])
            },
        ),
        (
            "zones",
            Set {
                maps_to: Some(Maps::Verdict),
                ..set(
                    &[Field::IifName, Field::OifName],
                    vec![
                        verdict(&[Span::One(port("lan0")), Span::One(port("wan0"))], Verdict::Jump("other".into())),
                        verdict(&[Span::One(port("lan1")), Span::One(port("wan0"))], Verdict::Goto("other".into())),
                        verdict(&[Span::One(port("lan1")), Span::One(port("lan0"))], Verdict::Drop),
                    ],
                )
            },
        ),
        (
            "runs",
            Set {
                maps_to: Some(Maps::Verdict),
                counters: true,
                interval: true,
                ..set(
                    &[Field::Ip4Daddr],
                    vec![
                        verdict(&[Span::Range(v4("10.0.0.1"), v4("10.0.0.5"))], Verdict::Accept),
                        Element { source: source("lan-out/hosts"), ..verdict(&[ip("10.0.0.6")], Verdict::Drop) },
                        verdict(&[ip("10.0.0.9")], Verdict::Return),
                    ],
                )
            },
        ),
    ];
    table(
        sets,
        vec![
            ("checks", filter),
            ("other", other),
            ("forward", forward),
            ("prerouting", prerouting),
            ("proxy", proxy),
            ("srcnat", snat),
            ("dstnat", dnat),
        ],
    )
}
