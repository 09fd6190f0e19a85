//! Runs of simple rules become one look-up.
//!
//! A simple rule compares addresses, protocol and port with exact values and then accepts or drops. A run of such rules that all look
//! at the same fields is a map from those fields to a verdict: a packet has one key, and the first rule that has this key in its
//! lists is the one that would have decided. Elements keep counter and name of their rule.
//!
//! The look-up stands where the run begins. A later rule joins it only if no packet can match both that rule and
//! another one in between, so that moving it up changes nothing.

use std::collections::BTreeMap;

use crate::ruleset::{Datum, Element, Field, Maps, Op, Operand, Part, Rule, Set, Source, Span, Target, Verdict};

use super::pairs;

/// Fewer rules than this are cheaper to compare one by one.
const RUN: usize = 4;
/// A rule whose lists multiply to more keys than this stays a rule.
const KEYS: usize = 64;

/// Runs that a rule may still join; the older ones are left alone, or long policies would cost time.
const OPEN: usize = 16;

/// The same rules with every run replaced; the maps are added to `sets` and named for the chain.
pub fn collapse(chain: &str, rules: Vec<Rule>, sets: &mut BTreeMap<String, Set>) -> Vec<Rule> {
    let (mut runs, run_of) = runs(&rules);
    let mut maps = 0;
    let mut collapsed = Vec::new();
    for (index, (rule, run)) in rules.into_iter().zip(run_of).enumerate() {
        match run.map(|run| &mut runs[run]).filter(|run| run.rules >= RUN) {
            None => collapsed.push(rule),
            Some(run) if run.first == index => {
                maps += 1;
                let name = format!("map_{chain}_{maps}");
                collapsed.push(look_up(run, name.clone()));
                sets.insert(name, map(std::mem::take(&mut run.simple)));
            }
            Some(_) => {}
        }
    }
    collapsed
}

/// What two rules must have in common to stand in one map.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    /// `meta nfproto`, which guards the look-up.
    family: Option<u8>,
    fields: Vec<Field>,
    counter: bool,
}

/// A rule that is nothing but exact values and a verdict.
#[derive(Debug, Clone)]
struct Simple {
    shape: Shape,
    /// One list for each field.
    values: Vec<Vec<Datum>>,
    verdict: Verdict,
    source: Option<Source>,
}

/// Simple rules of one shape.
struct Run {
    /// Where the first of them stands.
    first: usize,
    rules: usize,
    simple: Vec<Simple>,
    /// What all other rules since the first can match.
    between: Reach,
}

/// The runs, and for each rule the one that it belongs to.
fn runs(rules: &[Rule]) -> (Vec<Run>, Vec<Option<usize>>) {
    let mut runs: Vec<Run> = Vec::new();
    let mut run_of = Vec::with_capacity(rules.len());
    for (index, rule) in rules.iter().enumerate() {
        let reach = Reach::of(rule);
        let oldest = runs.len().saturating_sub(OPEN);
        let run = simple(rule).map(|simple| {
            let joins = |run: &Run| run.simple[0].shape == simple.shape && !run.between.meets(&reach);
            let run = (oldest..runs.len()).rev().find(|run| joins(&runs[*run])).unwrap_or_else(|| {
                runs.push(Run { first: index, rules: 0, simple: Vec::new(), between: Reach::default() });
                runs.len() - 1
            });
            runs[run].rules += 1;
            runs[run].simple.push(simple);
            run
        });
        for (other, passed) in runs.iter_mut().enumerate().skip(oldest) {
            if Some(other) != run {
                passed.between.add(&reach);
            }
        }
        run_of.push(run);
    }
    (runs, run_of)
}

/// The packets that a rule can match at most: a bit for each protocol, by family.
#[derive(Debug, Clone, Copy, Default)]
struct Reach([[u128; 2]; 2]);

impl Reach {
    fn of(rule: &Rule) -> Self {
        let protocols = protocols(rule);
        let of_family = |number| if family(rule).is_none_or(|family| family == number) { protocols } else { [0; 2] };
        Reach([of_family(2), of_family(10)])
    }

    fn meets(&self, other: &Reach) -> bool {
        self.0.iter().flatten().zip(other.0.iter().flatten()).any(|(one, other)| one & other != 0)
    }

    fn add(&mut self, other: &Reach) {
        self.0.iter_mut().flatten().zip(other.0.iter().flatten()).for_each(|(one, other)| *one |= other);
    }
}

