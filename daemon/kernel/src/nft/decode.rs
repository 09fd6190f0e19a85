//! The kernel's expressions and elements back in the ruleset's own words, for people to read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use policy::ruleset::{Datum, Element, Field, FixedName, Maps, NatTarget, Op, Operand, Part, Per, Reject, Rule, Span, Target, Verdict};

use super::expr::{FIRST, VERDICT};
use super::facts::{ElementFacts, RuleFacts, SetFacts, is_anonymous};
use super::field::{self, form};
use super::rule::ETHERNET;
use super::set::{INTERVAL_END, Shape, nfta};
use crate::netlink::Attributes;

type Sets = BTreeMap<String, SetFacts>;

/// The rule in nft's words, as far as they are ours.
pub fn rule_text(rule: &RuleFacts, sets: &Sets) -> String {
    match parts(&rule.expressions, sets) {
        Ok(parts) => Rule { parts, source: None, comment: rule.comment.clone() }.to_string(),
        Err(strange) => format!("a rule with a {strange} that Portcullis does not write"),
    }
}

/// The parts that a row of expressions stands for; `Err` names the first expression that we would not have written.
pub fn parts(expressions: &[u8], sets: &Sets) -> Result<Vec<Part>, String> {
    let mut reader = Reader {
        sets,
        parts: Vec::new(),
        loaded: Vec::new(),
        mask: None,
        from: None,
        values: BTreeMap::new(),
        found: None,
        link_type: false,
        protocol: None,
    };
    for (_, one) in Attributes(expressions) {
        let name = Attributes(one).text(nfta::EXPR_NAME).unwrap_or_default();
        reader.read(name, Attributes(one).inside(nfta::EXPR_DATA)).ok_or_else(|| format!("{name} expression"))?;
    }
    Ok(reader.parts)
}

struct Reader<'a> {
    sets: &'a Sets,
    parts: Vec<Part>,
    /// Fields in registers, in order, with the bytes that were loaded of each.
    loaded: Vec<(Field, usize)>,
    /// What the first register was masked with: mask, xor.
    mask: Option<(Vec<u8>, Vec<u8>)>,
    /// The lower bound of a range whose upper one follows.
    from: Option<Vec<u8>>,
    /// Constants in registers.
    values: BTreeMap<u32, Vec<u8>>,
    /// The map whose element is in the first register, and what was looked up in it.
    found: Option<(Vec<Field>, String)>,
    /// The kind of link was loaded, to be compared with Ethernet's.
    link_type: bool,
    /// The layer 4 protocol that was compared for, which tells ICMP from ICMPv6.
    protocol: Option<u8>,
}

