//! What a chain does, once and for all packets: which of them leave it how.
//!
//! Who is dropped or rejected is not written down: they are those who do not leave otherwise.
//!
//! A chain is summarised without regard to who calls it; callers then cut the summary to their own packets. So a chain that
//! fifty pairs of ports share is worked through once.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::facts::Facts;
use super::fields::{self, Class};
use super::{Free, Set, Space};
use crate::compile::proxy::{MAPPING, MAPPING_SHIFT};
use crate::plan::RouteSelector;
use crate::ruleset::{Datum, Element, Field, Hook, Part, Rule, Span, Table, Target, Verdict};
use crate::simulate::packet::{TCP, UDP};
use crate::simulate::{Exit, Nat, World};

pub type Summary = Rc<BTreeMap<(Exit, Class), Set>>;

pub struct Summaries<'a> {
    world: &'a World<'a>,
    chains: BTreeMap<(String, String, Class), Summary>,
    keys: BTreeMap<(String, String), Set>,
    alike: BTreeMap<(Hook, String), bool>,
    /// For each mapping's bits those of the first that every rule treats the same.
    likenesses: BTreeMap<u32, u32>,
}

/// The kernel allows 16 nested jumps (NFT_JUMP_STACK_SIZE).
const DEEPEST: usize = 16;

