//! What each AddressSet holds once its includes are followed, and what a list of terms stands for.

use std::collections::BTreeMap;

use super::ranges::{Family, Interval, merge, of_address};
use super::report::Report;
use crate::model::{AddressSet, AddressTerm, Config, Resource};
use crate::name::Name;

/// Intervals of all sets together, includes followed. A few small sets that include each other in layers could otherwise
/// stand for more addresses than the memory holds.
const MOST_INTERVALS: usize = 2_000_000;

/// Every AddressSet with what it includes: sorted and merged, IPv4 before IPv6.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses(BTreeMap<Name, [Vec<Interval>; 2]>);

impl Addresses {
    /// Empty for a set that does not exist.
    pub fn of_set(&self, name: &Name, family: Family) -> &[Interval] {
        self.0.get(name).map_or(&[], |families| &families[family as usize])
    }

    /// All that the terms stand for, merged. No terms stand for every address.
    pub fn of_terms(&self, terms: &[AddressTerm], family: Family) -> Vec<Interval> {
        if terms.is_empty() {
            return vec![family.all()];
        }
        let mut intervals = Vec::new();
        for term in terms {
            match term {
                AddressTerm::Literal(address) => {
                    intervals.extend(Some(of_address(address)).filter(|found| found.0 == family).map(|found| found.1))
                }
                AddressTerm::Set(name) => intervals.extend(self.of_set(name, family)),
            }
        }
        merge(intervals)
    }

    /// Whether the terms stand for any address of the family, without building the list.
    pub fn has_any(&self, terms: &[AddressTerm], family: Family) -> bool {
        terms.is_empty()
            || terms.iter().any(|term| match term {
                AddressTerm::Literal(address) => of_address(address).0 == family,
                AddressTerm::Set(name) => !self.of_set(name, family).is_empty(),
            })
    }

    /// Follows the includes of every set; says which include in a circle.
    pub(super) fn resolve(config: &Config, report: &mut Report) -> Addresses {
        let mut resolved = Addresses::default();
        let mut left = MOST_INTERVALS;
        for name in in_order(config, report) {
            let Some(set) = config.address_sets.get(name) else { continue };
            let members = members(&set.spec, &resolved);
            let Some(rest) = left.checked_sub(members[0].len() + members[1].len()) else {
                report.resource("AddressSet", name, set).say(format!(
                    "with what the sets include, they hold more than {MOST_INTERVALS} addresses and ranges; include less or write prefixes"
                ));
                break;
            };
            left = rest;
            resolved.0.insert(name.clone(), members);
        }
        resolved
    }
}

fn members(set: &AddressSet, resolved: &Addresses) -> [Vec<Interval>; 2] {
    let mut found = [Vec::new(), Vec::new()];
    for address in &set.addresses {
        let (family, interval) = of_address(address);
        found[family as usize].push(interval);
    }
    for family in Family::BOTH {
        for include in &set.include {
            found[family as usize].extend(resolved.of_set(include, family));
        }
    }
    found.map(merge)
}

/// Sets in an order in which each comes after those that it includes. Depth first with a stack of our own: a chain of includes
/// may be longer than the thread's stack is deep.
fn in_order<'c>(config: &'c Config, report: &mut Report) -> Vec<&'c Name> {
    #[derive(PartialEq)]
    enum State {
        Open,
        Done,
    }
    let sets = &config.address_sets;
    let mut state: BTreeMap<&Name, State> = BTreeMap::new();
    let mut order = Vec::with_capacity(sets.len());
    for root in sets.keys() {
        if state.contains_key(root) {
            continue;
        }
        state.insert(root, State::Open);
        let mut path: Vec<(&Name, &Resource<AddressSet>, usize)> = vec![(root, &sets[root], 0)];
        while let Some((name, set, at)) = path.last_mut() {
            let Some(include) = set.spec.include.get(*at) else {
                state.insert(*name, State::Done);
                order.push(*name);
                path.pop();
                continue;
            };
            let here = *at;
            *at += 1;
            match (state.get(include), sets.get_key_value(include)) {
                (None, Some((include, set))) => {
                    state.insert(include, State::Open);
                    path.push((include, set, 0));
                }
                (Some(State::Open), _) => {
                    let circle: Vec<&str> =
                        path.iter().map(|(name, ..)| name.as_str()).skip_while(|name| *name != include.as_str()).collect();
                    let shown = if circle.len() > 8 {
                        format!("{} and {} more", circle[..8].join(" → "), circle.len() - 8)
                    } else {
                        circle.join(" → ")
                    };
                    if let Some((name, set, _)) = path.last() {
                        report
                            .resource("AddressSet", name, set)
                            .index("include", here)
                            .say(format!("sets include each other in a circle: {shown} → {include}; remove one of these includes"));
                    }
                }
                _ => (),
            }
        }
    }
    order
}