/// The protocols that the rule names; without a list of single ones, all.
fn protocols(rule: &Rule) -> [u128; 2] {
    let named = rule.parts.iter().find_map(|part| match part {
        Part::Match { field: Field::L4Proto, op: Op::Eq, to } => exact(to),
        _ => None,
    });
    let Some(named) = named else { return [u128::MAX; 2] };
    let mut bits = [0; 2];
    for datum in named {
        match datum {
            Datum::Byte(number) => bits[usize::from(number >> 7)] |= 1 << (number & 127),
            _ => return [u128::MAX; 2],
        }
    }
    bits
}

/// The one family that the rule is for.
fn family(rule: &Rule) -> Option<u8> {
    rule.parts.iter().find_map(|part| match part {
        Part::Match { field: Field::NfProto, op: Op::Eq, to: Operand::One(Span::One(Datum::Byte(family))) } => Some(*family),
        _ => None,
    })
}

fn simple(rule: &Rule) -> Option<Simple> {
    let (last, parts) = rule.parts.split_last()?;
    let Part::Verdict(verdict @ (Verdict::Accept | Verdict::Drop)) = last else { return None };
    let mut shape = Shape { family: None, fields: Vec::new(), counter: false };
    let mut values = Vec::new();
    for part in parts {
        match part {
            Part::Counter => shape.counter = true,
            Part::Match { field: Field::NfProto, .. } => shape.family = family(rule).filter(|_| shape.fields.is_empty()),
            Part::Match { field, op: Op::Eq, to } if is_key(*field) && !shape.fields.contains(field) => {
                shape.fields.push(*field);
                values.push(exact(to)?);
            }
            _ => return None,
        }
    }
    let keys = values.iter().try_fold(1usize, |product, values| product.checked_mul(values.len()));
    let family_is_settled = shape.family == family(rule);
    let is_small = keys.is_some_and(|keys| keys <= KEYS);
    (!shape.fields.is_empty() && family_is_settled && is_small).then(|| Simple {
        shape,
        values,
        verdict: verdict.clone(),
        source: rule.source.clone(),
    })
}

fn is_key(field: Field) -> bool {
    matches!(field, Field::Ip4Saddr | Field::Ip4Daddr | Field::Ip6Saddr | Field::Ip6Daddr | Field::L4Proto | Field::Dport)
}

/// The values one by one, if they are few.
fn exact(operand: &Operand) -> Option<Vec<Datum>> {
    let spans = match operand {
        Operand::One(span) => std::slice::from_ref(span),
        Operand::Any(spans) => spans,
    };
    let mut values = Vec::new();
    for span in spans {
        match span {
            Span::One(datum) => values.push(*datum),
            Span::Range(first, last) => values.extend(between(*first, *last)?),
            Span::Prefix(..) => return None,
        }
    }
    (values.len() <= KEYS).then_some(values)
}

fn between(first: Datum, last: Datum) -> Option<Vec<Datum>> {
    match (first, last) {
        (Datum::Port(first), Datum::Port(last)) if usize::from(last - first) < KEYS => Some((first..=last).map(Datum::Port).collect()),
        (Datum::V4(first), Datum::V4(last)) if ((last.to_bits() - first.to_bits()) as usize) < KEYS => {
            Some((first.to_bits()..=last.to_bits()).map(|bits| Datum::V4(bits.into())).collect())
        }
        _ => None,
    }
}

fn look_up(run: &Run, map: String) -> Rule {
    let shape = &run.simple[0].shape;
    let family =
        shape.family.map(|family| Part::Match { field: Field::NfProto, op: Op::Eq, to: Operand::One(Span::One(Datum::Byte(family))) });
    let parts: Vec<Part> = family.into_iter().chain([Part::VerdictMap { fields: shape.fields.clone(), map }]).collect();
    Rule::of(parts).because(pairs::count(run.rules))
}

fn map(simple: Vec<Simple>) -> Set {
    let shape = simple[0].shape.clone();
    let mut elements: BTreeMap<Vec<Span>, (Target, Option<Source>)> = BTreeMap::new();
    for rule in simple {
        for key in product(&rule.values) {
            // The first rule that has the key decides; a later one is never reached with it.
            elements.entry(key).or_insert_with(|| (Target::Verdict(rule.verdict.clone()), rule.source.clone()));
        }
    }
    let element = |(key, (to, source))| Element { key, to: Some(to), source };
    Set {
        key: shape.fields,
        maps_to: Some(Maps::Verdict),
        interval: false,
        timeout: false,
        counters: shape.counter,
        elements: elements.into_iter().map(element).collect(),
        comment: None,
    }
}

