//! What a change means: which new connections pass that did not, and which no longer do.
//!
//! Computed, not guessed: for each pair of zones and each stretch of the week the sets of permitted packets of both plans are
//! subtracted from each other, and what remains is told in services and addresses. A change of the policy that changes
//! nothing for packets says so.

mod carried;
mod pieces;
mod times;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::name::{IfName, Name};
use crate::plan::Plan;
use crate::simulate::{Nat, World};
use crate::space::flow::{Destination, Flow, within_limits};
use crate::space::{IIF, IPV6, OIF, SOURCE_PORT, Set, Space, TCP_FLAGS, openers};

/// The difference between two plans, for packets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    pub changes: Vec<Change>,
    /// `newly carried: mapping desk, by upstream berlin`: what changes for mapped clients and the upstreams that carry them.
    pub carried: Vec<String>,
    /// The comparison would have needed more memory than a gateway should spend on it. Then `changes` is empty.
    pub too_large: bool,
}

/// New connections between two zones that are treated differently now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub what: What,
    /// A zone, or `box`.
    pub from: String,
    pub to: String,
    /// `tcp/22`, `udp/5000-5010`, `icmp/echo-request`; `everything` alone; `and 12 more` last.
    pub services: Vec<String>,
    /// Where only some addresses are concerned: `IPv4`, `from 192.168.2.10`, `to all but 1.1.1.1`.
    pub narrowed: Vec<String>,
    /// `192.168.2.10:443`: what the destination becomes, if it is translated.
    pub becomes: Option<String>,
    /// `daily 18:00-20:00`, where it is not so all week.
    pub when: Option<String>,
    /// It concerns the way in for administrators.
    pub administration: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    NewlyPermitted,
    NoLongerPermitted,
    /// Permitted before and now, and now with another source address: `masqueraded`, `leaving from 203.0.113.9`.
    NowLeaves(String),
    NoLongerLeaves(String),
}

pub fn changes(old: &Plan, new: &Plan) -> Changes {
    let carried = carried::changes(&old.proxy, &new.proxy);
    let mut space = Space::of(&[old, new]);
    let sides = [old, new].map(|plan| Side::of(&mut space, plan));
    let mut found = Vec::new();
    for from in zones(&sides) {
        for to in zones(&sides) {
            if from.is_some() || to.is_some() {
                pair(&mut space, &sides, from.as_ref(), to.as_ref(), &mut found);
            }
        }
        if space.bdd.exhausted() {
            return Changes { changes: Vec::new(), carried, too_large: true };
        }
    }
    found.sort();
    found.dedup();
    Changes { changes: found, carried, too_large: false }
}

/// None is the box.
fn zones(sides: &[Side<'_>; 2]) -> BTreeSet<Option<Name>> {
    sides.iter().flat_map(|side| side.plan.zones.keys().cloned().map(Some)).chain([None]).collect()
}

/// One of the two plans.
struct Side<'a> {
    plan: &'a Plan,
    /// Permitted openers by what the destination becomes, and by how the source leaves.
    permitted: BTreeMap<Target, Set>,
    leaving: BTreeMap<Nat, Set>,
    /// Everything that could be sent and routed, permitted or not: what "everything" means.
    possible: Set,
    /// What the rules for administrators let in.
    administration: Set,
}

/// What the destination becomes; `AsSent` without a port if nothing.
type Target = (Destination, Option<u16>);

impl<'a> Side<'a> {
    fn of(space: &mut Space, plan: &'a Plan) -> Self {
        let world = World::of(plan, None);
        let flow = Flow::of(space, &world);
        let openers = openers(space, &flow.facts);
        let (mut permitted, mut leaving) = (BTreeMap::new(), BTreeMap::new());
        for stream in flow.permitted.iter().filter(|stream| !stream.carried()) {
            let set = space.bdd.and(stream.set, openers);
            let set = within_limits(space, set);
            let set = plainly(space, set);
            let entry = permitted.entry((stream.destination, stream.port)).or_insert(Set::EMPTY);
            *entry = space.bdd.or(*entry, set);
            if let Some(nat) = stream.source {
                let entry = leaving.entry(nat).or_insert(Set::EMPTY);
                *entry = space.bdd.or(*entry, set);
            }
        }
        let to_box = space.the_box(OIF);
        let deliverable = space.bdd.or(to_box, flow.facts.forwardable);
        let possible = space.and(&[flow.admitted, flow.routes_as_sent, openers, flow.facts.possible, deliverable]);
        let possible = space.bdd.minus(possible, flow.odd);
        let possible = plainly(space, possible);
        let administration = flow.administration(space, &world);
        let administration = plainly(space, administration);
        Side { plan, permitted, leaving, possible, administration }
    }

    /// From one zone to another, whichever of their ports are used.
    fn between(&self, space: &mut Space, set: Set, from: Option<&Name>, to: Option<&Name>) -> Set {
        let end = |space: &mut Space, at, zone: Option<&Name>| match zone {
            None => space.the_box(at),
            Some(zone) => {
                let none: BTreeSet<IfName> = BTreeSet::new();
                space.ports(at, self.plan.zones.get(zone).unwrap_or(&none))
            }
        };
        let (from, to) = (end(space, IIF, from), end(space, OIF, to));
        let set = space.and(&[set, from, to]);
        space.forget(set, IIF, IPV6)
    }
}

