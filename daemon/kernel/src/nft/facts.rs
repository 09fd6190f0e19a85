//! What nf_tables messages say, in one form for those that we would send and those that the kernel dumps.
//!
//! Handles, counters, ids and sizes differ from load to load and are left out; everything that decides about a packet
//! stays, byte for byte. Anonymous sets have no lasting name and stand, with all they hold, in the rule that uses them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use policy::messages::Tally;

use super::set::{INTERVAL_END, nfta};
use super::{batch, rule, table};
use crate::Error;
use crate::netlink::{Attributes, Messages, Talk, first};

#[derive(Debug, Default)]
pub struct Facts {
    pub tables: BTreeMap<String, TableFacts>,
}

#[derive(Debug, Default)]
pub struct TableFacts {
    pub flags: u32,
    pub chains: BTreeMap<String, ChainFacts>,
    pub sets: BTreeMap<String, SetFacts>,
}

#[derive(Debug, Default)]
pub struct ChainFacts {
    /// None for a chain that only rules lead to.
    pub base: Option<BaseFacts>,
    pub rules: Vec<RuleFacts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseFacts {
    pub kind: String,
    pub hook: u32,
    pub priority: i32,
    pub policy: u32,
}

#[derive(Debug)]
pub struct RuleFacts {
    /// The expressions, canonically; equal exactly when the rules do the same.
    pub does: Vec<u8>,
    /// The expressions as they came, to be decoded for people.
    pub expressions: Vec<u8>,
    pub comment: Option<String>,
    pub source: Option<String>,
    pub tally: Option<Tally>,
}

#[derive(Debug, Default)]
pub struct SetFacts {
    pub shape: SetShape,
    pub elements: Vec<ElementFacts>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetShape {
    pub flags: u32,
    pub key_kind: u32,
    pub key_length: u32,
    /// None for a set, and for a map its data type.
    pub data_kind: Option<u32>,
    /// Lengths of the fields, where ranges stand in several of them.
    pub fields: Vec<u32>,
    pub counters: bool,
    pub default_timeout: u64,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ElementFacts {
    pub key: Vec<u8>,
    pub key_end: Vec<u8>,
    pub flags: u32,
    /// Value or verdict, canonically.
    pub data: Vec<u8>,
    pub comment: Option<String>,
    pub timeout: u64,
    pub live: Live,
}

/// What changes by itself and is not compared: any two are equal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Live {
    pub tally: Option<Tally>,
    /// Milliseconds.
    pub expires: Option<u64>,
}

impl PartialEq for Live {
    fn eq(&self, _: &Live) -> bool {
        true
    }
}
impl Eq for Live {}
impl PartialOrd for Live {
    fn partial_cmp(&self, other: &Live) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Live {
    fn cmp(&self, _: &Live) -> Ordering {
        Ordering::Equal
    }
}

type Tables = BTreeMap<String, TableFacts>;

/// What the kernel holds in these `inet` tables; the elements only of the sets that are `wanted`, for they can be many.
pub fn of_kernel(talk: &mut Talk, tables: &[&str], wanted: &dyn Fn(&SetShape) -> bool) -> Result<Facts, Error> {
    let mut facts = Tables::new();
    for held in table::list(talk, batch::FAMILY)? {
        if tables.contains(&held.name.as_str()) {
            facts.insert(held.name, TableFacts { flags: held.flags, ..TableFacts::default() });
        }
    }
    super::dump(talk, "the chains", libc::NFT_MSG_GETCHAIN, batch::FAMILY, |_| {}, |_, chain| add_chain(&mut facts, chain))?;
    let names: Vec<String> = facts.keys().cloned().collect();
    for name in &names {
        // NFTA_SET_TABLE and NFTA_RULE_TABLE are both 1.
        let of_table = |request: &mut Messages| request.text(1, name);
        super::dump(talk, "the sets", libc::NFT_MSG_GETSET, batch::FAMILY, of_table, |_, set| add_set(&mut facts, set))?;
        for (set, held) in facts.get_mut(name).map(|table| &mut table.sets).into_iter().flatten() {
            if wanted(&held.shape) {
                held.elements = elements_of(talk, name, set)?;
            }
        }
        super::dump(talk, "the rules", libc::NFT_MSG_GETRULE, batch::FAMILY, of_table, |_, rule| add_rule(&mut facts, rule))?;
    }
    Ok(Facts { tables: facts })
}

/// The elements of one set.
pub fn elements_of(talk: &mut Talk, table: &str, set: &str) -> Result<Vec<ElementFacts>, Error> {
    let of_set = |request: &mut Messages| {
        request.text(nfta::ELEMENTS_TABLE, table);
        request.text(nfta::ELEMENTS_SET, set);
    };
    let mut elements = Vec::new();
    super::dump(talk, &format!("the elements of set {set}"), libc::NFT_MSG_GETSETELEM, batch::FAMILY, of_set, |_, list| {
        elements.extend(list.inside(nfta::ELEMENTS).map(|(_, one)| element(Attributes(one))));
    })?;
    Ok(elements)
}

/// What a batch would make, read from its own messages.
pub fn of_messages(mut bytes: &[u8]) -> Facts {
    let mut tables = Tables::new();
    while let Some(message) = first(bytes) {
        bytes = message.rest;
        let (subsystem, kind) = (i32::from(message.kind) >> 8, i32::from(message.kind) & 0xff);
        let attributes = Attributes(message.body.get(4..).unwrap_or(&[]));
        match kind {
            _ if subsystem != libc::NFNL_SUBSYS_NFTABLES => {}
            libc::NFT_MSG_NEWTABLE => {
                let name = attributes.text(1).unwrap_or_default().to_owned();
                tables.insert(name, TableFacts { flags: attributes.be32(2).unwrap_or(0), ..TableFacts::default() });
            }
            libc::NFT_MSG_NEWCHAIN => add_chain(&mut tables, attributes),
            libc::NFT_MSG_NEWSET => add_set(&mut tables, attributes),
            libc::NFT_MSG_NEWSETELEM => add_elements(&mut tables, attributes),
            libc::NFT_MSG_NEWRULE => add_rule(&mut tables, attributes),
            _ => {}
        }
    }
    Facts { tables }
}

/// NFTA_CHAIN_TABLE and NFTA_CHAIN_NAME.
pub const CHAIN_TABLE: u16 = 1;
pub const CHAIN_NAME: u16 = 3;

fn add_chain(tables: &mut Tables, chain: Attributes) {
    let Some(table) = chain.text(CHAIN_TABLE).and_then(|name| tables.get_mut(name)) else { return };
    let name = chain.text(CHAIN_NAME).unwrap_or_default().to_owned();
    table.chains.insert(name, ChainFacts { base: base(chain), rules: Vec::new() });
}

/// Where the kernel calls the chain, if it does.
pub fn base(chain: Attributes) -> Option<BaseFacts> {
    // NFTA_CHAIN_HOOK { _HOOKNUM, _PRIORITY }, NFTA_CHAIN_POLICY, NFTA_CHAIN_TYPE
    let hook = Attributes(chain.get(4)?);
    Some(BaseFacts {
        kind: chain.text(7).unwrap_or_default().to_owned(),
        hook: hook.be32(1).unwrap_or(0),
        priority: hook.be32(2).unwrap_or(0) as i32,
        policy: chain.be32(5).unwrap_or(libc::NF_ACCEPT as u32),
    })
}

/// A set by its name; one that has none yet, by its id in the batch.
fn set_name(name: Option<&str>, id: Option<u32>) -> String {
    match name {
        Some("__set%d") | None => format!("#{}", id.unwrap_or(0)),
        Some(name) => name.to_owned(),
    }
}

/// Whether the set belongs to one rule.
pub fn is_anonymous(set: &str) -> bool {
    set.starts_with('#') || set.starts_with("__set")
}

fn add_set(tables: &mut Tables, set: Attributes) {
    let Some(table) = set.text(nfta::SET_TABLE).and_then(|name| tables.get_mut(name)) else { return };
    let fields = set.inside(nfta::SET_DESC).inside(nfta::SET_DESC_CONCAT).filter_map(|(_, one)| Attributes(one).be32(nfta::SET_FIELD_LEN));
    let shape = SetShape {
        flags: set.be32(nfta::SET_FLAGS).unwrap_or(0),
        key_kind: set.be32(nfta::SET_KEY_TYPE).unwrap_or(0),
        key_length: set.be32(nfta::SET_KEY_LEN).unwrap_or(0),
        data_kind: set.be32(nfta::SET_DATA_TYPE),
        fields: fields.collect(),
        counters: set.inside(nfta::SET_EXPR).text(nfta::EXPR_NAME) == Some("counter"),
        default_timeout: set.be64(nfta::SET_TIMEOUT).unwrap_or(0),
        comment: tlv(set.get(nfta::SET_USERDATA).unwrap_or(&[]), super::set::COMMENT),
    };
    let name = set_name(set.text(nfta::SET_NAME), set.be32(nfta::SET_ID));
    table.sets.insert(name, SetFacts { shape, elements: Vec::new() });
}

fn add_elements(tables: &mut Tables, list: Attributes) {
    let Some(table) = list.text(nfta::ELEMENTS_TABLE).and_then(|name| tables.get_mut(name)) else { return };
    let name = set_name(list.text(nfta::ELEMENTS_SET), list.be32(nfta::ELEMENTS_SET_ID));
    let Some(set) = table.sets.get_mut(&name) else { return };
    set.elements.extend(list.inside(nfta::ELEMENTS).map(|(_, one)| element(Attributes(one))));
}

fn element(one: Attributes) -> ElementFacts {
    let value = |kind: u16| one.inside(kind).get(nfta::DATA_VALUE).unwrap_or(&[]).to_vec();
    let mut data = Vec::new();
    canonical_data(one.inside(nfta::ELEM_DATA), &mut data);
    let several = || one.inside(nfta::ELEM_EXPRESSIONS).next().map(|(_, first)| first);
    let expression = one.get(nfta::ELEM_EXPR).or_else(several).map(Attributes);
    ElementFacts {
        key: value(nfta::ELEM_KEY),
        key_end: value(nfta::ELEM_KEY_END),
        flags: one.be32(nfta::ELEM_FLAGS).unwrap_or(0) & INTERVAL_END,
        data,
        comment: tlv(one.get(nfta::ELEM_USERDATA).unwrap_or(&[]), rule::COMMENT),
        timeout: one.be64(nfta::ELEM_TIMEOUT).unwrap_or(0),
        live: Live { tally: expression.and_then(counter), expires: one.be64(nfta::ELEM_EXPIRATION) },
    }
}

fn add_rule(tables: &mut Tables, rule: Attributes) {
    // NFTA_RULE_TABLE, NFTA_RULE_CHAIN
    let Some(TableFacts { chains, sets, .. }) = rule.text(1).and_then(|name| tables.get_mut(name)) else { return };
    let Some(chain) = rule.text(2).and_then(|name| chains.get_mut(name)) else { return };
    let userdata = rule.get(rule::NFTA_RULE_USERDATA).unwrap_or(&[]);
    let expressions = rule.inside(rule::NFTA_RULE_EXPRESSIONS);
    let (mut does, mut tally) = (Vec::new(), None);
    for (_, one) in expressions {
        tally = tally.or_else(|| counter(Attributes(one)));
        canonical_expression(Attributes(one), sets, &mut does);
    }
    chain.rules.push(RuleFacts {
        does,
        expressions: expressions.0.to_vec(),
        comment: tlv(userdata, rule::COMMENT),
        source: tlv(userdata, rule::SOURCE),
        tally,
    });
}

/// The first value of a type in userdata: one byte type, one byte length, value. Without a closing zero.
fn tlv(mut data: &[u8], wanted: u8) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == wanted {
            return Some(String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned());
        }
        data = &rest[usize::from(*length)..];
    }
    None
}

fn counter(expression: Attributes) -> Option<Tally> {
    if expression.text(nfta::EXPR_NAME) != Some("counter") {
        return None;
    }
    let data = expression.inside(nfta::EXPR_DATA);
    // NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS
    Some(Tally { packets: data.be64(2).unwrap_or(0), bytes: data.be64(1).unwrap_or(0) })
}

/// Name, then the attributes by number. A number that is zero is what the kernel assumes without it, and is left out.
fn canonical_expression(expression: Attributes, sets: &BTreeMap<String, SetFacts>, out: &mut Vec<u8>) {
    let name = expression.text(nfta::EXPR_NAME).unwrap_or_default();
    put(out, 0, name.as_bytes());
    if name == "counter" {
        return;
    }
    let data = expression.inside(nfta::EXPR_DATA);
    let mut attributes: Vec<(u16, &[u8])> = data.collect();
    attributes.sort_unstable_by_key(|(kind, _)| *kind);
    for (kind, value) in attributes {
        match (name, kind) {
            ("cmp", 3) | ("immediate", 2) | ("bitwise", 4 | 5 | 7) | ("range", 3 | 4) => {
                put(out, kind, &[]);
                canonical_data(Attributes(value), out);
            }
            // NFTA_LOOKUP_SET; the id, 4, is only for the batch.
            ("lookup", 1) => {
                let set = set_name(data.text(1), data.be32(4).filter(|_| data.text(1) == Some("__set%d")));
                match sets.get(&set).filter(|_| is_anonymous(&set)) {
                    Some(anonymous) => canonical_set(anonymous, out),
                    None => put(out, kind, set.as_bytes()),
                }
            }
            ("lookup", 4) => {}
            _ if value.iter().any(|byte| *byte != 0) => put(out, kind, value),
            _ => {}
        }
    }
}

/// `struct nft_data`: a value, or a verdict with its chain.
fn canonical_data(data: Attributes, out: &mut Vec<u8>) {
    for (kind, value) in data {
        if kind == nfta::DATA_VERDICT {
            put(out, kind, &Attributes(value).be32(nfta::VERDICT_CODE).unwrap_or(0).to_be_bytes());
            put(out, kind, Attributes(value).text(nfta::VERDICT_CHAIN).unwrap_or_default().as_bytes());
        } else {
            put(out, kind, value);
        }
    }
}

fn canonical_set(set: &SetFacts, out: &mut Vec<u8>) {
    put(out, 1, &set.shape.flags.to_be_bytes());
    put(out, 2, &set.shape.key_kind.to_be_bytes());
    put(out, 3, &set.shape.key_length.to_be_bytes());
    let mut elements: Vec<&ElementFacts> = set.elements.iter().collect();
    elements.sort_unstable();
    for element in elements {
        put(out, 4, &element.key);
        put(out, 5, &element.key_end);
        put(out, 6, &element.flags.to_be_bytes());
        put(out, 7, &element.data);
    }
}

fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}
