//! Runs of simple rules become one look-up.
//!
//! A simple rule compares addresses, protocol and port with exact values and then accepts or drops. A run of such rules that all look
//! at the same fields is a map from those fields to a verdict: a packet has one key, and the first rule that has this key in its
//! lists is the one that would have decided. Elements keep counter and name of their rule.

use std::collections::BTreeMap;

use super::pairs;
use crate::ruleset::{Datum, Element, Field, Maps, Op, Operand, Part, Rule, Set, Source, Span, Target, Verdict};

/// Fewer rules than this are cheaper to compare one by one.
const RUN: usize = 4;
/// A rule whose lists multiply to more keys than this stays a rule.
const KEYS: usize = 64;

/// The same rules with every run replaced; the maps are added to `sets` and named for the chain.
pub fn collapse(chain: &str, rules: Vec<Rule>, sets: &mut BTreeMap<String, Set>) -> Vec<Rule> {
    let mut maps = 0;
    let mut collapsed = Vec::new();
    for run in runs(rules) {
        if run.simple.len() < RUN {
            collapsed.extend(run.rules);
            continue;
        }
        maps += 1;
        let name = format!("map_{chain}_{maps}");
        collapsed.push(look_up(&run, name.clone()));
        sets.insert(name, map(run));
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

/// Rules that follow each other. When they are simple, `simple` says the same as `rules`.
#[derive(Debug, Default)]
struct Run {
    rules: Vec<Rule>,
    simple: Vec<Simple>,
}

/// Rules of different families never match the same packet, so a run of IPv4 rules goes on across IPv6 rules between them.
fn runs(rules: Vec<Rule>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut open: BTreeMap<Option<u8>, usize> = BTreeMap::new();
    for rule in rules {
        let simple = simple(&rule);
        let family = family(&rule);
        if family.is_none() {
            open.retain(|family, _| family.is_none());
        } else {
            open.remove(&None);
        }
        let continued = open.get(&family).copied().filter(|run| {
            let before = runs[*run].simple.last().map(|simple| &simple.shape);
            before.is_some() && before == simple.as_ref().map(|simple| &simple.shape)
        });
        let run = continued.unwrap_or_else(|| {
            runs.push(Run::default());
            runs.len() - 1
        });
        open.insert(family, run);
        runs[run].rules.push(rule);
        runs[run].simple.extend(simple);
    }
    runs
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
    Rule::of(parts).because(pairs::count(run.simple.len()))
}

fn map(run: Run) -> Set {
    let shape = run.simple[0].shape.clone();
    let mut elements: BTreeMap<Vec<Span>, (Target, Option<Source>)> = BTreeMap::new();
    for rule in run.simple {
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
