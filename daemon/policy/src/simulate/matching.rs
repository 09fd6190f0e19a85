//! Whether one packet matches one part of a rule.

use std::net::IpAddr;

use super::View;
use super::packet::{ICMP, ICMPV6, TCP, bits};
use crate::ruleset::{Datum, Element, Field, FixedName, Op, Operand, Span};

/// The value of a field, or None where the kernel finds none and the rule ends there (NFT_BREAK).
pub fn value(view: &View, field: Field) -> Option<Datum> {
    let transport = view.transport;
    Some(match field {
        Field::IifName => Datum::Interface(name(view.iif)),
        Field::OifName => Datum::Interface(name(view.oif)),
        Field::NfProto => Datum::Byte(if view.ipv6() { 10 } else { 2 }),
        Field::L4Proto => Datum::Byte(transport.protocol),
        Field::Ip4Saddr | Field::Ip6Saddr => address(view.source, field == Field::Ip6Saddr)?,
        Field::Ip4Daddr | Field::Ip6Daddr => address(view.destination, field == Field::Ip6Daddr)?,
        Field::Sport => Datum::Port(transport.has_ports().then_some(transport.source_port)?),
        Field::Dport => Datum::Port(transport.has_ports().then_some(transport.port)?),
        Field::TcpFlags => Datum::Byte((transport.protocol == TCP).then_some(transport.tcp_flags)?),
        Field::Icmp4Type => Datum::Byte((transport.protocol == ICMP).then_some(transport.port as u8)?),
        Field::Icmp6Type => Datum::Byte((transport.protocol == ICMPV6).then_some(transport.port as u8)?),
        Field::CtState => Datum::Word(view.ct_state),
        // Without a connection there is no status and no mark to look at.
        Field::CtStatus => Datum::Word(view.tracked().then_some(view.ct_status)?),
        Field::CtMark => Datum::Word(view.tracked().then_some(view.ct_mark)?),
        Field::Mark => Datum::Word(view.mark),
        Field::SkUid => Datum::Word(view.user?),
        Field::PktType => Datum::Byte(view.packet_type()),
        Field::FibDaddrType => Datum::Byte(view.kind as u8),
        Field::EtherSaddr => Datum::Mac(view.mac?),
    })
}

fn name(port: Option<&str>) -> FixedName {
    let mut bytes = [0; 16];
    let text = port.unwrap_or("").as_bytes();
    let length = text.len().min(15);
    bytes[..length].copy_from_slice(&text[..length]);
    FixedName(bytes)
}

fn address(address: IpAddr, ipv6: bool) -> Option<Datum> {
    match address {
        IpAddr::V4(v4) if !ipv6 => Some(Datum::V4(v4)),
        IpAddr::V6(v6) if ipv6 => Some(Datum::V6(v6)),
        _ => None,
    }
}

pub fn matches(view: &View, field: Field, op: Op, to: &Operand) -> bool {
    let Some(value) = value(view, field) else { return false };
    let found = match to {
        Operand::One(span) => holds(span, value),
        Operand::Any(spans) => spans.iter().any(|span| holds(span, value)),
    };
    found == (op == Op::Eq)
}

pub fn masked(view: &View, field: Field, mask: u32, op: Op, expected: u32) -> bool {
    let number = match value(view, field) {
        Some(Datum::Byte(byte)) => u32::from(byte),
        Some(Datum::Port(port)) => u32::from(port),
        Some(Datum::Word(word)) => word,
        _ => return false,
    };
    (number & mask == expected) == (op == Op::Eq)
}

/// The element whose key holds the packet's values. None also where a field has no value: see [`value`].
pub fn element<'a>(view: &View, fields: &[Field], elements: &'a [Element]) -> Option<Option<&'a Element>> {
    let values: Vec<Datum> = fields.iter().map(|field| value(view, *field)).collect::<Option<_>>()?;
    Some(elements.iter().find(|element| element.key.iter().zip(&values).all(|(span, value)| holds(span, *value))))
}

pub fn holds(span: &Span, value: Datum) -> bool {
    match *span {
        Span::One(one) => number(one) == number(value),
        Span::Range(first, last) => (number(first)..=number(last)).contains(&number(value)),
        Span::Prefix(start, length) => {
            let shift = 128 - u32::from(length);
            shift == 128 || number(start) >> shift == number(value) >> shift
        }
    }
}

/// Values of one field in their order. Addresses as [`bits`] has them, so that a prefix is the same for both families.
pub fn number(datum: Datum) -> u128 {
    match datum {
        Datum::Interface(name) => u128::from_be_bytes(name.0),
        Datum::V4(v4) => bits(IpAddr::V4(v4)),
        Datum::V6(v6) => u128::from(v6),
        Datum::Mac(octets) => octets.iter().fold(0, |number, octet| number << 8 | u128::from(*octet)),
        Datum::Byte(byte) => u128::from(byte),
        Datum::Port(port) => u128::from(port),
        Datum::Word(word) => u128::from(word),
    }
}
