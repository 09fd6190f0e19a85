//! A difference that holds only at some times: the sets of both plans at each stretch of the week.

use std::collections::{BTreeMap, BTreeSet};

use crate::explain::week_time;
use crate::plan::Plan;
use crate::space::{FREE, Free, Set, Space, Var};

const DAY: u16 = 24 * 60;
const WEEK: u16 = 7 * DAY;

/// What is in `now` and not in `before`, and when; None where it is so all week.
pub fn differences(space: &mut Space, now_plan: &Plan, now: Set, before_plan: &Plan, before: Set) -> Vec<(Option<String>, Set)> {
    if now == before && now_plan.schedules == before_plan.schedules {
        return Vec::new();
    }
    let mut at: BTreeMap<Set, Vec<(u16, u16)>> = BTreeMap::new();
    let mut known: BTreeMap<(BTreeSet<&str>, BTreeSet<&str>), Set> = BTreeMap::new();
    let edges: Vec<u16> = edges(now_plan).union(&edges(before_plan)).copied().collect();
    for (number, minute) in edges.iter().enumerate() {
        let until = edges.get(number + 1).copied().unwrap_or(WEEK);
        let open = (open(now_plan, *minute), open(before_plan, *minute));
        let difference = match known.get(&open) {
            Some(set) => *set,
            None => {
                let (then, there) = (at_time(space, now, &open.0), at_time(space, before, &open.1));
                let difference = space.bdd.minus(then, there);
                known.insert(open, difference);
                difference
            }
        };
        let stretches = at.entry(difference).or_default();
        match stretches.last_mut() {
            Some(last) if last.1 == *minute => last.1 = until,
            _ => stretches.push((*minute, until)),
        }
    }
    let all_week = at.len() == 1;
    at.into_iter().filter(|(set, _)| !set.is_empty()).map(|(set, stretches)| ((!all_week).then(|| words(&stretches)), set)).collect()
}

fn edges(plan: &Plan) -> BTreeSet<u16> {
    let windows = plan.schedules.values().flat_map(|schedule| &schedule.open);
    windows.flat_map(|window| [window.from, window.to % WEEK]).chain([0]).collect()
}

fn open(plan: &Plan, minute: u16) -> BTreeSet<&str> {
    let open = plan.schedules.values().filter(|schedule| schedule.open.iter().any(|w| (w.from..w.to).contains(&minute)));
    open.map(|schedule| schedule.set.as_str()).collect()
}

fn at_time(space: &mut Space, set: Set, open: &BTreeSet<&str>) -> Set {
    let bits: BTreeMap<_, _> = space
        .free_bits()
        .filter_map(|(var, free)| if let Free::Schedule(name) = free { Some((var, open.contains(name.as_str()))) } else { None })
        .collect();
    space.bdd.restrict(set, &(FREE..Var::MAX), &|var| bits.get(&var).copied())
}

/// `daily 18:00-20:00`, `mon 18:00-20:00 and tue 18:00-20:00`
fn words(stretches: &[(u16, u16)]) -> String {
    // A stretch that runs over Sunday's end goes on with the week's first.
    let mut stretches = stretches.to_vec();
    if let (Some(first), Some(last)) = (stretches.first().copied(), stretches.last().copied())
        && stretches.len() > 1
        && first.0 == 0
        && last.1 == WEEK
    {
        stretches.remove(0);
        if let Some(last) = stretches.last_mut() {
            last.1 = WEEK + first.1;
        }
    }
    let clock = |minute: u16| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    let times: BTreeSet<(u16, u16)> = stretches.iter().map(|(from, to)| (from % DAY, to - from)).collect();
    if let (7, [(from, length)]) = (stretches.len(), &times.iter().copied().collect::<Vec<_>>()[..]) {
        return format!("daily {}-{}", clock(*from), clock(from + length));
    }
    let shown: Vec<String> =
        stretches.iter().take(3).map(|(from, to)| format!("{} to {}", week_time(*from), week_time(to % WEEK))).collect();
    let more = if stretches.len() > 3 { format!(" and {} more", stretches.len() - 3) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
