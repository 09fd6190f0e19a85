//! Sets, maps and their elements. Written by ourselves: nftnl has neither intervals nor maps nor timeouts, and elements come by the
//! hundred thousand, where an allocation for each attribute would be felt.

use std::time::Duration;

use policy::ruleset::{Element, Field, Maps, Set, Source, Span, Target, Verdict};

use super::batch::{Batch, Subject};
use super::field::{self, Bytes, Order};
use crate::Error;
use crate::netlink::Messages;

/// What the elements of a set must fit into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub fields: Vec<Field>,
    pub interval: bool,
    pub maps_to: Option<Maps>,
    pub timeout: bool,
    pub counters: bool,
}

impl From<&Set> for Shape {
    fn from(set: &Set) -> Self {
        Shape { fields: set.key.clone(), interval: set.interval, maps_to: set.maps_to, timeout: set.timeout, counters: set.counters }
    }
}

/// An element on its way into a set.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    pub key: &'a [Span],
    pub to: Option<&'a Target>,
    pub timeout: Option<Duration>,
    pub source: Option<&'a Source>,
}

impl<'a> From<&'a Element> for Item<'a> {
    fn from(element: &'a Element) -> Self {
        Item { key: &element.key, to: element.to.as_ref(), timeout: None, source: element.source.as_ref() }
    }
}

/// A set by its name, or an anonymous one by its id in the batch.
#[derive(Debug, Clone, Copy)]
pub enum Name<'a> {
    Named(&'a str),
    Anonymous(u32),
}

impl Name<'_> {
    /// The kernel puts a number in place of `%d`.
    fn text(&self) -> &str {
        match self {
            Name::Named(name) => name,
            Name::Anonymous(_) => "__set%d",
        }
    }
}

/// Attribute numbers of include/uapi/linux/netfilter/nf_tables.h.
pub mod nfta {
    pub const SET_TABLE: u16 = 1;
    pub const SET_NAME: u16 = 2;
    pub const SET_FLAGS: u16 = 3;
    pub const SET_KEY_TYPE: u16 = 4;
    pub const SET_KEY_LEN: u16 = 5;
    pub const SET_DATA_TYPE: u16 = 6;
    pub const SET_DATA_LEN: u16 = 7;
    pub const SET_DESC: u16 = 9;
    pub const SET_DESC_SIZE: u16 = 1;
    pub const SET_DESC_CONCAT: u16 = 2;
    pub const SET_FIELD_LEN: u16 = 1;
    pub const SET_ID: u16 = 10;
    pub const SET_TIMEOUT: u16 = 11;
    pub const SET_USERDATA: u16 = 13;
    pub const SET_EXPR: u16 = 17;
    pub const LIST_ELEM: u16 = 1;
    pub const ELEMENTS_TABLE: u16 = 1;
    pub const ELEMENTS_SET: u16 = 2;
    pub const ELEMENTS: u16 = 3;
    pub const ELEMENTS_SET_ID: u16 = 4;
    pub const ELEM_KEY: u16 = 1;
    pub const ELEM_DATA: u16 = 2;
    pub const ELEM_FLAGS: u16 = 3;
    pub const ELEM_TIMEOUT: u16 = 4;
    pub const ELEM_EXPIRATION: u16 = 5;
    pub const ELEM_USERDATA: u16 = 6;
    pub const ELEM_EXPR: u16 = 7;
    pub const ELEM_KEY_END: u16 = 10;
    pub const ELEM_EXPRESSIONS: u16 = 11;
    pub const DATA_VALUE: u16 = 1;
    pub const DATA_VERDICT: u16 = 2;
    pub const VERDICT_CODE: u16 = 1;
    pub const VERDICT_CHAIN: u16 = 2;
    pub const EXPR_NAME: u16 = 1;
    pub const EXPR_DATA: u16 = 2;
}

const ANONYMOUS: u32 = 0x1;
const CONSTANT: u32 = 0x2;
pub const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
pub const TIMEOUT: u32 = 0x10;
const CONCAT: u32 = 0x80;
/// An element that ends an interval: the first key that is no longer in it.
pub const INTERVAL_END: u32 = 0x1;
/// The data type that means verdicts (NFT_DATA_VERDICT).
pub const VERDICTS: u32 = 0xffff_ff00;

/// The comment in a set's userdata (NFTNL_UDATA_SET_COMMENT).
pub const COMMENT: u8 = 7;
/// A message must stay below the 64 KiB that an attribute's length can say.
const FULL: usize = 60_000;