impl Reader<'_> {
    /// Attribute numbers as in include/uapi/linux/netfilter/nf_tables.h, under the expression's own prefix.
    fn read(&mut self, name: &str, data: Attributes) -> Option<()> {
        match name {
            "meta" | "ct" => self.meta_or_ct(name, data)?,
            "payload" => {
                let length = data.be32(4)? as usize;
                let field = self.header_field(data.be32(2)? as i32, data.be32(3)?, length)?;
                self.loaded.push((field, length));
            }
            "fib" => self.loaded.push((Field::FibDaddrType, 4)),
            "byteorder" => {}
            "bitwise" => self.mask = Some((value(data, 4)?, value(data, 5)?)),
            "cmp" => self.compare(data.be32(2)? as i32, &value(data, 3)?)?,
            "range" => {
                let field = self.take_field()?.0;
                let to = Operand::One(range(field, &value(data, 3)?, &value(data, 4)?)?);
                self.parts.push(Part::Match { field, op: Op::Ne, to });
            }
            "lookup" => self.lookup(data)?,
            "immediate" if data.be32(1)? == VERDICT => {
                self.parts.push(Part::Verdict(verdict(data.inside(2).inside(nfta::DATA_VERDICT))?));
            }
            "immediate" => {
                self.values.insert(data.be32(1)?, value(data, 2)?);
            }
            "counter" => self.parts.push(Part::Counter),
            "limit" => self.limit(data)?,
            "log" => {
                let group = data.get(1).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
                self.parts.push(Part::Log { prefix: data.text(2).unwrap_or_default().to_owned(), group });
            }
            "masq" if data.0.is_empty() => self.parts.push(Part::Masquerade),
            "nat" => self.nat(data)?,
            "tproxy" if data.be32(1)? == libc::NFPROTO_UNSPEC as u32 && data.get(2).is_none() => {
                let port = self.values.remove(&data.be32(3)?)?;
                self.parts.push(Part::Tproxy { port: u16::from_be_bytes(port.try_into().ok()?) });
            }
            "redir" => {
                let port = data.be32(1).and_then(|register| self.values.remove(&register)).and_then(|port| port.try_into().ok());
                self.parts.push(Part::Redirect { port: port.map(u16::from_be_bytes) });
            }
            "reject" => self.parts.push(Part::Reject(match data.be32(1)? as i32 {
                libc::NFT_REJECT_TCP_RST => Reject::TcpReset,
                libc::NFT_REJECT_ICMPX_UNREACH => Reject::AdminProhibited,
                _ => return None,
            })),
            _ => return None,
        }
        Some(())
    }

    fn meta_or_ct(&mut self, name: &str, data: Attributes) -> Option<()> {
        if (name, data.be32(2)? as i32) == ("meta", libc::NFT_META_IIFTYPE) {
            self.link_type = true;
            return Some(());
        }
        let field = match (name, data.be32(2)? as i32) {
            ("meta", libc::NFT_META_IIFNAME) => Field::IifName,
            ("meta", libc::NFT_META_OIFNAME) => Field::OifName,
            ("meta", libc::NFT_META_NFPROTO) => Field::NfProto,
            ("meta", libc::NFT_META_L4PROTO) => Field::L4Proto,
            ("meta", libc::NFT_META_MARK) => Field::Mark,
            ("meta", libc::NFT_META_SKUID) => Field::SkUid,
            ("meta", libc::NFT_META_PKTTYPE) => Field::PktType,
            ("ct", libc::NFT_CT_STATE) => Field::CtState,
            ("ct", libc::NFT_CT_STATUS) => Field::CtStatus,
            ("ct", libc::NFT_CT_MARK) => Field::CtMark,
            _ => return None,
        };
        // With a source register (NFTA_META_SREG, NFTA_CT_SREG) it is set, not loaded.
        let Some(register) = data.be32(if name == "meta" { 3 } else { 4 }) else {
            self.loaded.push((field, form(field).length));
            return Some(());
        };
        if let Some((fields, map)) = self.found.take() {
            self.parts.push((field == Field::Mark).then_some(Part::MarkFromMap { fields, map })?);
            return Some(());
        }
        if field == Field::CtMark && matches!(self.loaded[..], [(Field::Mark, _)]) {
            self.loaded.clear();
            let mask = self.mask.take().map_or(Some(u32::MAX), |(mask, _)| word(&mask))?;
            self.parts.push(Part::CtMarkFromMark { mask });
            return Some(());
        }
        let (mask, value) = match self.values.remove(&register) {
            Some(value) => (u32::MAX, word(&value)?),
            None => {
                self.take_field()?;
                let (keep, value) = self.mask.take()?;
                (!word(&keep)?, word(&value)?)
            }
        };
        self.parts.push(if field == Field::Mark { Part::SetMark { mask, value } } else { Part::SetCtMark { mask, value } });
        Some(())
    }

    fn header_field(&self, base: i32, offset: u32, length: usize) -> Option<Field> {
        Some(match (base, offset, length) {
            (libc::NFT_PAYLOAD_LL_HEADER, 6, 6) => Field::EtherSaddr,
            (libc::NFT_PAYLOAD_NETWORK_HEADER, 12, ..=4) => Field::Ip4Saddr,
            (libc::NFT_PAYLOAD_NETWORK_HEADER, 16, ..=4) => Field::Ip4Daddr,
            (libc::NFT_PAYLOAD_NETWORK_HEADER, 8, ..=16) => Field::Ip6Saddr,
            (libc::NFT_PAYLOAD_NETWORK_HEADER, 24, ..=16) => Field::Ip6Daddr,
            (libc::NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2) => Field::Sport,
            (libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2) => Field::Dport,
            (libc::NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1) => Field::TcpFlags,
            (libc::NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1) if self.protocol == Some(58) => Field::Icmp6Type,
            (libc::NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1) => Field::Icmp4Type,
            _ => return None,
        })
    }

    /// The one field that was loaded.
    fn take_field(&mut self) -> Option<(Field, usize)> {
        let only = (self.loaded.len() == 1).then(|| self.loaded[0]);
        self.loaded.clear();
        only
    }

    fn compare(&mut self, op: i32, bytes: &[u8]) -> Option<()> {
        // Comes before every Ethernet address, and is not said in words.
        if std::mem::take(&mut self.link_type) {
            return (op == libc::NFT_CMP_EQ && bytes == ETHERNET.to_ne_bytes()).then_some(());
        }
        let op = match op {
            libc::NFT_CMP_EQ => Op::Eq,
            libc::NFT_CMP_NEQ => Op::Ne,
            libc::NFT_CMP_GTE => {
                self.from = Some(bytes.to_vec());
                return Some(());
            }
            libc::NFT_CMP_LTE => {
                let field = self.take_field()?.0;
                let to = Operand::One(range(field, &self.from.take()?, bytes)?);
                self.parts.push(Part::Match { field, op: Op::Eq, to });
                return Some(());
            }
            _ => return None,
        };
        let (field, loaded) = self.take_field()?;
        let whole = form(field).length;
        let span = match self.mask.take() {
            Some((mask, _)) if is_address(field) => {
                Span::Prefix(datum(field, bytes)?, mask.iter().map(|byte| byte.count_ones() as u8).sum())
            }
            Some((mask, _)) => {
                self.parts.push(Part::Masked { field, mask: number(field, &mask)?, op, value: number(field, bytes)? });
                return Some(());
            }
            None if loaded < whole => {
                let mut address = bytes.to_vec();
                address.resize(whole, 0);
                Span::Prefix(datum(field, &address)?, loaded as u8 * 8)
            }
            None => Span::One(datum(field, bytes)?),
        };
        if let (Field::L4Proto, Op::Eq, Span::One(Datum::Byte(protocol))) = (field, op, span) {
            self.protocol = Some(protocol);
        }
        self.parts.push(Part::Match { field, op, to: Operand::One(span) });
        Some(())
    }

    fn lookup(&mut self, data: Attributes) -> Option<()> {
        let set = data.text(1)?.to_owned();
        let fields: Vec<Field> = std::mem::take(&mut self.loaded).into_iter().map(|(field, _)| field).collect();
        let negate = data.be32(5).unwrap_or(0) & 1 != 0;
        self.parts.push(match (data.be32(3), fields.as_slice()) {
            (Some(VERDICT), _) => Part::VerdictMap { fields, map: set },
            (Some(FIRST), _) => {
                self.found = Some((fields, set));
                return Some(());
            }
            (None, [field]) if is_anonymous(&set) => {
                let held = self.sets.get(&set)?;
                let interval = held.shape.flags & super::set::INTERVAL != 0;
                let shape = Shape { fields: vec![*field], interval, maps_to: None, timeout: false, counters: false };
                let spans = elements(&shape, &held.elements)?.into_iter().map(|(element, _)| element.key[0]).collect();
                Part::Match { field: *field, op: if negate { Op::Ne } else { Op::Eq }, to: Operand::Any(spans) }
            }
            (None, _) => Part::InSet { fields, negate, set },
            _ => return None,
        });
        Some(())
    }

    fn limit(&mut self, data: Attributes) -> Option<()> {
        let per = match data.be64(2)? {
            1 => Per::Second,
            60 => Per::Minute,
            3600 => Per::Hour,
            _ => return None,
        };
        let (rate, burst, over) = (data.be64(1)?.try_into().ok()?, data.be32(3).unwrap_or(0), data.be32(5) == Some(1));
        self.parts.push(Part::Limit { per, rate, burst, over });
        Some(())
    }

    fn nat(&mut self, data: Attributes) -> Option<()> {
        let address = self.values.remove(&data.be32(3)?)?;
        let address = match data.be32(2)? as i32 {
            libc::NFPROTO_IPV4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        };
        let port = |register: Option<u32>| {
            let bytes = register.and_then(|register| self.values.get(&register))?;
            bytes.as_slice().try_into().ok().map(u16::from_be_bytes)
        };
        let ports = port(data.be32(5)).map(|first| (first, port(data.be32(6)).unwrap_or(first)));
        let to = NatTarget { address, ports };
        self.parts.push(if data.be32(1)? as i32 == libc::NFT_NAT_SNAT { Part::Snat { to } } else { Part::Dnat { to } });
        Some(())
    }
}

