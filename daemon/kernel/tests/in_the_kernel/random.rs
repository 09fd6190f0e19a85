//! Rulesets that nobody would write, told to the kernel both ways. The seed makes a failure repeatable.

use kernel::Nft;
use policy::ruleset::*;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::build::*;
use crate::encoding::both_encoders_agree;
use crate::space::alone;

const CASES: u32 = 200;

#[test]
fn random_rulesets_list_alike_and_read_back_as_meant() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let outcome = TestRunner::new_with_rng(config, rng).run(&ruleset(), |ruleset| {
        both_encoders_agree(ruleset.clone());
        let told = alone(move || {
            let mut nft = Nft::open().unwrap();
            nft.apply(&ruleset).unwrap();
            nft.differences(&ruleset).unwrap()
        });
        prop_assert_eq!(told, vec![]);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// A change of one value anywhere must show: the comparison is not blind.
#[test]
fn two_different_random_rulesets_always_differ_when_read_back() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]);
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new_with_rng(config, rng).run(&(ruleset(), ruleset()), |(one, other)| {
        prop_assume!(one.to_string() != other.to_string());
        let told = alone(move || {
            let mut nft = Nft::open().unwrap();
            nft.apply(&one).unwrap();
            nft.differences(&other).unwrap()
        });
        prop_assert!(!told.is_empty());
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Up to a dozen rules over a few sets, some of which the rules look into.
fn ruleset() -> impl Strategy<Value = Ruleset> {
    let sets = prop::collection::vec(named_set(), 0..5);
    (sets, prop::collection::vec(rule(), 0..12), select(vec![-300, -150, 0, 17])).prop_map(|(sets, mut rules, priority)| {
        let sets: Vec<(String, Set)> = sets.into_iter().enumerate().map(|(index, set)| (format!("s{index}"), set)).collect();
        rules.extend(sets.iter().map(|(name, set)| look_into(name, set)));
        let forward = Chain {
            base: base(ChainKind::Filter, Hook::Forward, priority, BasePolicy::Drop),
            rules: vec![Rule::of([Part::Verdict(Verdict::Jump("rules".into()))]), Rule::of([drop()])],
        };
        let other = chain(vec![Rule::of([Part::Counter, Part::Verdict(Verdict::Return)])]);
        let sets = sets.iter().map(|(name, set)| (name.as_str(), set.clone())).collect();
        table(sets, vec![("forward", forward), ("rules", chain(rules)), ("other", other)])
    })
}

/// A rule for which the set is there; what its fields need stands before.
fn look_into(name: &str, set: &Set) -> Rule {
    let mut parts = Vec::new();
    let family = |wanted: &[Field]| set.key.iter().any(|field| wanted.contains(field));
    if family(&[Field::Ip4Saddr, Field::Ip4Daddr]) {
        parts.push(ipv4());
    }
    if family(&[Field::Ip6Saddr, Field::Ip6Daddr]) {
        parts.push(ipv6());
    }
    if family(&[Field::Sport, Field::Dport]) {
        parts.push(tcp());
    }
    match set.maps_to {
        Some(Maps::Verdict) => parts.push(Part::VerdictMap { fields: set.key.clone(), map: name.to_owned() }),
        // No part looks into a map of marks yet; it only has to arrive.
        Some(Maps::Mark) => return Rule::of([Part::Counter]),
        None => parts.extend([Part::InSet { fields: set.key.clone(), negate: false, set: name.to_owned() }, accept()]),
    }
    Rule::of(parts)
}

fn named_set() -> impl Strategy<Value = Set> {
    let keys = vec![
        vec![Field::Ip4Saddr],
        vec![Field::Ip6Daddr],
        vec![Field::Dport],
        vec![Field::IifName, Field::OifName],
        vec![Field::Ip4Saddr, Field::Dport],
        vec![Field::IifName, Field::Ip6Saddr, Field::Dport],
        vec![Field::NfProto],
        vec![Field::L4Proto, Field::Dport],
    ];
    (select(keys), any::<(bool, bool, bool)>(), select(vec![None, Some(Maps::Verdict), Some(Maps::Mark)])).prop_flat_map(
        |(key, (interval, timeout, counters), maps_to)| {
            // An interval over names or families is no set that anybody could use.
            let interval = interval && !matches!(key.as_slice(), [Field::NfProto]) && key != [Field::IifName, Field::OifName];
            // The kernel's trees for ranges in several fields hold no timeouts and counters that nft 1.0.6 could list.
            let elements = prop::collection::vec((disjoint_key(key.clone(), interval), verdict_word(), any::<u32>()), 0..20);
            elements.prop_map(move |elements| {
                let mut seen = std::collections::BTreeSet::new();
                let elements = elements.into_iter().filter(|(key, ..)| seen.insert(key.clone())).map(|(key, verdict, mark)| Element {
                    key,
                    to: maps_to.map(|maps| if maps == Maps::Verdict { Target::Verdict(verdict) } else { Target::Mark(mark) }),
                    source: None,
                });
                let mut elements: Vec<Element> = elements.collect();
                elements.sort_by(|one, other| one.key.cmp(&other.key));
                Set { key: key.clone(), maps_to, interval, timeout, counters, elements, comment: Some("made up".into()) }
            })
        },
    )
}

/// Keys that can overlap only by being equal: each block of values is used in one form.
fn disjoint_key(fields: Vec<Field>, interval: bool) -> impl Strategy<Value = Vec<Span>> {
    any::<u8>().prop_map(move |block| {
        let form = block % 3;
        let span = |field: &Field| match field {
            Field::Ip4Saddr | Field::Ip4Daddr => match (interval, form) {
                (true, 0) => Span::Prefix(v4(&format!("10.{block}.0.0")), 16),
                (true, 1) => Span::Range(v4(&format!("10.{block}.0.3")), v4(&format!("10.{block}.1.9"))),
                _ => Span::One(v4(&format!("10.{block}.7.7"))),
            },
            Field::Ip6Saddr | Field::Ip6Daddr => match (interval, form) {
                (true, 0) => Span::Prefix(v6(&format!("fd00:{block:x}::")), 32),
                (true, 1) => Span::Range(v6(&format!("fd00:{block:x}::5")), v6(&format!("fd00:{block:x}::ffff"))),
                _ => Span::One(v6(&format!("fd00:{block:x}::1"))),
            },
            Field::Dport if interval && form < 2 => {
                Span::Range(Datum::Port(u16::from(block) * 200 + 1), Datum::Port(u16::from(block) * 200 + 99))
            }
            Field::Dport => Span::One(Datum::Port(u16::from(block) * 200 + 150)),
            Field::IifName | Field::OifName => Span::One(port(&format!("port{block}"))),
            Field::L4Proto => Span::One(Datum::Byte(block)),
            _ => Span::One(Datum::Byte(if block % 2 == 0 { 2 } else { 10 })),
        };
        fields.iter().map(span).collect::<Vec<Span>>()
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let matches = prop::collection::vec(matching(), 0..3);
    let statements = prop::collection::vec(statement(), 0..3);
    let comment = prop::option::of("[a-z][a-z/ -]{0,30}[a-z]");
    (matches, statements, verdict_word(), comment).prop_map(|(matches, statements, verdict, comment)| {
        let mut parts: Vec<Part> = matches.into_iter().flatten().collect();
        one_family_and_protocol(&mut parts);
        parts.extend(statements);
        parts.push(Part::Verdict(verdict));
        Rule { parts, source: comment.as_deref().and_then(source), comment }
    })
}

/// Two families or protocols in one rule can never match, and nft refuses to write it.
fn one_family_and_protocol(parts: &mut Vec<Part>) {
    let settles = |part: &Part, wanted: Field| matches!(part, Part::Match { field, .. } if *field == wanted);
    for field in [Field::NfProto, Field::L4Proto] {
        let mut seen = false;
        if parts.iter().filter(|part| settles(part, field)).count() > 1 {
            // Keep what stands up to the second one.
            let second = parts.iter().position(|part| settles(part, field) && std::mem::replace(&mut seen, true));
            parts.truncate(second.unwrap_or(parts.len()));
        }
    }
}

fn matching() -> impl Strategy<Value = Vec<Part>> {
    let op = || select(vec![Op::Eq, Op::Ne]);
    let addresses4 = (any::<u32>(), 1..=32u8, 0..4u8).prop_map(|(bits, length, form)| {
        let masked = bits & (u32::MAX << (32 - length));
        match form {
            0 => Operand::One(Span::One(Datum::V4(bits.into()))),
            1 if length < 32 => Operand::One(Span::Prefix(Datum::V4(masked.into()), length)),
            2 => Operand::One(Span::Range(Datum::V4((bits / 2).into()), Datum::V4((bits / 2 + 77).into()))),
            _ => Operand::Any(vec![Span::One(Datum::V4((bits / 4).into())), Span::One(Datum::V4((bits / 4 + 1_000_000).into()))]),
        }
    });
    let addresses6 = (any::<u128>(), 1..=127u8).prop_map(|(bits, length)| {
        let masked = bits & (u128::MAX << (128 - length));
        Operand::One(Span::Prefix(Datum::V6(masked.into()), length))
    });
    let ports = (1..30_000u16, 1..500u16, 0..4u8).prop_map(|(first, more, form)| match form {
        0 => Operand::One(Span::One(Datum::Port(first))),
        1 => Operand::One(Span::Range(Datum::Port(first), Datum::Port(first + more))),
        2 => Operand::Any(vec![Span::One(Datum::Port(first)), Span::One(Datum::Port(first + more))]),
        _ => Operand::Any(vec![Span::Range(Datum::Port(first), Datum::Port(first + more)), Span::One(Datum::Port(first + more + 9))]),
    });
    let mark = || (any::<u32>(), any::<u32>(), op());
    prop_oneof![
        (select(vec![Field::IifName, Field::OifName]), op(), "[a-z][a-z0-9.]{0,13}[a-z]").prop_map(|(field, op, name)| vec![Part::Match {
            field,
            op,
            to: one(port(&name))
        }]),
        (select(vec![Field::Ip4Saddr, Field::Ip4Daddr]), op(), addresses4)
            .prop_map(|(field, op, to)| vec![ipv4(), Part::Match { field, op, to }]),
        (select(vec![Field::Ip6Saddr, Field::Ip6Daddr]), op(), addresses6)
            .prop_map(|(field, op, to)| vec![ipv6(), Part::Match { field, op, to }]),
        (select(vec![Field::Sport, Field::Dport]), op(), any::<bool>(), ports)
            .prop_map(|(field, op, is_tcp, to)| vec![if is_tcp { tcp() } else { udp() }, Part::Match { field, op, to }]),
        (1..0x40u32, any::<u32>(), op())
            .prop_map(|(mask, value, op)| vec![tcp(), Part::Masked { field: Field::TcpFlags, mask, op, value: value & mask }]),
        select(vec![2u32, 6, 8, 14, 1, 65]).prop_map(|mask| vec![Part::Masked { field: Field::CtState, mask, op: Op::Ne, value: 0 }]),
        (select(vec![Field::Mark, Field::CtMark]), mark()).prop_map(|(field, (mask, value, op))| vec![Part::Masked {
            field,
            mask: mask | 1,
            op,
            value: value & (mask | 1)
        }]),
        (select(vec![Field::Mark, Field::CtMark, Field::SkUid]), op(), 1..60_000u32).prop_map(|(field, op, value)| vec![Part::Match {
            field,
            op,
            to: one(Datum::Word(value))
        }]),
        (op(), select(vec![1u8, 2, 3, 5])).prop_map(|(op, kind)| vec![Part::Match {
            field: Field::FibDaddrType,
            op,
            to: one(Datum::Byte(kind))
        }]),
        (op(), 0..3u8).prop_map(|(op, kind)| vec![Part::Match { field: Field::PktType, op, to: one(Datum::Byte(kind)) }]),
        select(vec![0u8, 3, 8, 11, 12]).prop_map(|kind| vec![
            ipv4(),
            is(Field::L4Proto, Datum::Byte(1)),
            is(Field::Icmp4Type, Datum::Byte(kind))
        ]),
        select(vec![1u8, 2, 128, 135, 136]).prop_map(|kind| vec![
            ipv6(),
            is(Field::L4Proto, Datum::Byte(58)),
            is(Field::Icmp6Type, Datum::Byte(kind))
        ]),
    ]
}

fn statement() -> impl Strategy<Value = Part> {
    prop_oneof![
        Just(Part::Counter),
        (select(vec![Per::Second, Per::Minute, Per::Hour]), 1..5000u32, 1..1000u32, any::<bool>())
            .prop_map(|(per, rate, burst, over)| Part::Limit { per, rate, burst, over }),
        ("[a-z][a-z ]{0,20}", prop::option::of(any::<u16>())).prop_map(|(prefix, group)| Part::Log { prefix, group }),
        (any::<u32>(), any::<u32>()).prop_map(|(mask, value)| Part::SetMark { mask: mask | 1, value: value & (mask | 1) }),
        (any::<u32>(), any::<u32>()).prop_map(|(mask, value)| Part::SetCtMark { mask: mask | 1, value: value & (mask | 1) }),
    ]
}

fn verdict_word() -> impl Strategy<Value = Verdict> {
    select(vec![Verdict::Accept, Verdict::Drop, Verdict::Return, Verdict::Jump("other".into()), Verdict::Goto("other".into())])
}
