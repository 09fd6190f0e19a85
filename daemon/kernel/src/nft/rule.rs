//! A rule of the ruleset as a row of expressions.

use std::ffi::CString;
use std::net::IpAddr;

use nftnl::expr::{
    Bitwise, Cmp, CmpOp, Conntrack, Counter, IcmpCode, Immediate, Masquerade, Meta, Register, RejectionType, Verdict as NftVerdict,
};
use policy::ruleset::{Field, NatTarget, Op, Operand, Part, Per, Reject, Rule, Span, Verdict};

use super::batch::{Batch, Subject};
use super::expr::{
    Limit, Load, LoadBytes, LoadLinkType, Log, Lookup, Nat, NatDirection, NotInRange, Redirect, SetName, ToNetworkOrder, Tproxy, Yields,
    register,
};
use super::field::{self, Order};
use super::set::{self, Item, Name, Shape};
use crate::Error;

/// Userdata of a rule or element: nft's comment. Ours follows; nft skips types that it does not know.
pub const COMMENT: u8 = 0;
/// The id of the policy rule; far above what nft uses.
pub const SOURCE: u8 = 0x53;
/// Resource, slash, rule (two names of at most 40), and some room.
pub const LONGEST_ID: usize = 120;
/// With its closing zero (NFTNL_UDATA_COMMENT_MAXLEN).
const LONGEST_COMMENT: usize = 127;

/// ARPHRD_ETHER (include/uapi/linux/if_arp.h).
pub const ETHERNET: u16 = 1;

pub const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub const NFTA_RULE_USERDATA: u16 = 7;

/// Adds a rule at the end of its chain, and before it the anonymous sets that it uses.
pub fn add<'a>(
    batch: &mut Batch<'a>,
    table: &'a str,
    chain: &'a str,
    nft_chain: &nftnl::Chain,
    index: usize,
    rule: &'a Rule,
) -> Result<(), Error> {
    let mut out = nftnl::Rule::new(nft_chain);
    for part in &rule.parts {
        add_part(batch, table, &mut out, part).map_err(|error| name(error, table, chain, index, rule))?;
    }
    let subject = Subject::Rule { table, chain, index, source: rule.source.as_ref(), comment: rule.comment.as_deref() };
    batch.nftnl(&out, subject, |message| {
        if rule.comment.is_some() || rule.source.is_some() {
            message.put(NFTA_RULE_USERDATA, &userdata(rule));
        }
    });
    Ok(())
}

fn add_part<'a>(batch: &mut Batch<'a>, table: &'a str, out: &mut nftnl::Rule, part: &Part) -> Result<(), Error> {
    match part {
        Part::Match { field, op, to: Operand::One(span) } => compare(out, *field, *op, span)?,
        Part::Match { field, op, to: Operand::Any(spans) } => one_of(batch, table, out, *field, *op, spans)?,
        Part::Masked { field, mask, op, value } => masked(out, *field, *mask, *op, *value)?,
        Part::InSet { fields, negate, set } => {
            load(out, fields);
            out.add_expr(&Lookup { set: SetName::Named(c_text(set)?), negate: *negate, yields: Yields::Nothing });
        }
        Part::VerdictMap { fields, map } => {
            load(out, fields);
            out.add_expr(&Lookup { set: SetName::Named(c_text(map)?), negate: false, yields: Yields::Verdict });
        }
        Part::Limit { per, rate, burst, over } => {
            let per = match per {
                Per::Second => 1,
                Per::Minute => 60,
                Per::Hour => 3600,
            };
            out.add_expr(&Limit { rate: *rate, per, burst: *burst, over: *over });
        }
        Part::Counter => out.add_expr(&Counter),
        Part::Log { prefix, group } => out.add_expr(&Log { prefix: c_text(prefix)?, group: *group }),
        Part::SetMark { mask, value } => {
            set_bits(out, *mask, *value, &Meta::Mark { set: false });
            out.add_expr(&Meta::Mark { set: true });
        }
        Part::SetCtMark { mask, value } => {
            set_bits(out, *mask, *value, &Conntrack::Mark { set: false });
            out.add_expr(&Conntrack::Mark { set: true });
        }
        Part::MarkFromMap { fields, map } => {
            load(out, fields);
            out.add_expr(&Lookup { set: SetName::Named(c_text(map)?), negate: false, yields: Yields::Value });
            out.add_expr(&Meta::Mark { set: true });
        }
        Part::CtMarkFromMark { mask } => {
            out.add_expr(&Meta::Mark { set: false });
            if *mask != u32::MAX {
                out.add_expr(&Bitwise::new(mask.to_ne_bytes().as_slice(), [0u8; 4].as_slice()));
            }
            out.add_expr(&Conntrack::Mark { set: true });
        }
        Part::Tproxy { port } => {
            out.add_expr(&Immediate::new(port.to_be_bytes(), Register::Reg1));
            out.add_expr(&Tproxy);
        }
        Part::Masquerade => out.add_expr(&Masquerade),
        Part::Snat { to } => nat(out, NatDirection::Source, to),
        Part::Dnat { to } => nat(out, NatDirection::Destination, to),
        Part::Redirect { port } => {
            if let Some(port) = port {
                out.add_expr(&Immediate::new(port.to_be_bytes(), Register::Reg1));
            }
            out.add_expr(&Redirect { port: port.is_some() });
        }
        Part::Reject(Reject::AdminProhibited) => out.add_expr(&NftVerdict::Reject(RejectionType::Icmp(IcmpCode::AdminProhibited))),
        Part::Reject(Reject::TcpReset) => out.add_expr(&NftVerdict::Reject(RejectionType::TcpRst)),
        Part::Verdict(verdict) => out.add_expr(&match verdict {
            Verdict::Accept => NftVerdict::Accept,
            Verdict::Drop => NftVerdict::Drop,
            Verdict::Return => NftVerdict::Return,
            Verdict::Jump(chain) => NftVerdict::Jump { chain: c_text(chain)? },
            Verdict::Goto(chain) => NftVerdict::Goto { chain: c_text(chain)? },
        }),
    }
    Ok(())
}