/// The elements of a set, with what is live of each. Intervals, which the kernel keeps as boundaries, are put together again.
pub fn elements(shape: &Shape, held: &[ElementFacts]) -> Option<Vec<(Element, ElementFacts)>> {
    let whole = |key, element: &ElementFacts| Some((Element { key, to: target(shape, element)?, source: None }, element.clone()));
    let mut sorted: Vec<&ElementFacts> = held.iter().collect();
    if !shape.interval || shape.fields.len() > 1 {
        sorted.sort_unstable();
        return sorted.into_iter().map(|element| whole(spans(shape, element)?, element)).collect();
    }
    // At the same place, one interval ends before the next begins.
    sorted.sort_unstable_by(|one, other| one.key.cmp(&other.key).then(other.flags.cmp(&one.flags)));
    let begins = sorted.iter().enumerate().filter(|(_, element)| element.flags & INTERVAL_END == 0);
    begins
        .map(|(index, element)| {
            let last = sorted.get(index + 1).map_or_else(|| vec![0xff; element.key.len()], |end| predecessor(&end.key));
            whole(vec![narrow(shape.fields[0], &element.key, &last)?], element)
        })
        .collect()
}

/// One element for people, boundaries as boundaries.
pub fn element_text(shape: &Shape, element: &ElementFacts) -> String {
    let key = match spans(shape, element) {
        Some(spans) => spans.iter().map(span_text).collect::<Vec<_>>().join(" . "),
        None => format!("{:02x?}", element.key),
    };
    if element.flags & INTERVAL_END != 0 { format!("{key} (end of an interval)") } else { key }
}