/// Where a rule leads those that it matches.
enum End<'r> {
    Next,
    Exit(Exit),
    Verdict(&'r Verdict),
    Map(Vec<(&'r Verdict, Set)>),
}

/// The packets of one class on their way through a chain, and those that left it by the last exit but are not yet recorded:
/// consecutive rules with one verdict are recorded as a single difference.
struct Live {
    set: Set,
    leaving: Option<(Exit, Set)>,
}

#[derive(Default)]
struct Walk {
    live: BTreeMap<Class, Live>,
    /// Those who came back from a jump or got another mark: they are for the next rule, not again for this one.
    arriving: Vec<(Class, Set)>,
    left: BTreeMap<(Exit, Class), Set>,
}

impl<'a> Summaries<'a> {
    pub fn new(world: &'a World<'a>) -> Self {
        Summaries { world, chains: BTreeMap::new(), keys: BTreeMap::new(), alike: BTreeMap::new(), likenesses: likenesses(world) }
    }

    pub fn chain(&mut self, space: &mut Space, facts: &Facts, table: &Table, name: &str, class: Class, depth: usize) -> Summary {
        let key = (table.name.clone(), name.to_owned(), class);
        if let Some(done) = self.chains.get(&key) {
            return done.clone();
        }
        let Some(chain) = table.chains.get(name).filter(|_| depth <= DEEPEST) else {
            return Rc::new(BTreeMap::new());
        };
        let mut walk = Walk::default();
        walk.live.insert(class, Live { set: Set::ALL, leaving: None });
        for (number, rule) in chain.rules.iter().enumerate() {
            let classes: Vec<Class> = walk.live.iter().filter(|(_, live)| !live.set.is_empty()).map(|(class, _)| *class).collect();
            for class in classes {
                for (matched, after, end) in self.rule(space, facts, table, (name, number), rule, class) {
                    self.follow(space, facts, table, &mut walk, class, matched, after, end, depth);
                }
            }
            walk.arrive(space);
        }
        let classes: Vec<Class> = walk.live.keys().copied().collect();
        for class in classes {
            walk.record(space, class);
            let rest = walk.live.get(&class).map_or(Set::EMPTY, |live| live.set);
            walk.leave(space, Exit::Return, class, rest);
        }
        let done = Rc::new(walk.left);
        self.chains.insert(key, done.clone());
        done
    }

    #[expect(clippy::too_many_arguments, reason = "one packet class at one rule has this much context, and only here")]
    fn follow(
        &mut self,
        space: &mut Space,
        facts: &Facts,
        table: &Table,
        walk: &mut Walk,
        class: Class,
        matched: Set,
        after: Class,
        end: End,
        depth: usize,
    ) {
        match end {
            End::Next => walk.reclass(space, class, matched, after),
            End::Exit(exit) => walk.exit(space, class, matched, after, exit),
            End::Verdict(verdict) => match simple(verdict) {
                Ok(exit) => walk.exit(space, class, matched, after, exit),
                Err((target, comes_back)) => {
                    let taken = walk.take(space, class, matched);
                    let summary = self.chain(space, facts, table, target, after, depth + 1);
                    for ((exit, class), set) in summary.iter() {
                        let these = space.bdd.and(taken, *set);
                        match exit {
                            Exit::Return if comes_back => walk.arriving.push((*class, these)),
                            _ => walk.leave(space, *exit, *class, these),
                        }
                    }
                }
            },
            End::Map(verdicts) => {
                for (verdict, set) in verdicts {
                    let these = space.bdd.and(matched, set);
                    if !these.is_empty() {
                        self.follow(space, facts, table, walk, class, these, after, End::Verdict(verdict), depth);
                    }
                }
            }
        }
    }

    /// Once a base chain is behind them, packets of different mappings may be treated alike by all that follows: then they are one class,
    /// and a proof does not take a round for each mapping.
    pub fn forget_whose(&mut self, hook: Hook, behind: (i32, &str), streams: &mut [super::flow::Stream]) {
        let key = (hook, behind.1.to_owned());
        let alike = match self.alike.get(&key) {
            Some(known) => *known,
            None => {
                let alike = routes_ask_only_whether(self.world)
                    && !self.following(hook, behind).iter().any(|rule| rule.parts.iter().any(asks_whose));
                self.alike.insert(key, alike);
                alike
            }
        };
        for mark in streams.iter_mut().filter(|_| alike).flat_map(|stream| [&mut stream.class.mark, &mut stream.class.ct_mark]) {
            if *mark & MAPPING != 0 {
                *mark = *mark & !MAPPING | 1 << MAPPING_SHIFT;
            }
        }
    }

    /// Every rule that a packet can still meet.
    fn following(&self, hook: Hook, (priority, behind): (i32, &str)) -> Vec<&'a Rule> {
        let mut found = Vec::new();
        for next in [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting] {
            for (table, name, base) in self.world.base_chains(next) {
                let passed = next < hook || next == hook && (base.priority < priority || base.priority == priority && name == behind);
                let mut open = if passed { Vec::new() } else { vec![name] };
                let mut seen = BTreeSet::new();
                while let Some(name) = open.pop() {
                    let Some(chain) = table.chains.get(name).filter(|_| seen.insert(name)) else { continue };
                    found.extend(&chain.rules);
                    open.extend(chain.rules.iter().flat_map(|rule| targets(table, rule)));
                }
            }
        }
        found
    }

    /// The packets that a rule matches by itself, whatever stands before it.
    pub fn matched(&mut self, space: &mut Space, facts: &Facts, table: &Table, place: (&str, usize), rule: &Rule) -> Set {
        let found: Vec<Set> =
            self.rule(space, facts, table, place, rule, Class::default()).into_iter().map(|(matched, _, _)| matched).collect();
        space.bdd.any(&found)
    }

    /// Which packets the rule matches, their class after its statements, and where they go. A mark from a map makes several classes of one.
    fn rule<'r>(
        &mut self,
        space: &mut Space,
        facts: &Facts,
        table: &'r Table,
        place: (&str, usize),
        rule: &'r Rule,
        class: Class,
    ) -> Vec<(Set, Class, End<'r>)> {
        let mut found = Vec::new();
        let mut open = vec![(Set::ALL, class, &rule.parts[..])];
        while let Some((matched, class, parts)) = open.pop() {
            let Some((index, fields, map)) = parts.iter().enumerate().find_map(|(index, part)| match part {
                Part::MarkFromMap { fields, map } => Some((index, fields, map)),
                _ => None,
            }) else {
                let (these, after, end) = self.steps(space, facts, table, place, parts, class);
                found.push((space.bdd.and(matched, these), after, end));
                continue;
            };
            let (these, after, _) = self.steps(space, facts, table, place, &parts[..index], class);
            let matched = space.bdd.and(matched, these);
            for (mark, set) in self.marks(space, facts, table, after, fields, map) {
                let these = space.bdd.and(matched, set);
                open.push((these, Class { mark, ..after }, &parts[index + 1..]));
            }
        }
        found.retain(|(matched, _, _)| !matched.is_empty());
        found
    }

    /// The parts of a rule that lead all packets of a class the same way.
    fn steps<'r>(
        &mut self,
        space: &mut Space,
        facts: &Facts,
        table: &'r Table,
        place: (&str, usize),
        parts: &'r [Part],
        class: Class,
    ) -> (Set, Class, End<'r>) {
        let mut matched = Set::ALL;
        let mut after = class;
        for part in parts {
            let step = match part {
                Part::Match { field, op, to } => fields::matches(space, facts, after, *field, *op, to),
                Part::Masked { field, mask, op, value } => fields::masked(space, facts, after, *field, *mask, *op, *value),
                Part::InSet { fields, negate, set } => {
                    let inside = match table.sets.get(set).is_some_and(|set| set.timeout) {
                        true if self.world.schedules.contains_key(set.as_str()) => space.free(Free::Schedule(set.clone())),
                        // Whether there is an element is asked anew for each mark.
                        true => space.free(Free::Permit { set: set.clone(), mark: after.mark }),
                        false => self.set(space, facts, table, after, fields, set),
                    };
                    fields::negated_if(space, facts, *negate, fields, inside)
                }
                Part::VerdictMap { fields, map } => return (matched, after, End::Map(verdicts(space, facts, table, after, fields, map))),
                Part::Limit { over, .. } => {
                    let within = space.free(Free::Limit { chain: place.0.to_owned(), rule: place.1 });
                    if *over { space.bdd.not(within) } else { within }
                }
                Part::SetMark { mask, value } => {
                    after.mark = after.mark & !mask | value;
                    continue;
                }
                Part::SetCtMark { mask, value } => {
                    after.ct_mark = after.ct_mark & !mask | value;
                    continue;
                }
                Part::CtMarkFromMark { mask } => {
                    after.ct_mark = after.mark & mask;
                    continue;
                }
                Part::Tproxy { port } => {
                    let listens = space.free(Free::Listens(*port));
                    let protocols = space.protocols(&[TCP, UDP]);
                    space.bdd.and(listens, protocols)
                }
                Part::MarkFromMap { .. } | Part::Counter | Part::Log { .. } => continue,
                Part::Masquerade => return (matched, after, End::Exit(Exit::Nat(Nat::Masquerade))),
                Part::Snat { to } => return (matched, after, End::Exit(Exit::Nat(Nat::Snat(*to)))),
                Part::Dnat { to } => return (matched, after, End::Exit(Exit::Nat(Nat::Dnat(*to)))),
                Part::Redirect { port } => return (matched, after, End::Exit(Exit::Nat(Nat::Redirect(*port)))),
                Part::Reject(kind) => return (matched, after, End::Exit(Exit::Reject(*kind))),
                Part::Verdict(verdict) => return (matched, after, End::Verdict(verdict)),
            };
            matched = space.bdd.and(matched, step);
            if matched.is_empty() {
                return (matched, class, End::Next);
            }
        }
        (matched, after, End::Next)
    }

    /// Which packets get each mark of a map. A sender's hardware address is not part of the space; whether it is a certain one is a free bit.
    fn marks(
        &self,
        space: &mut Space,
        facts: &Facts,
        table: &Table,
        class: Class,
        fields: &[crate::ruleset::Field],
        map: &str,
    ) -> Vec<(u32, Set)> {
        let mut groups: BTreeMap<u32, Vec<&[crate::ruleset::Span]>> = BTreeMap::new();
        for element in table.sets.get(map).map_or(&[][..], |set| &set.elements) {
            if let Some(Target::Mark(mark)) = &element.to {
                let bits = mark & MAPPING;
                let mark = mark & !MAPPING | self.likenesses.get(&bits).copied().unwrap_or(bits);
                groups.entry(mark).or_default().push(&element.key);
            }
        }
        // Free bits do not exclude each other, as addresses do; a packet goes one way all the same.
        let mut earlier = Set::EMPTY;
        let mut found = Vec::new();
        for (mark, keys) in groups {
            let set = fields::keys(space, facts, class, fields, &keys);
            found.push((mark, space.bdd.minus(set, earlier)));
            earlier = space.bdd.or(earlier, set);
        }
        found
    }

    fn set(&mut self, space: &mut Space, facts: &Facts, table: &Table, class: Class, fields: &[crate::ruleset::Field], name: &str) -> Set {
        let key = (name.to_owned(), format!("{fields:?} {class:?}"));
        if let Some(done) = self.keys.get(&key) {
            return *done;
        }
        let keys: Vec<_> = table.sets.get(name).map_or(&[][..], |set| &set.elements).iter().map(|element| element.key.as_slice()).collect();
        let set = fields::keys(space, facts, class, fields, &keys);
        self.keys.insert(key, set);
        set
    }
}

