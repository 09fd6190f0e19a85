//! Which schedules can be open together.

use std::collections::BTreeSet;

use crate::plan::Plan;
use crate::space::{Free, Set, Space};

/// Whether the applier has filled the sets. When it is dead their elements time out, so a permit may be missing at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elements {
    ArePresent,
    MayBeMissing,
}

const WEEK: u16 = 7 * 24 * 60;

/// The minutes at which something opens or closes, and the first.
fn edges(plan: &Plan) -> BTreeSet<u16> {
    let windows = plan.schedules.values().flat_map(|schedule| &schedule.open);
    windows.flat_map(|window| [window.from, window.to % WEEK]).chain([0]).collect()
}

/// Every combination that the week brings, as a condition on the schedules' bits.
pub fn possible(space: &mut Space, plan: &Plan, elements: Elements) -> Set {
    let mut combinations = BTreeSet::new();
    for minute in edges(plan) {
        let open = plan.schedules.values().map(|s| (s.set.clone(), s.open.iter().any(|w| (w.from..w.to).contains(&minute))));
        combinations.insert(open.collect::<Vec<_>>());
    }
    let mut any = Vec::new();
    for combination in combinations {
        let mut all = Set::ALL;
        for (set, open) in combination {
            let bit = space.free(Free::Schedule(set));
            let holds = match (open, elements) {
                (true, Elements::ArePresent) => bit,
                (true, Elements::MayBeMissing) => Set::ALL,
                (false, _) => space.bdd.not(bit),
            };
            all = space.bdd.and(all, holds);
        }
        any.push(all);
    }
    space.bdd.any(&any)
}

/// A minute at which these sets have their element and those have not.
pub fn minute(plan: &Plan, needed: &[(&str, bool)]) -> Option<u16> {
    edges(plan).into_iter().find(|minute| {
        needed.iter().all(|(set, wanted)| {
            let schedule = plan.schedules.values().find(|schedule| schedule.set == *set);
            schedule.is_some_and(|s| s.open.iter().any(|w| (w.from..w.to).contains(minute)) == *wanted)
        })
    })
}
