//! Short hands for rulesets.

use std::collections::BTreeMap;

use policy::name::IfName;
use policy::ruleset::*;
use policy::source::Origin;

pub fn one(value: Datum) -> Operand {
    Operand::One(Span::One(value))
}

pub fn is(field: Field, value: Datum) -> Part {
    Part::Match { field, op: Op::Eq, to: one(value) }
}

pub fn isnt(field: Field, value: Datum) -> Part {
    Part::Match { field, op: Op::Ne, to: one(value) }
}

pub fn port(name: &str) -> Datum {
    Datum::Interface(FixedName::from(&IfName::try_from(name).unwrap()))
}

pub fn v4(text: &str) -> Datum {
    Datum::V4(text.parse().unwrap())
}

pub fn v6(text: &str) -> Datum {
    Datum::V6(text.parse().unwrap())
}

pub fn mac(last: u8) -> Datum {
    Datum::Mac([2, 0, 0, 0, 0, last])
}

pub fn ipv4() -> Part {
    is(Field::NfProto, Datum::Byte(2))
}

pub fn ipv6() -> Part {
    is(Field::NfProto, Datum::Byte(10))
}

pub fn tcp() -> Part {
    is(Field::L4Proto, Datum::Byte(6))
}

pub fn udp() -> Part {
    is(Field::L4Proto, Datum::Byte(17))
}

pub fn accept() -> Part {
    Part::Verdict(Verdict::Accept)
}

pub fn drop() -> Part {
    Part::Verdict(Verdict::Drop)
}

pub fn base(kind: ChainKind, hook: Hook, priority: i32, policy: BasePolicy) -> Option<Base> {
    Some(Base { kind, hook, priority, policy })
}

pub fn source(id: &str) -> Option<Source> {
    Some(Source { id: id.into(), origin: Origin { file: "test.yaml".into(), line: 1 } })
}

pub fn set(key: &[Field], elements: Vec<Element>) -> Set {
    Set { key: key.to_vec(), maps_to: None, interval: false, timeout: false, counters: false, elements, comment: None }
}

pub fn element(key: &[Span]) -> Element {
    Element { key: key.to_vec(), to: None, source: None }
}

pub fn marked(key: Span, mark: u32) -> Element {
    Element { key: vec![key], to: Some(Target::Mark(mark)), source: None }
}

pub fn verdict(key: &[Span], verdict: Verdict) -> Element {
    Element { key: key.to_vec(), to: Some(Target::Verdict(verdict)), source: None }
}

pub fn table(sets: Vec<(&str, Set)>, chains: Vec<(&str, Chain)>) -> Ruleset {
    let sets = sets.into_iter().map(|(name, set)| (name.to_owned(), set)).collect::<BTreeMap<_, _>>();
    let chains = chains.into_iter().map(|(name, chain)| (name.to_owned(), chain)).collect::<BTreeMap<_, _>>();
    Ruleset { tables: vec![Table { name: "portcullis".into(), owned: false, sets, chains }] }
}

pub fn chain(rules: Vec<Rule>) -> Chain {
    Chain { base: None, rules }
}