/// Adds a set without elements.
pub fn add<'a>(batch: &mut Batch<'a>, table: &'a str, name: Name<'a>, shape: &Shape, size: Option<usize>, comment: Option<&str>) {
    let subject = Subject::Set { table, set: name_for_people(name) };
    let id = match name {
        Name::Named(_) => batch.set_id(),
        Name::Anonymous(id) => id,
    };
    batch.message(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE, subject, |message| {
        message.text(nfta::SET_TABLE, table);
        message.text(nfta::SET_NAME, name.text());
        message.be32(nfta::SET_FLAGS, flags(shape, name));
        message.be32(nfta::SET_KEY_TYPE, shape.fields.iter().fold(0, |kinds, field| kinds << 6 | field::form(*field).kind));
        message.be32(nfta::SET_KEY_LEN, field::key_length(&shape.fields) as u32);
        match shape.maps_to {
            Some(Maps::Verdict) => {
                message.be32(nfta::SET_DATA_TYPE, VERDICTS);
                message.be32(nfta::SET_DATA_LEN, 0);
            }
            Some(Maps::Mark) => {
                message.be32(nfta::SET_DATA_TYPE, field::form(Field::Mark).kind);
                message.be32(nfta::SET_DATA_LEN, 4);
            }
            None => {}
        }
        describe(message, shape, size);
        message.be32(nfta::SET_ID, id);
        message.put(nfta::SET_USERDATA, &userdata(shape, comment));
        if shape.counters {
            message.nest(nfta::SET_EXPR, |expression| {
                expression.text(nfta::EXPR_NAME, "counter");
                expression.nest(nfta::EXPR_DATA, |_| {});
            });
        }
    });
}

fn flags(shape: &Shape, name: Name) -> u32 {
    let mut flags = 0;
    for (holds, flag) in [
        (matches!(name, Name::Anonymous(_)), ANONYMOUS | CONSTANT),
        (shape.interval, INTERVAL),
        (shape.interval && shape.fields.len() > 1, CONCAT),
        (shape.maps_to.is_some(), MAP),
        (shape.timeout, TIMEOUT),
    ] {
        flags |= if holds { flag } else { 0 };
    }
    flags
}

/// The kernel picks the set's machinery by this: a known size allows a tighter table, field lengths are what ranges in several
/// fields need.
fn describe(message: &mut Messages, shape: &Shape, size: Option<usize>) {
    let several = shape.interval && shape.fields.len() > 1;
    if size.is_none() && !several {
        return;
    }
    message.nest(nfta::SET_DESC, |description| {
        if let Some(size) = size {
            description.be32(nfta::SET_DESC_SIZE, size as u32);
        }
        if several {
            description.nest(nfta::SET_DESC_CONCAT, |list| {
                for field in &shape.fields {
                    list.nest(nfta::LIST_ELEM, |one| one.be32(nfta::SET_FIELD_LEN, field::form(*field).length as u32));
                }
            });
        }
    });
}

/// What nft needs to list the set: the byte order of keys and data, and the comment. One byte type, one byte length, value.
fn userdata(shape: &Shape, comment: Option<&str>) -> Vec<u8> {
    const KEY_ORDER: u8 = 0;
    const DATA_ORDER: u8 = 1;
    const DATA_INTERVAL: u8 = 6;
    const HOST: u32 = 1;
    const NETWORK: u32 = 2;
    let order = match shape.fields.as_slice() {
        [field] if field::form(*field).order == Order::Host => HOST,
        [_] => NETWORK,
        _ => 0,
    };
    let mut data = Vec::new();
    let mut put = |kind: u8, value: &[u8]| {
        data.extend_from_slice(&[kind, value.len() as u8]);
        data.extend_from_slice(value);
    };
    put(KEY_ORDER, &order.to_ne_bytes());
    if let Some(maps_to) = shape.maps_to {
        put(DATA_ORDER, &if maps_to == Maps::Mark { HOST } else { 0 }.to_ne_bytes());
        put(DATA_INTERVAL, &0u32.to_ne_bytes());
    }
    if let Some(comment) = comment {
        put(COMMENT, &super::rule::zero_ended(comment));
    }
    data
}

/// Adds elements to a set. `fresh` says that the set was just made, with these as its first elements.
pub fn add_elements<'a>(
    batch: &mut Batch<'a>,
    table: &'a str,
    name: Name<'a>,
    shape: &Shape,
    items: &[Item],
    fresh: bool,
) -> Result<(), Error> {
    each_element(batch, libc::NFT_MSG_NEWSETELEM, table, name, shape, items, fresh)
}

/// Removes elements, or with NFT_MSG_DESTROYSETELEM those that exist.
pub fn remove_elements<'a>(
    batch: &mut Batch<'a>,
    kind: i32,
    table: &'a str,
    name: &'a str,
    shape: &Shape,
    items: &[Item],
) -> Result<(), Error> {
    each_element(batch, kind, table, Name::Named(name), shape, items, false)
}