/// Without what nobody writes rules about: flags and source ports.
fn plainly(space: &mut Space, set: Set) -> Set {
    let set = space.forget(set, TCP_FLAGS, TCP_FLAGS + 8);
    space.forget(set, SOURCE_PORT, SOURCE_PORT + 16)
}

fn pair(space: &mut Space, sides: &[Side<'_>; 2], from: Option<&Name>, to: Option<&Name>, found: &mut Vec<Change>) {
    let targets: BTreeSet<Target> = sides.iter().flat_map(|side| side.permitted.keys().copied()).collect();
    let possible = [0, 1].map(|side: usize| sides[side].between(space, sides[side].possible, from, to));
    let mut both = Set::EMPTY;
    for target in targets {
        let sets = [0, 1].map(|side: usize| {
            let all = sides[side].permitted.get(&target).copied().unwrap_or(Set::EMPTY);
            sides[side].between(space, all, from, to)
        });
        let common = space.bdd.and(sets[0], sets[1]);
        both = space.bdd.or(both, common);
        if sets[0] == sets[1] && sides[0].plan.schedules == sides[1].plan.schedules {
            continue;
        }
        for (what, now, before) in [(What::NewlyPermitted, 1, 0), (What::NoLongerPermitted, 0, 1)] {
            let becomes = words::target(target);
            let told = Telling { what, from, to, becomes, possible: possible[now] };
            for (when, set) in times::differences(space, sides[now].plan, sets[now], sides[before].plan, sets[before]) {
                let way_in = if to.is_none() { sides[now].between(space, sides[now].administration, from, to) } else { Set::EMPTY };
                let administration = space.bdd.and(set, way_in);
                let rest = space.bdd.minus(set, way_in);
                found.extend(told.tell(space, administration, when.clone(), true));
                found.extend(told.tell(space, rest, when, false));
            }
        }
    }
    let nats: BTreeSet<Nat> = sides.iter().flat_map(|side| side.leaving.keys().copied()).collect();
    for nat in nats {
        let sets = [0, 1].map(|side: usize| {
            let all = sides[side].leaving.get(&nat).copied().unwrap_or(Set::EMPTY);
            sides[side].between(space, all, from, to)
        });
        let words = words::nat(nat);
        for (what, now, before) in [(What::NowLeaves(words.clone()), 1, 0), (What::NoLongerLeaves(words.clone()), 0, 1)] {
            let told = Telling { what, from, to, becomes: None, possible: possible[now] };
            for (when, set) in times::differences(space, sides[now].plan, sets[now], sides[before].plan, sets[before]) {
                let set = space.bdd.and(set, both);
                found.extend(told.tell(space, set, when, false));
            }
        }
    }
}

/// What all changes of one kind between two zones have in common.
struct Telling<'a> {
    what: What,
    from: Option<&'a Name>,
    to: Option<&'a Name>,
    becomes: Option<String>,
    possible: Set,
}

impl Telling<'_> {
    fn tell(&self, space: &mut Space, set: Set, when: Option<String>, administration: bool) -> Vec<Change> {
        let end = |zone: Option<&Name>| zone.map_or("box".to_owned(), |zone| zone.to_string());
        let one = |(services, narrowed)| Change {
            what: self.what.clone(),
            from: end(self.from),
            to: end(self.to),
            services,
            narrowed,
            becomes: self.becomes.clone(),
            when: when.clone(),
            administration,
        };
        words::told(space, set, self.possible).into_iter().map(one).collect()
    }
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.carried.is_empty() && !self.too_large
    }
}

/// More lines than anybody reads.
const LINES: usize = 200;

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.carried.iter().take(LINES).try_for_each(|line| writeln!(f, "{line}"))?;
        if self.too_large {
            return writeln!(f, "the policies are too large to be compared by meaning; the text diff shows every line");
        }
        if self.changes.is_empty() && !self.carried.is_empty() {
            return Ok(());
        }
        if self.changes.is_empty() {
            return writeln!(f, "no new connection is treated differently");
        }
        self.changes.iter().take(LINES).try_for_each(|change| writeln!(f, "{change}"))?;
        match self.changes.len().checked_sub(LINES) {
            Some(more) if more > 0 => writeln!(f, "and {more} more"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (&self.from, &self.to);
        match &self.what {
            What::NewlyPermitted => write!(f, "newly permitted: {from} to {to} ")?,
            What::NoLongerPermitted => write!(f, "no longer permitted: {from} to {to} ")?,
            What::NowLeaves(how) => write!(f, "now {how}: {from} to {to} ")?,
            What::NoLongerLeaves(how) => write!(f, "no longer {how}: {from} to {to} ")?,
        }
        f.write_str(&self.services.join(", "))?;
        for narrowed in &self.narrowed {
            write!(f, ", {narrowed}")?;
        }
        if let Some(becomes) = &self.becomes {
            write!(f, ", becomes {becomes}")?;
        }
        if let Some(when) = &self.when {
            write!(f, ", {when}")?;
        }
        if self.administration { f.write_str(" (administration)") } else { Ok(()) }
    }
}

/// An address as people write it beside a port.
fn with_port(address: IpAddr, port: u16) -> String {
    if address.is_ipv6() { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}
