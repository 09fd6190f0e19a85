//! What the kernel holds, as nft would list it, with live counters. Decoded from the dump, so that a stranger's rule shows too.

use std::collections::BTreeMap;

use policy::messages::Tally;
use policy::ruleset::{Base, BasePolicy, Chain, ChainKind, Field, Hook, Maps, Rule, Ruleset, Set, Table};

use super::decode;
use super::facts::{BaseFacts, Facts, Live, SetShape, TableFacts, is_anonymous};
use super::set::{INTERVAL, Shape, TIMEOUT, VERDICTS};
use super::table::{OWNER, PERSIST};

pub fn of(facts: &Facts) -> String {
    facts.tables.iter().map(|(name, table)| table_text(name, table)).collect()
}

/// What the lines of one block have to tell besides what they say.
enum Block<'a> {
    Other,
    Elements(std::vec::IntoIter<Live>),
    Rules(Box<dyn Iterator<Item = Option<Tally>> + 'a>),
}

/// The ruleset's own text, line by line, with the figures put in: one line is one element or one rule.
fn table_text(name: &str, held: &TableFacts) -> String {
    let (table, lives) = decoded(name, held);
    let mut out = String::new();
    let mut block = Block::Other;
    let text = Ruleset { tables: vec![table] }.to_string();
    for line in text.lines() {
        let opened = line.strip_prefix('\t').and_then(|line| line.strip_suffix(" {")).and_then(|line| line.split_once(' '));
        let is_rule = line.starts_with("\t\t") && !line.starts_with("\t\ttype ");
        match (&mut block, opened) {
            (_, Some(("set" | "map", set))) => block = Block::Elements(lives.get(set).cloned().unwrap_or_default().into_iter()),
            (_, Some(("chain", chain))) => {
                let rules = held.chains.get(chain).into_iter().flat_map(|chain| &chain.rules);
                block = Block::Rules(Box::new(rules.map(|rule| rule.tally)));
            }
            (Block::Elements(lives), _) if line.starts_with("\t\t\t") => {
                out += &element_line(line, lives.next().unwrap_or_default());
                out.push('\n');
                continue;
            }
            (Block::Rules(tallies), _) if is_rule => {
                out += &rule_line(line, tallies.next().flatten());
                out.push('\n');
                continue;
            }
            _ => {}
        }
        out += line;
        out.push('\n');
        if line.starts_with("table ") {
            out += flags_line(held.flags);
        }
    }
    out
}

fn flags_line(flags: u32) -> &'static str {
    match flags & (OWNER | PERSIST) {
        0 => "",
        OWNER => "\tflags owner\n\n",
        PERSIST => "\tflags persist\n\n",
        _ => "\tflags owner,persist\n\n",
    }
}

fn rule_line(line: &str, tally: Option<Tally>) -> String {
    let Some(tally) = tally else { return line.to_owned() };
    let mut quoted = false;
    for (at, character) in line.char_indices() {
        quoted ^= character == '"';
        let rest = &line[at..];
        if !quoted && rest.starts_with("counter") && line[..at].ends_with([' ', '\t']) {
            let (before, after) = line.split_at(at + "counter".len());
            return format!("{before} packets {} bytes {}{after}", tally.packets, tally.bytes);
        }
    }
    line.to_owned()
}

fn element_line(line: &str, live: Live) -> String {
    let end = [" comment \"", " : "].iter().filter_map(|mark| line.find(mark)).min().unwrap_or_else(|| line.trim_end_matches(',').len());
    let (key, rest) = line.split_at(end);
    let counter = live.tally.map_or_else(String::new, |tally| format!(" counter packets {} bytes {}", tally.packets, tally.bytes));
    let expires = live.expires.map_or_else(String::new, |millis| format!(" expires {}s", millis.div_ceil(1000)));
    format!("{key}{expires}{counter}{rest}")
}

/// The table in the ruleset's terms, and what is live of each set's elements, in the order of the text.
fn decoded(name: &str, held: &TableFacts) -> (Table, BTreeMap<String, Vec<Live>>) {
    let mut lives = BTreeMap::new();
    let mut sets = BTreeMap::new();
    for (name, set) in held.sets.iter().filter(|(name, _)| !is_anonymous(name)) {
        let shape = shape(&set.shape);
        let (mut elements, mut live) = (Vec::new(), Vec::new());
        for (mut element, facts) in decode::elements(&shape, &set.elements).unwrap_or_default() {
            element.source = facts.comment.map(policy_source);
            elements.push(element);
            live.push(facts.live);
        }
        lives.insert(name.clone(), live);
        let Shape { fields: key, interval, maps_to, timeout, counters } = shape;
        sets.insert(name.clone(), Set { key, maps_to, interval, timeout, counters, elements, comment: set.shape.comment.clone() });
    }
    let rule = |rule: &super::facts::RuleFacts| match decode::parts(&rule.expressions, &held.sets) {
        Ok(parts) => Rule { parts, source: None, comment: rule.comment.clone() },
        Err(strange) => Rule::of([]).because(format!("a rule with a {strange} that Portcullis does not write")),
    };
    let chains = held.chains.iter().map(|(name, chain)| {
        let rules = chain.rules.iter().map(rule).collect();
        (name.clone(), Chain { base: chain.base.as_ref().and_then(base), rules })
    });
    (Table { name: name.to_owned(), owned: false, sets, chains: chains.collect() }, lives)
}

/// The text encoder writes an element's source as its comment.
fn policy_source(id: String) -> policy::ruleset::Source {
    policy::ruleset::Source { id, origin: policy::source::Origin { file: String::new(), line: 0 } }
}

fn base(base: &BaseFacts) -> Option<Base> {
    const HOOKS: [Hook; 5] = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
    Some(Base {
        kind: if base.kind == "nat" { ChainKind::Nat } else { ChainKind::Filter },
        hook: *HOOKS.get(base.hook as usize)?,
        priority: base.priority,
        policy: if base.policy == libc::NF_DROP as u32 { BasePolicy::Drop } else { BasePolicy::Accept },
    })
}

/// From nft's type numbers, six bits to a field.
fn shape(held: &SetShape) -> Shape {
    let mut fields: Vec<Field> = (0..5).rev().map(|place| held.key_kind >> (6 * place) & 0x3f).filter_map(field).collect();
    if fields.is_empty() {
        fields.push(Field::Mark);
    }
    let maps_to = held.data_kind.map(|kind| if kind == VERDICTS { Maps::Verdict } else { Maps::Mark });
    Shape { fields, interval: held.flags & INTERVAL != 0, maps_to, timeout: held.flags & TIMEOUT != 0, counters: held.counters }
}

/// Some field of that type: they all look alike in a set.
fn field(kind: u32) -> Option<Field> {
    const ONE_OF_EACH: [Field; 16] = [
        Field::NfProto,
        Field::Ip4Saddr,
        Field::Ip6Saddr,
        Field::L4Proto,
        Field::Dport,
        Field::Icmp4Type,
        Field::TcpFlags,
        Field::Mark,
        Field::SkUid,
        Field::CtState,
        Field::CtStatus,
        Field::Icmp6Type,
        Field::PktType,
        Field::FibDaddrType,
        Field::IifName,
        Field::EtherSaddr,
    ];
    ONE_OF_EACH.into_iter().find(|field| super::field::form(*field).kind == kind)
}