fn each_element<'a>(
    batch: &mut Batch<'a>,
    kind: i32,
    table: &'a str,
    name: Name<'a>,
    shape: &Shape,
    items: &[Item],
    fresh: bool,
) -> Result<(), Error> {
    let named = |error: Error, item: &Item| match error {
        Error::Inexpressible { what, why } => {
            Error::Inexpressible { what: format!("{what} in set {} (element {:?})", name_for_people(name), item.key), why }
        }
        other => other,
    };
    let plain_interval = shape.interval && shape.fields.len() == 1;
    let mut keys = Vec::new();
    if plain_interval {
        keys.reserve(items.len());
        for (index, item) in items.iter().enumerate() {
            let (first, last) = field::key(&shape.fields, item.key, true).map_err(|error| named(error, item))?;
            keys.push((first, last, index));
        }
        // The kernel's tree finds overlaps by neighbours, which needs ascending order.
        if !keys.is_sorted() {
            keys.sort_unstable();
        }
        if matches!(name, Name::Anonymous(_)) {
            merge_touching(&mut keys);
        }
    }
    let count = if plain_interval { keys.len() } else { items.len() };
    let flags = if kind == libc::NFT_MSG_NEWSETELEM { libc::NLM_F_CREATE } else { 0 };
    let mut done = 0;
    while done < count {
        let subject = Subject::Elements { table, set: name_for_people(name), first: done };
        let mut fault = None;
        batch.message(kind, flags, subject, |message| {
            message.text(nfta::ELEMENTS_TABLE, table);
            message.text(nfta::ELEMENTS_SET, name.text());
            if let Name::Anonymous(id) = name {
                message.be32(nfta::ELEMENTS_SET_ID, id);
            }
            let list = message.open(nfta::ELEMENTS);
            if plain_interval && fresh && done == 0 && !keys[0].0.is_zero() {
                // nft lists the first interval right only behind a boundary at zero.
                element(message, &Bytes::zero(field::key_length(&shape.fields)), None, INTERVAL_END, None);
            }
            while done < count && message.message_len() < FULL {
                if plain_interval {
                    let (first, last, index) = &keys[done];
                    let item = &items[*index];
                    element(message, first, None, 0, Some(item));
                    // Also where the next one begins at once: the kernel wants every interval closed. One that ends with the
                    // last value stays open.
                    if let Some(end) = last.successor() {
                        element(message, &end, None, INTERVAL_END, None);
                    }
                } else {
                    let item = &items[done];
                    match field::key(&shape.fields, item.key, shape.interval) {
                        Ok((first, last)) => element(message, &first, shape.interval.then_some(&last), 0, Some(item)),
                        Err(error) => {
                            fault = Some(named(error, item));
                            break;
                        }
                    }
                }
                done += 1;
            }
            message.close(list);
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
    }
    Ok(())
}

/// What a rule carries itself are plain spans, of which neighbours make one, as nft does it too.
fn merge_touching(keys: &mut Vec<(Bytes, Bytes, usize)>) {
    keys.dedup_by(|next, kept| {
        let touching = kept.1.successor() == Some(next.0);
        if touching {
            kept.1 = next.1;
        }
        touching
    });
}

fn element(message: &mut Messages, key: &Bytes, key_end: Option<&Bytes>, flags: u32, item: Option<&Item>) {
    let one = message.open(nfta::LIST_ELEM);
    message.nest(nfta::ELEM_KEY, |inner| inner.put(nfta::DATA_VALUE, key.as_slice()));
    if let Some(end) = key_end {
        message.nest(nfta::ELEM_KEY_END, |inner| inner.put(nfta::DATA_VALUE, end.as_slice()));
    }
    if flags != 0 {
        message.be32(nfta::ELEM_FLAGS, flags);
    }
    if let Some(item) = item {
        match item.to {
            Some(Target::Verdict(verdict)) => message.nest(nfta::ELEM_DATA, |inner| put_verdict(inner, verdict)),
            Some(Target::Mark(mark)) => message.nest(nfta::ELEM_DATA, |inner| inner.put(nfta::DATA_VALUE, &mark.to_ne_bytes())),
            None => {}
        }
        if let Some(timeout) = item.timeout {
            message.be64(nfta::ELEM_TIMEOUT, timeout.as_millis().try_into().unwrap_or(u64::MAX));
        }
        if let Some(source) = item.source {
            put_source(message, nfta::ELEM_USERDATA, source);
        }
    }
    message.close(one);
}

fn put_verdict(message: &mut Messages, verdict: &Verdict) {
    message.nest(nfta::DATA_VERDICT, |inner| {
        let (code, chain) = match verdict {
            Verdict::Accept => (libc::NF_ACCEPT, None),
            Verdict::Drop => (libc::NF_DROP, None),
            Verdict::Return => (libc::NFT_RETURN, None),
            Verdict::Jump(chain) => (libc::NFT_JUMP, Some(chain)),
            Verdict::Goto(chain) => (libc::NFT_GOTO, Some(chain)),
        };
        inner.be32(nfta::VERDICT_CODE, code as u32);
        if let Some(chain) = chain {
            inner.text(nfta::VERDICT_CHAIN, chain);
        }
    });
}

/// The policy rule travels as the element's comment: nft lists it, and its counter has a name without the ruleset at hand.
fn put_source(message: &mut Messages, kind: u16, source: &Source) {
    let id = source.id.as_bytes();
    let id = &id[..id.len().min(super::rule::LONGEST_ID)];
    let mut data = [0; super::rule::LONGEST_ID + 3];
    data[0] = super::rule::COMMENT;
    data[1] = id.len() as u8 + 1;
    data[2..2 + id.len()].copy_from_slice(id);
    message.put(kind, &data[..3 + id.len()]);
}

fn name_for_people(name: Name<'_>) -> &str {
    match name {
        Name::Named(name) => name,
        Name::Anonymous(_) => "of a rule",
    }
}