/// The chains that a rule can lead to.
fn targets<'a>(table: &'a Table, rule: &'a Rule) -> Vec<&'a str> {
    let of = |verdict: &'a Verdict| match verdict {
        Verdict::Jump(to) | Verdict::Goto(to) => Some(to.as_str()),
        _ => None,
    };
    let parts = rule.parts.iter().flat_map(|part| match part {
        Part::Verdict(verdict) => of(verdict).into_iter().collect(),
        Part::VerdictMap { map, .. } => {
            let elements = table.sets.get(map).map_or(&[][..], |map| &map.elements);
            elements
                .iter()
                .filter_map(|element| if let Some(Target::Verdict(verdict)) = &element.to { of(verdict) } else { None })
                .collect()
        }
        _ => Vec::new(),
    });
    parts.collect()
}

/// Whether the bits are the same for all mappings, or ask only whether there is one.
fn asks_only_whether(mask: u32, value: u32) -> bool {
    mask & MAPPING == 0 || mask & MAPPING == MAPPING && value & MAPPING == 0
}

fn routes_ask_only_whether(world: &World) -> bool {
    world.fib.rules.iter().all(|(selector, _)| match selector {
        RouteSelector::FromBox => true,
        RouteSelector::WithoutMark { mask, value } | RouteSelector::Mark { mask, value } => asks_only_whether(*mask, *value),
    })
}

