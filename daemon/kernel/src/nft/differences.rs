//! Whether the kernel holds what was meant, and where not.

use std::collections::{BTreeMap, BTreeSet};

use policy::ruleset::{Ruleset, Table};

use super::decode;
use super::facts::{BaseFacts, ChainFacts, ElementFacts, Facts, SetFacts, TableFacts, is_anonymous};
use super::set::Shape;
use crate::Difference;

/// At most this many findings for each set: a flushed set of 100,000 elements is one piece of news.
const ELEMENTS_NAMED: usize = 5;

pub fn between(ruleset: &Ruleset, meant: &Facts, held: &Facts) -> Vec<Difference> {
    let mut found = Findings(Vec::new());
    for table in &ruleset.tables {
        let what = format!("table inet {}", table.name);
        match (meant.tables.get(&table.name), held.tables.get(&table.name)) {
            (Some(meant), Some(held)) => found.in_table(&what, table, meant, held),
            _ => found.add(what, "present", "absent"),
        }
    }
    found.0
}

struct Findings(Vec<Difference>);

impl Findings {
    fn add(&mut self, what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) {
        self.0.push(Difference { what: what.into(), expected: expected.into(), found: found.into() });
    }

    fn in_table(&mut self, what: &str, table: &Table, meant: &TableFacts, held: &TableFacts) {
        if meant.flags != held.flags {
            self.add(what, flag_words(meant.flags), flag_words(held.flags));
        }
        for name in named(&meant.sets, &held.sets) {
            let what = format!("{what}, set {name}");
            match (meant.sets.get(name), held.sets.get(name)) {
                (Some(meant), Some(held)) => self.in_set(&what, table, name, meant, held),
                (meant, _) => self.presence(what, meant.is_some()),
            }
        }
        for name in named(&meant.chains, &held.chains) {
            let what = format!("{what}, chain {name}");
            match (meant.chains.get(name), held.chains.get(name)) {
                (Some(meant), Some(chain)) => self.in_chain(&what, table, name, (meant, chain), held),
                (meant, _) => self.presence(what, meant.is_some()),
            }
        }
    }

    fn in_chain(&mut self, what: &str, table: &Table, name: &str, (meant, held): (&ChainFacts, &ChainFacts), held_table: &TableFacts) {
        if meant.base != held.base {
            self.add(what, base_words(&meant.base), base_words(&held.base));
        }
        if meant.rules.len() != held.rules.len() {
            self.add(what, format!("{} rules", meant.rules.len()), format!("{} rules", held.rules.len()));
        }
        for index in 0..meant.rules.len().max(held.rules.len()) {
            let (expected, found) = (meant.rules.get(index), held.rules.get(index));
            if matches!((expected, found), (Some(one), Some(other)) if one.does == other.does && one.comment == other.comment) {
                continue;
            }
            let rule = table.chains.get(name).and_then(|chain| chain.rules.get(index));
            let source = rule.and_then(|rule| rule.source.as_ref()).map_or_else(String::new, |source| format!(" ({})", source.id));
            let found = found.map_or_else(|| "no rule".to_owned(), |found| decode::rule_text(found, &held_table.sets));
            self.add(format!("{what}, rule {}{source}", index + 1), rule.map_or_else(|| "no rule".to_owned(), ToString::to_string), found);
            if meant.rules.len() != held.rules.len() {
                // What follows is shifted, and would be named again and again.
                break;
            }
        }
    }

    fn in_set(&mut self, what: &str, table: &Table, name: &str, meant: &SetFacts, held: &SetFacts) {
        if meant.shape != held.shape {
            self.add(what, format!("{:?}", meant.shape), format!("{:?}", held.shape));
            return;
        }
        let Some(set) = table.sets.get(name).filter(|set| !set.timeout) else { return };
        let mut meant: Vec<&ElementFacts> = meant.elements.iter().collect();
        let mut held: Vec<&ElementFacts> = held.elements.iter().collect();
        meant.sort_unstable();
        held.sort_unstable();
        if meant == held {
            return;
        }
        let shape = Shape::from(set);
        let (meant, held): (BTreeSet<_>, BTreeSet<_>) = (meant.into_iter().collect(), held.into_iter().collect());
        for (elements, expected, found) in [(meant.difference(&held), "present", "absent"), (held.difference(&meant), "absent", "present")]
        {
            let elements: Vec<_> = elements.collect();
            for element in elements.iter().take(ELEMENTS_NAMED) {
                self.add(format!("{what}, element {}", decode::element_text(&shape, element)), expected, found);
            }
            if elements.len() > ELEMENTS_NAMED {
                self.add(format!("{what}, {} more elements", elements.len() - ELEMENTS_NAMED), expected, found);
            }
        }
    }

    fn presence(&mut self, what: String, meant: bool) {
        let (expected, found) = if meant { ("present", "absent") } else { ("absent", "present") };
        self.add(what, expected, found);
    }
}

/// Sets that belong to a rule are compared with the rule.
fn named<'a, T>(meant: &'a BTreeMap<String, T>, held: &'a BTreeMap<String, T>) -> BTreeSet<&'a str> {
    meant.keys().chain(held.keys()).map(String::as_str).filter(|name| !is_anonymous(name)).collect()
}

pub fn flag_words(flags: u32) -> String {
    match flags {
        0 => "no flags".to_owned(),
        2 => "flags owner".to_owned(),
        4 => "flags persist (its owner is gone)".to_owned(),
        6 => "flags owner, persist".to_owned(),
        other => format!("flags {other:#x}"),
    }
}

pub fn base_words(base: &Option<BaseFacts>) -> String {
    const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];
    let Some(base) = base else { return "not called by the kernel".to_owned() };
    let hook = HOOKS.get(base.hook as usize).copied().unwrap_or("ingress");
    let policy = if base.policy == libc::NF_DROP as u32 { "drop" } else { "accept" };
    format!("type {} hook {hook} priority {}; policy {policy};", base.kind, base.priority)
}
