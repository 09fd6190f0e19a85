use policy::ruleset::{Datum, Field, Span};

use crate::Error;

/// How a field lies in a register or in a set's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// nft's number for the type (`enum datatypes` in nftables' include/datatype.h). The kernel only keeps it for nft to list by.
    pub kind: u32,
    /// Bytes.
    pub length: usize,
    pub order: Order,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Host,
    Network,
}

pub fn form(field: Field) -> Form {
    use Order::{Host, Network};
    let (kind, length, order) = match field {
        Field::NfProto => (2, 1, Host),
        Field::Ip4Saddr | Field::Ip4Daddr => (7, 4, Network),
        Field::EtherSaddr => (9, 6, Network),
        Field::Ip6Saddr | Field::Ip6Daddr => (8, 16, Network),
        Field::L4Proto => (12, 1, Network),
        Field::Sport | Field::Dport => (13, 2, Network),
        Field::Icmp4Type => (14, 1, Network),
        Field::TcpFlags => (15, 1, Network),
        Field::Mark | Field::CtMark => (19, 4, Host),
        Field::SkUid => (24, 4, Host),
        Field::CtState => (26, 4, Host),
        Field::CtStatus => (28, 4, Host),
        Field::Icmp6Type => (29, 1, Network),
        Field::PktType => (31, 1, Host),
        Field::FibDaddrType => (38, 4, Host),
        Field::IifName | Field::OifName => (41, 16, Host),
    };
    Form { kind, length, order }
}

/// The longest key that the kernel takes (NFT_DATA_VALUE_MAXLEN).
const LONGEST: usize = 64;

/// The bytes of a value or of a whole key, kept inline: keys are made by the hundred thousand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Bytes {
    const EMPTY: Bytes = Bytes { bytes: [0; LONGEST], length: 0 };

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The number that follows, or None behind the last one.
    pub fn successor(mut self) -> Option<Bytes> {
        for byte in self.bytes[..self.length].iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return Some(self);
            }
        }
        None
    }

    pub fn is_zero(&self) -> bool {
        self.as_slice().iter().all(|byte| *byte == 0)
    }

    pub fn zero(length: usize) -> Bytes {
        Bytes { bytes: [0; LONGEST], length }
    }

    /// For one byte order of a number to the other.
    fn reverse(mut self) -> Bytes {
        self.bytes[..self.length].reverse();
        self
    }

    fn push(&mut self, more: &[u8], width: usize) -> Result<(), Error> {
        let end = self.length + width;
        if end > LONGEST {
            return Err(Error::Inexpressible { what: "a concatenation".into(), why: format!("it is longer than {LONGEST} bytes") });
        }
        self.bytes[self.length..self.length + more.len()].copy_from_slice(more);
        self.length = end;
        Ok(())
    }
}

/// The first and last value of a span as the field lies in a register: addresses and ports in network order, words in host order.
pub fn bounds(field: Field, span: &Span) -> Result<(Bytes, Bytes), Error> {
    match span {
        Span::One(value) => bytes(field, value).map(|value| (value, value)),
        Span::Range(first, last) => Ok((bytes(field, first)?, bytes(field, last)?)),
        Span::Prefix(base, length) => {
            let first = bytes(field, base)?;
            let mut last = first;
            for (index, byte) in last.bytes[..last.length].iter_mut().enumerate() {
                let free = (8 * (index + 1)).saturating_sub(*length as usize).min(8);
                *byte |= ((1u16 << free) - 1) as u8;
            }
            Ok((first, last))
        }
    }
}

/// The same in network order throughout, so that byte-wise comparison is numeric comparison.
pub fn numeric_bounds(field: Field, span: &Span) -> Result<(Bytes, Bytes), Error> {
    let (first, last) = bounds(field, span)?;
    Ok(if is_host_word(field) { (first.reverse(), last.reverse()) } else { (first, last) })
}

/// Words in host order must be turned before they can be compared by size.
pub fn is_host_word(field: Field) -> bool {
    let form = form(field);
    cfg!(target_endian = "little") && form.order == Order::Host && form.length == 4
}