/// Whether packets of two mappings could be told apart, or their marks made different otherwise than by what they are.
fn asks_whose(part: &Part) -> bool {
    let is_mark = |field: &Field| matches!(field, Field::Mark | Field::CtMark);
    match part {
        Part::Match { field, .. } => is_mark(field),
        Part::Masked { field, mask, value, .. } => is_mark(field) && !asks_only_whether(*mask, *value),
        Part::InSet { fields, .. } | Part::VerdictMap { fields, .. } | Part::MarkFromMap { fields, .. } => fields.iter().any(is_mark),
        Part::SetMark { mask, .. } | Part::SetCtMark { mask, .. } | Part::CtMarkFromMark { mask } => !matches!(mask & MAPPING, 0 | MAPPING),
        _ => false,
    }
}

/// Mappings of which every rule asks the same, and gets the same answer, need not be told apart from the beginning: a proof takes as long for a
/// thousand of them as for one. Empty where some rule asks otherwise than by sets of single marks.
fn likenesses(world: &World) -> BTreeMap<u32, u32> {
    let tables = &world.plan.ruleset.tables;
    let parts = || tables.iter().flat_map(|table| table.chains.values()).flat_map(|chain| &chain.rules).flat_map(|rule| &rule.parts);
    let by_sets = |part: &Part| matches!(part, Part::InSet { fields, .. } if fields[..] == [Field::Mark]);
    let asked: BTreeSet<&str> = parts()
        .filter_map(|part| if let Part::InSet { set, .. } = part { Some(set.as_str()).filter(|_| by_sets(part)) } else { None })
        .collect();
    if !routes_ask_only_whether(world) || parts().any(|part| asks_whose(part) && !by_sets(part)) {
        return BTreeMap::new();
    }
    let mut answers: BTreeMap<u32, BTreeSet<(&str, u32)>> = BTreeMap::new();
    for (name, set) in tables.iter().flat_map(|table| &table.sets) {
        for element in &set.elements {
            if let Some(Target::Mark(mark)) = element.to {
                answers.entry(mark & MAPPING).or_default();
            }
            match element.key[..] {
                [Span::One(Datum::Word(mark))] if asked.contains(name.as_str()) => {
                    answers.entry(mark & MAPPING).or_default().insert((name, mark & !MAPPING));
                }
                _ if asked.contains(name.as_str()) => return BTreeMap::new(),
                _ => {}
            }
        }
    }
    let mut first: BTreeMap<BTreeSet<(&str, u32)>, u32> = BTreeMap::new();
    answers.into_iter().filter(|(bits, _)| *bits != 0).map(|(bits, answers)| (bits, *first.entry(answers).or_insert(bits))).collect()
}