fn span_text(span: &Span) -> String {
    let one = |datum: &Datum| match datum {
        Datum::Interface(name) => name.as_str().to_owned(),
        Datum::V4(address) => address.to_string(),
        Datum::V6(address) => address.to_string(),
        Datum::Mac(octets) => octets.map(|octet| format!("{octet:02x}")).join(":"),
        Datum::Byte(number) => number.to_string(),
        Datum::Port(number) => number.to_string(),
        Datum::Word(number) => format!("{number:#x}"),
    };
    match span {
        Span::One(value) => one(value),
        Span::Range(first, last) => format!("{}-{}", one(first), one(last)),
        Span::Prefix(base, length) => format!("{}/{length}", one(base)),
    }
}

fn spans(shape: &Shape, element: &ElementFacts) -> Option<Vec<Span>> {
    if let [field] = shape.fields.as_slice() {
        let value = if shape.interval { numeric_datum(*field, &element.key)? } else { datum(*field, &element.key)? };
        return Some(vec![Span::One(value)]);
    }
    let (mut at, mut out) = (0, Vec::new());
    for field in &shape.fields {
        let length = form(*field).length;
        let first = element.key.get(at..at + length)?;
        let last = if element.key_end.is_empty() { first } else { element.key_end.get(at..at + length)? };
        out.push(if first == last { Span::One(datum(*field, first)?) } else { narrow(*field, first, last)? });
        at += length.next_multiple_of(4);
    }
    Some(out)
}

/// The shortest way to write a span: one value, a prefix of addresses, or a range.
fn narrow(field: Field, first: &[u8], last: &[u8]) -> Option<Span> {
    let Some(differing) = first.iter().zip(last).position(|(first, last)| first != last) else {
        return Some(Span::One(numeric_datum(field, first)?));
    };
    let bits = differing * 8 + (first[differing] ^ last[differing]).leading_zeros() as usize;
    let free_are = |bytes: &[u8], bit: u8| (bits..bytes.len() * 8).all(|at| bytes[at / 8] >> (7 - at % 8) & 1 == bit);
    if is_address(field) && free_are(first, 0) && free_are(last, 1) {
        return Some(Span::Prefix(datum(field, first)?, bits as u8));
    }
    range(field, first, last)
}