fn compare(out: &mut nftnl::Rule, field: Field, op: Op, span: &Span) -> Result<(), Error> {
    let equal = if op == Op::Eq { CmpOp::Eq } else { CmpOp::Neq };
    if let Span::Prefix(_, bits) = span {
        return compare_prefix(out, field, equal, span, *bits);
    }
    let (first, last) = field::bounds(field, span)?;
    load(out, &[field]);
    if first == last {
        out.add_expr(&Cmp::new(equal, first.as_slice()));
        return Ok(());
    }
    let (first, last) = field::numeric_bounds(field, span)?;
    if field::is_host_word(field) {
        out.add_expr(&ToNetworkOrder);
    }
    match op {
        Op::Eq => {
            out.add_expr(&Cmp::new(CmpOp::Gte, first.as_slice()));
            out.add_expr(&Cmp::new(CmpOp::Lte, last.as_slice()));
        }
        Op::Ne => out.add_expr(&NotInRange { from: first.as_slice(), to: last.as_slice() }),
    }
    Ok(())
}

/// A prefix that ends on a byte is a comparison of its bytes; any other is masked first.
fn compare_prefix(out: &mut nftnl::Rule, field: Field, equal: CmpOp, span: &Span, bits: u8) -> Result<(), Error> {
    let (first, last) = field::bounds(field, span)?;
    let whole = first.as_slice().len();
    match bits as usize {
        // Every address of the family; the family itself was compared before.
        0 => {
            let nothing = vec![0u8; whole];
            load(out, &[field]);
            out.add_expr(&Bitwise::new(nothing.as_slice(), nothing.as_slice()));
            out.add_expr(&Cmp::new(equal, nothing.as_slice()));
        }
        bits if bits.is_multiple_of(8) => {
            out.add_expr(&LoadBytes { field, register: register(0), length: bits as u32 / 8 });
            out.add_expr(&Cmp::new(equal, &first.as_slice()[..bits / 8]));
        }
        _ => {
            let mask: Vec<u8> = first.as_slice().iter().zip(last.as_slice()).map(|(first, last)| !(first ^ last)).collect();
            load(out, &[field]);
            out.add_expr(&Bitwise::new(mask.as_slice(), vec![0u8; whole].as_slice()));
            out.add_expr(&Cmp::new(equal, first.as_slice()));
        }
    }
    Ok(())
}

/// A short list that the rule carries itself becomes an anonymous set.
fn one_of<'a>(batch: &mut Batch<'a>, table: &'a str, out: &mut nftnl::Rule, field: Field, op: Op, spans: &[Span]) -> Result<(), Error> {
    let interval = spans.iter().any(|span| !matches!(span, Span::One(_)));
    let shape = Shape { fields: vec![field], interval, maps_to: None, timeout: false, counters: false };
    let id = batch.set_id();
    let keys: Vec<[Span; 1]> = spans.iter().map(|span| [*span]).collect();
    let items: Vec<Item> = keys.iter().map(|key| Item { key, to: None, timeout: None, source: None }).collect();
    // An interval is two boundaries, and there is one at zero.
    let size = if interval { 2 * items.len() + 1 } else { items.len() };
    set::add(batch, table, Name::Anonymous(id), &shape, Some(size), None);
    set::add_elements(batch, table, Name::Anonymous(id), &shape, &items, true)?;
    load(out, &[field]);
    if interval && field::is_host_word(field) {
        out.add_expr(&ToNetworkOrder);
    }
    out.add_expr(&Lookup { set: SetName::Anonymous(id), negate: op == Op::Ne, yields: Yields::Nothing });
    Ok(())
}