/// Which packets each verdict of a map is for.
fn verdicts<'r>(
    space: &mut Space,
    facts: &Facts,
    table: &'r Table,
    class: Class,
    fields: &[crate::ruleset::Field],
    map: &str,
) -> Vec<(&'r Verdict, Set)> {
    let mut groups: BTreeMap<&Verdict, Vec<&Element>> = BTreeMap::new();
    for element in table.sets.get(map).map_or(&[][..], |set| &set.elements) {
        if let Some(Target::Verdict(verdict)) = &element.to {
            groups.entry(verdict).or_default().push(element);
        }
    }
    let mut found = Vec::new();
    for (verdict, elements) in groups {
        let keys: Vec<_> = elements.iter().map(|element| element.key.as_slice()).collect();
        found.push((verdict, fields::keys(space, facts, class, fields, &keys)));
    }
    found
}

/// The exit of a verdict, or the chain to go to and whether it comes back.
fn simple(verdict: &Verdict) -> Result<Exit, (&str, bool)> {
    match verdict {
        Verdict::Accept => Ok(Exit::Accept),
        Verdict::Drop => Ok(Exit::Drop),
        Verdict::Return => Ok(Exit::Return),
        Verdict::Jump(to) => Err((to, true)),
        Verdict::Goto(to) => Err((to, false)),
    }
}

impl Walk {
    fn exit(&mut self, space: &mut Space, class: Class, matched: Set, after: Class, exit: Exit) {
        if after != class {
            let taken = self.take(space, class, matched);
            return self.leave(space, exit, after, taken);
        }
        if self.live.get(&class).is_some_and(|live| live.leaving.is_some_and(|(last, _)| last != exit)) {
            self.record(space, class);
        }
        if let Some(live) = self.live.get_mut(&class) {
            live.leaving.get_or_insert((exit, live.set));
            live.set = space.bdd.minus(live.set, matched);
        }
    }

    /// Writes down who left since the last record.
    fn record(&mut self, space: &mut Space, class: Class) {
        let Some(live) = self.live.get_mut(&class) else { return };
        if let Some((exit, before)) = live.leaving.take().filter(|(exit, _)| !exit.refuses()) {
            let gone = space.bdd.minus(before, live.set);
            self.leave(space, exit, class, gone);
        }
    }

    fn take(&mut self, space: &mut Space, class: Class, matched: Set) -> Set {
        self.record(space, class);
        let Some(live) = self.live.get_mut(&class) else { return Set::EMPTY };
        let taken = space.bdd.and(live.set, matched);
        live.set = space.bdd.minus(live.set, matched);
        taken
    }

    fn arrive(&mut self, space: &mut Space) {
        for (class, set) in std::mem::take(&mut self.arriving) {
            self.record(space, class);
            let live = self.live.entry(class).or_insert(Live { set: Set::EMPTY, leaving: None });
            live.set = space.bdd.or(live.set, set);
        }
    }

    fn reclass(&mut self, space: &mut Space, class: Class, matched: Set, after: Class) {
        if after != class {
            let taken = self.take(space, class, matched);
            self.arriving.push((after, taken));
        }
    }

    fn leave(&mut self, space: &mut Space, exit: Exit, class: Class, set: Set) {
        if exit.refuses() || set.is_empty() {
            return;
        }
        let left = self.left.entry((exit, class)).or_insert(Set::EMPTY);
        *left = space.bdd.or(*left, set);
    }
}
