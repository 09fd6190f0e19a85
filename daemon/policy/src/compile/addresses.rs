//! What sources and destinations of a rule become: named sets by reference, literals in line.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::addresses::Addresses;
use crate::check::ranges::{Family, Interval, merge, of_address};
use crate::model::{AddressTerm, Config};
use crate::name::Name;
use crate::ruleset::{Element, Field, Op, Part, Set, Span};

use super::spans::operand;

/// One way in which an address can match. A list in a rule becomes at most one inline list and a named set each.
#[derive(Debug, Clone)]
pub enum Alternative {
    /// Every address of the family.
    All,
    Inline(Vec<Span>),
    Named(String),
}

/// No terms mean every address. No alternatives mean that none of the family can match.
pub fn alternatives(addresses: &Addresses, terms: &[AddressTerm], family: Family) -> Vec<Alternative> {
    if terms.is_empty() {
        return vec![Alternative::All];
    }
    let (mut literals, mut named) = (Vec::new(), BTreeSet::new());
    for term in terms {
        match term {
            AddressTerm::Literal(address) => {
                literals.extend(Some(of_address(address)).filter(|found| found.0 == family).map(|found| found.1))
            }
            AddressTerm::Set(name) if addresses.of_set(name, family).is_empty() => {}
            AddressTerm::Set(name) => _ = named.insert(name),
        }
    }
    let literals = merge(literals);
    if literals == [family.all()] {
        return vec![Alternative::All];
    }
    let inline = if literals.is_empty() { None } else { Some(Alternative::Inline(family.spans(&literals))) };
    inline.into_iter().chain(named.into_iter().map(|name| Alternative::Named(set_name(name, family)))).collect()
}

/// The named sets among `wanted`.
pub fn sets(config: &Config, addresses: &Addresses, wanted: &BTreeSet<String>) -> BTreeMap<String, Set> {
    let mut sets = BTreeMap::new();
    for name in config.address_sets.keys() {
        for family in Family::BOTH {
            let set = set_name(name, family);
            if wanted.contains(&set) {
                sets.insert(set, interval_set(family, addresses.of_set(name, family), None));
            }
        }
    }
    sets
}

/// `a4_offices`, `a6_offices`. Names hold no underscore, so no two sets can be called alike.
fn set_name(name: &Name, family: Family) -> String {
    format!("a{}_{name}", family.digit())
}

pub fn interval_set(family: Family, intervals: &[Interval], comment: Option<String>) -> Set {
    let element = |interval: &Interval| Element { key: vec![family.span(*interval)], to: None, source: None };
    Set {
        key: vec![family.source()],
        maps_to: None,
        interval: true,
        timeout: false,
        counters: false,
        elements: intervals.iter().map(element).collect(),
        comment,
    }
}

/// The match for one alternative; None where there is nothing to compare.
pub fn part(field: Field, alternative: &Alternative) -> Option<Part> {
    match alternative {
        Alternative::All => None,
        Alternative::Inline(spans) => Some(Part::Match { field, op: Op::Eq, to: operand(spans.clone()) }),
        Alternative::Named(set) => Some(Part::InSet { fields: vec![field], negate: false, set: set.clone() }),
    }
}