fn range(field: Field, first: &[u8], last: &[u8]) -> Option<Span> {
    Some(Span::Range(numeric_datum(field, first)?, numeric_datum(field, last)?))
}

fn predecessor(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for byte in out.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xff {
            break;
        }
    }
    out
}

/// What a map's element leads to, from the canonical form of facts.rs: kind, length, bytes; for a verdict, code and chain.
fn target(shape: &Shape, element: &ElementFacts) -> Option<Option<Target>> {
    let (mut items, mut rest) = (Vec::new(), element.data.as_slice());
    while rest.len() >= 6 {
        let length = u32::from_be_bytes(rest[2..6].try_into().ok()?) as usize;
        items.push(rest.get(6..6 + length)?);
        rest = &rest[6 + length..];
    }
    Some(match (shape.maps_to, items.as_slice()) {
        (None, _) => None,
        (Some(Maps::Mark), [mark]) => Some(Target::Mark(word(mark)?)),
        (Some(Maps::Verdict), [code, chain]) => {
            let chain = String::from_utf8_lossy(chain).into_owned();
            Some(Target::Verdict(verdict_of(u32::from_be_bytes((*code).try_into().ok()?), chain)?))
        }
        _ => return None,
    })
}

fn verdict(data: Attributes) -> Option<Verdict> {
    verdict_of(data.be32(nfta::VERDICT_CODE)?, data.text(nfta::VERDICT_CHAIN).unwrap_or_default().to_owned())
}

fn verdict_of(code: u32, chain: String) -> Option<Verdict> {
    Some(match code as i32 {
        libc::NF_ACCEPT => Verdict::Accept,
        libc::NF_DROP => Verdict::Drop,
        libc::NFT_RETURN => Verdict::Return,
        libc::NFT_JUMP => Verdict::Jump(chain),
        libc::NFT_GOTO => Verdict::Goto(chain),
        _ => return None,
    })
}

fn is_address(field: Field) -> bool {
    matches!(field, Field::Ip4Saddr | Field::Ip4Daddr | Field::Ip6Saddr | Field::Ip6Daddr)
}

fn datum(field: Field, bytes: &[u8]) -> Option<Datum> {
    Some(match (field, form(field).length) {
        (Field::IifName | Field::OifName, _) => Datum::Interface(FixedName(bytes.try_into().ok()?)),
        (Field::Ip4Saddr | Field::Ip4Daddr, _) => Datum::V4(<[u8; 4]>::try_from(bytes).ok()?.into()),
        (Field::Ip6Saddr | Field::Ip6Daddr, _) => Datum::V6(<[u8; 16]>::try_from(bytes).ok()?.into()),
        (Field::EtherSaddr, _) => Datum::Mac(bytes.try_into().ok()?),
        // Address types are small numbers in a word.
        (Field::FibDaddrType, _) => Datum::Byte(word(bytes)?.try_into().ok()?),
        (_, 1) => Datum::Byte(*bytes.first()?),
        (_, 2) => Datum::Port(u16::from_be_bytes(bytes.try_into().ok()?)),
        _ => Datum::Word(word(bytes)?),
    })
}

/// A bound of a range: in network order, also where the field itself lies in host order.
fn numeric_datum(field: Field, bytes: &[u8]) -> Option<Datum> {
    if !field::is_host_word(field) {
        return datum(field, bytes);
    }
    let turned: Vec<u8> = bytes.iter().rev().copied().collect();
    datum(field, &turned)
}

fn number(field: Field, bytes: &[u8]) -> Option<u32> {
    Some(match datum(field, bytes)? {
        Datum::Byte(number) => number.into(),
        Datum::Port(number) => number.into(),
        Datum::Word(number) => number,
        _ => return None,
    })
}

fn word(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

fn value(data: Attributes, kind: u16) -> Option<Vec<u8>> {
    data.inside(kind).get(nfta::DATA_VALUE).map(<[u8]>::to_vec)
}