fn masked(out: &mut nftnl::Rule, field: Field, mask: u32, op: Op, value: u32) -> Result<(), Error> {
    let form = field::form(field);
    let bytes = |number: u32| -> Result<Vec<u8>, Error> {
        match (form.length, form.order) {
            (1, _) if number <= 0xff => Ok(vec![number as u8]),
            (2, Order::Network) if number <= 0xffff => Ok((number as u16).to_be_bytes().to_vec()),
            (4, Order::Host) => Ok(number.to_ne_bytes().to_vec()),
            _ => Err(Error::Inexpressible { what: format!("{number:#x} as bits of {field:?}"), why: "the field has no such bits".into() }),
        }
    };
    let (mask, value) = (bytes(mask)?, bytes(value)?);
    load(out, &[field]);
    out.add_expr(&Bitwise::new(mask.as_slice(), vec![0u8; form.length].as_slice()));
    out.add_expr(&Cmp::new(if op == Op::Eq { CmpOp::Eq } else { CmpOp::Neq }, value.as_slice()));
    Ok(())
}

/// Leaves `old & !mask | value` in the first register: the kernel computes `old & A ^ B`.
fn set_bits(out: &mut nftnl::Rule, mask: u32, value: u32, old: &impl nftnl::expr::Expression) {
    let keep = !mask & !value;
    if keep == 0 && mask == u32::MAX {
        out.add_expr(&Immediate::new(value.to_ne_bytes(), Register::Reg1));
        return;
    }
    out.add_expr(old);
    out.add_expr(&Bitwise::new(keep.to_ne_bytes().as_slice(), value.to_ne_bytes().as_slice()));
}

fn nat(out: &mut nftnl::Rule, direction: NatDirection, to: &NatTarget) {
    let family = match to.address {
        IpAddr::V4(address) => {
            out.add_expr(&Immediate::new(address.octets(), Register::Reg1));
            libc::NFPROTO_IPV4
        }
        IpAddr::V6(address) => {
            out.add_expr(&Immediate::new(address.octets(), Register::Reg1));
            libc::NFPROTO_IPV6
        }
    };
    if let Some((first, last)) = to.ports {
        out.add_expr(&Immediate::new(first.to_be_bytes(), Register::Reg2));
        if last != first {
            out.add_expr(&Immediate::new(last.to_be_bytes(), Register::Reg3));
        }
        out.add_expr(&Nat { direction, family, ports: Some(last != first) });
    } else {
        out.add_expr(&Nat { direction, family, ports: None });
    }
}

/// Fields side by side in registers, each beginning at a whole word.
fn load(out: &mut nftnl::Rule, fields: &[Field]) {
    if fields.contains(&Field::EtherSaddr) {
        // In front of packets of other links there may be anything.
        out.add_expr(&LoadLinkType);
        out.add_expr(&Cmp::new(CmpOp::Eq, ETHERNET.to_ne_bytes().as_slice()));
    }
    let mut word = 0;
    for field in fields {
        out.add_expr(&Load { field: *field, register: register(word) });
        word += field::form(*field).length.div_ceil(4) as u32;
    }
}

/// What is shown by nft and found again by us: one byte type, one byte length, value.
fn userdata(rule: &Rule) -> Vec<u8> {
    let mut data = Vec::with_capacity(64);
    if let Some(comment) = &rule.comment {
        let text = zero_ended(comment);
        data.extend_from_slice(&[COMMENT, text.len() as u8]);
        data.extend_from_slice(&text);
    }
    if let Some(source) = &rule.source {
        let id = &source.id.as_bytes()[..source.id.len().min(LONGEST_ID)];
        data.extend_from_slice(&[SOURCE, id.len() as u8]);
        data.extend_from_slice(id);
    }
    data
}

/// A comment as the kernel keeps it, cut at a whole character where it is too long.
pub fn zero_ended(comment: &str) -> Vec<u8> {
    let mut end = comment.len().min(LONGEST_COMMENT);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    let mut text = comment.as_bytes()[..end].to_vec();
    text.push(0);
    text
}

fn c_text(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Inexpressible { what: format!("{text:?}"), why: "it contains a zero byte".into() })
}

fn name(error: Error, table: &str, chain: &str, index: usize, rule: &Rule) -> Error {
    let Error::Inexpressible { what, why } = error else { return error };
    let source = rule.source.as_ref().map_or_else(String::new, |source| format!(" ({}, {})", source.id, source.origin));
    Error::Inexpressible { what: format!("{what} in table inet {table}, chain {chain}, rule {}{source}", index + 1), why }
}