/// The key of an element, first and last: in a concatenation every field is padded to whole words.
pub fn key(fields: &[Field], spans: &[Span], interval: bool) -> Result<(Bytes, Bytes), Error> {
    if fields.len() != spans.len() || fields.is_empty() {
        let why = format!("its key has {} values for {} fields", spans.len(), fields.len());
        return Err(Error::Inexpressible { what: "an element".into(), why });
    }
    if let ([field], [span]) = (fields, spans) {
        return if interval { numeric_bounds(*field, span) } else { exact(*field, span).map(|value| (value, value)) };
    }
    let (mut low, mut high) = (Bytes::EMPTY, Bytes::EMPTY);
    for (field, span) in fields.iter().zip(spans) {
        let (first, last) = if interval { bounds(*field, span)? } else { exact(*field, span).map(|value| (value, value))? };
        if first != last && (is_host_word(*field) || form(*field).length == 1 && form(*field).order == Order::Host) {
            let why = "a concatenation cannot hold ranges of values that lie in host order".to_owned();
            return Err(Error::Inexpressible { what: format!("the range {span:?} of {field:?}"), why });
        }
        let width = form(*field).length.next_multiple_of(4);
        low.push(first.as_slice(), width)?;
        high.push(last.as_slice(), width)?;
    }
    Ok((low, high))
}

/// Bytes of a key.
pub fn key_length(fields: &[Field]) -> usize {
    match fields {
        [field] => form(*field).length,
        fields => fields.iter().map(|field| form(*field).length.next_multiple_of(4)).sum(),
    }
}

fn exact(field: Field, span: &Span) -> Result<Bytes, Error> {
    match bounds(field, span)? {
        (first, last) if first == last => Ok(first),
        _ => Err(Error::Inexpressible {
            what: format!("the range {span:?} of {field:?}"),
            why: "the set holds single values only (no interval flag)".into(),
        }),
    }
}

fn bytes(field: Field, value: &Datum) -> Result<Bytes, Error> {
    let mut out = Bytes::EMPTY;
    let wanted = form(field);
    match (value, wanted.length) {
        (Datum::Interface(name), 16) if wanted.kind == 41 => out.push(&name.0, 16)?,
        (Datum::V4(address), 4) if wanted.order == Order::Network => out.push(&address.octets(), 4)?,
        (Datum::V6(address), 16) if wanted.order == Order::Network => out.push(&address.octets(), 16)?,
        (Datum::Mac(address), 6) => out.push(address, 6)?,
        (Datum::Byte(byte), 1) => out.push(&[*byte], 1)?,
        (Datum::Port(port), 2) => out.push(&port.to_be_bytes(), 2)?,
        (Datum::Word(word), 4) if wanted.order == Order::Host => out.push(&word.to_ne_bytes(), 4)?,
        // Address types are small numbers; the kernel keeps them in a word.
        (Datum::Byte(byte), 4) if field == Field::FibDaddrType => out.push(&u32::from(*byte).to_ne_bytes(), 4)?,
        _ => return Err(Error::Inexpressible { what: format!("{value:?}"), why: format!("it is no value of {field:?}") }),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> Datum {
        Datum::V4(text.parse().unwrap())
    }

    #[test]
    fn a_prefix_ends_where_its_free_bits_are_all_ones() {
        let last = |length| bounds(Field::Ip4Saddr, &Span::Prefix(v4("10.0.0.0"), length)).unwrap().1.as_slice().to_vec();
        assert_eq!(last(8), [10, 255, 255, 255]);
        assert_eq!(last(12), [10, 15, 255, 255]);
        assert_eq!(last(32), [10, 0, 0, 0]);
        assert_eq!(last(0), [255, 255, 255, 255]);
    }

    #[test]
    fn the_successor_carries_and_the_last_value_has_none() {
        let next = |text| bounds(Field::Ip4Saddr, &Span::One(v4(text))).unwrap().0.successor().map(|next| next.as_slice().to_vec());
        assert_eq!(next("10.0.0.255").unwrap(), [10, 0, 1, 0]);
        assert_eq!(next("255.255.255.255"), None);
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused() {
        assert!(bytes(Field::Dport, &v4("10.0.0.1")).is_err());
        assert!(bytes(Field::Mark, &v4("10.0.0.1")).is_err());
        assert!(bytes(Field::Ip4Saddr, &Datum::Word(1)).is_err());
        assert!(key(&[Field::Dport], &[], false).is_err());
    }
}