fn product(values: &[Vec<Datum>]) -> Vec<Vec<Span>> {
    let mut keys = vec![Vec::new()];
    for values in values {
        keys =
            keys.iter().flat_map(|key| values.iter().map(move |value| key.iter().copied().chain([Span::One(*value)]).collect())).collect();
    }
    keys
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::Origin;

    /// What a simple rule can look at. The worlds are small, so that keys meet.
    #[derive(Debug, Clone, Copy)]
    struct Packet {
        family: u8,
        source: u8,
        destination: u8,
        protocol: u8,
        port: u16,
    }

    /// A rule's family, its lists, and what else it says.
    #[derive(Debug, Clone)]
    struct Said {
        family: Option<u8>,
        sources: Vec<u8>,
        destinations: Vec<u8>,
        protocols: Vec<u8>,
        ports: Vec<(u16, u16)>,
        accept: bool,
        counter: bool,
        log: bool,
    }

    fn address(family: u8, number: u8) -> Datum {
        if family == 2 { Datum::V4([10, 0, 0, number].into()) } else { Datum::V6(u128::from(number).into()) }
    }

    fn fields(family: u8) -> (Field, Field) {
        if family == 2 { (Field::Ip4Saddr, Field::Ip4Daddr) } else { (Field::Ip6Saddr, Field::Ip6Daddr) }
    }

    fn rule(index: usize, said: &Said) -> Rule {
        let any = |field, spans: Vec<Span>| (!spans.is_empty()).then_some(Part::Match { field, op: Op::Eq, to: Operand::Any(spans) });
        let mut parts = Vec::new();
        if let Some(family) = said.family {
            parts.push(Part::Match { field: Field::NfProto, op: Op::Eq, to: Operand::One(Span::One(Datum::Byte(family))) });
            let (source, destination) = fields(family);
            let hosts = |hosts: &[u8]| hosts.iter().map(|host| Span::One(address(family, *host))).collect();
            parts.extend(any(source, hosts(&said.sources)));
            parts.extend(any(destination, hosts(&said.destinations)));
        }
        parts.extend(any(Field::L4Proto, said.protocols.iter().map(|protocol| Span::One(Datum::Byte(*protocol))).collect()));
        if !said.protocols.is_empty() {
            let span = |(first, last): &(u16, u16)| Span::Range(Datum::Port(*first), Datum::Port(*last));
            parts.extend(any(Field::Dport, said.ports.iter().map(span).collect()));
        }
        parts.extend(said.log.then_some(Part::Log { prefix: String::new(), group: None }));
        parts.extend(said.counter.then_some(Part::Counter));
        parts.push(Part::Verdict(if said.accept { Verdict::Accept } else { Verdict::Drop }));
        let source = Source { id: format!("rule-{index}"), origin: Origin { file: "a".to_owned(), line: 1 } };
        Rule { parts, source: Some(source), comment: None }
    }

    /// The verdict, the rule that gave it, whether it counted and whether it logged.
    type Outcome = Option<(Verdict, Option<Source>, bool, bool)>;

    /// nftables in miniature: rules in order, parts from left to right.
    fn run(rules: &[Rule], sets: &BTreeMap<String, Set>, packet: Packet) -> Outcome {
        rules.iter().find_map(|rule| {
            let (mut counted, mut logged) = (false, false);
            for part in &rule.parts {
                match part {
                    Part::Match { field, to, .. } => {
                        let datum = value(*field, packet)?;
                        let spans = match to {
                            Operand::One(span) => std::slice::from_ref(span),
                            Operand::Any(spans) => spans,
                        };
                        spans.iter().any(|span| holds(span, datum)).then_some(())?;
                    }
                    Part::Counter => counted = true,
                    Part::Log { .. } => logged = true,
                    Part::Verdict(verdict) => return Some((verdict.clone(), rule.source.clone(), counted, logged)),
                    Part::VerdictMap { fields, map } => {
                        let key: Vec<Span> = fields.iter().map(|field| value(*field, packet).map(Span::One)).collect::<Option<_>>()?;
                        let element = sets[map].elements.iter().find(|element| element.key == key)?;
                        let Some(Target::Verdict(verdict)) = &element.to else { return None };
                        return Some((verdict.clone(), element.source.clone(), sets[map].counters, logged));
                    }
                    other => panic!("unexpected {other:?}"),
                }
            }
            None
        })
    }

    fn value(field: Field, packet: Packet) -> Option<Datum> {
        let (source, destination) = fields(packet.family);
        match field {
            Field::NfProto => Some(Datum::Byte(packet.family)),
            Field::L4Proto => Some(Datum::Byte(packet.protocol)),
            Field::Dport => Some(Datum::Port(packet.port)),
            _ if field == source => Some(address(packet.family, packet.source)),
            _ if field == destination => Some(address(packet.family, packet.destination)),
            _ => None,
        }
    }

    fn holds(span: &Span, datum: Datum) -> bool {
        match span {
            Span::One(one) => *one == datum,
            Span::Range(first, last) => *first <= datum && datum <= *last,
            Span::Prefix(..) => false,
        }
    }

    fn said() -> impl Strategy<Value = Said> {
        let hosts = || prop::collection::vec(0u8..3, 0..3);
        let ports = prop_oneof![
            6 => prop::collection::vec((1u16..4).prop_map(|port| (port, port)), 0..3),
            1 => Just(vec![(1, 3)]),
            1 => Just(vec![(1, 9000)]),
        ];
        let protocols = prop_oneof![3 => Just(vec![6]), 2 => Just(vec![17]), 1 => Just(vec![6, 17]), 1 => Just(vec![])];
        let family = prop_oneof![4 => Just(Some(2)), 3 => Just(Some(10)), 1 => Just(None)];
        (family, hosts(), hosts(), protocols, ports, any::<bool>(), prop::bool::weighted(0.9), prop::bool::weighted(0.05)).prop_map(
            |(family, sources, destinations, protocols, ports, accept, counter, log)| {
                let distinct = |mut list: Vec<u8>| {
                    list.sort_unstable();
                    list.dedup();
                    list
                };
                let (sources, destinations) = (distinct(sources), distinct(destinations));
                Said { family, sources, destinations, protocols, ports, accept, counter, log }
            },
        )
    }

    /// Runs of alike rules, as administrators write them, so that there is something to collapse.
    fn policy() -> impl Strategy<Value = Vec<Said>> {
        let alike = (said(), prop::collection::vec((0u8..3, 1u16..4, any::<bool>()), 1..9)).prop_map(|(one, others)| {
            let vary = |(host, port, accept): (u8, u16, bool)| {
                let mut said = Said { accept, ..one.clone() };
                said.sources.iter_mut().take(1).for_each(|source| *source = host);
                said.sources.truncate(1);
                said.ports.iter_mut().take(1).for_each(|range| *range = (port, port));
                said.ports.truncate(1);
                said
            };
            others.into_iter().map(vary).collect::<Vec<_>>()
        });
        prop::collection::vec(prop_oneof![alike, said().prop_map(|said| vec![said])], 1..8).prop_map(|runs| runs.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Verdict, deciding rule, counter and log of every packet there is in this small world.
        #[test]
        fn collapsed_rules_decide_as_the_rules_themselves(policy in policy()) {
            let rules: Vec<Rule> = policy.iter().enumerate().map(|(index, said)| rule(index, said)).collect();
            let mut sets = BTreeMap::new();
            let collapsed = collapse("chain", rules.clone(), &mut sets);
            for family in [2, 10] {
                for (source, destination) in (0..3).flat_map(|source| (0..3).map(move |destination| (source, destination))) {
                    for (protocol, port) in [(6, 1), (6, 2), (6, 3), (17, 1), (17, 3), (6, 8000), (1, 0)] {
                        let packet = Packet { family, source, destination, protocol, port };
                        prop_assert_eq!(run(&rules, &BTreeMap::new(), packet), run(&collapsed, &sets, packet), "{:?}", packet);
                    }
                }
            }
        }
    }

    #[test]
    fn the_random_policies_do_collapse() {
        use proptest::strategy::ValueTree;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let collapsing = (0..200).filter(|_| {
            let policy = policy().new_tree(&mut runner).unwrap().current();
            let mut sets = BTreeMap::new();
            collapse("chain", policy.iter().enumerate().map(|(index, said)| rule(index, said)).collect(), &mut sets);
            !sets.is_empty()
        });
        assert!(collapsing.count() > 60, "the property is tested on too little");
    }
}
