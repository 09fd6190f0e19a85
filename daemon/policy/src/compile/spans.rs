//! Families and intervals in the ruleset's terms.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::check::ranges::{Family, Interval};
use crate::ruleset::{Datum, Field, Operand, Span};

impl Family {
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// As `meta nfproto` has it (NFPROTO_IPV4, NFPROTO_IPV6).
    pub fn nfproto(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    /// `4` or `6`, for the names of sets.
    pub fn digit(self) -> char {
        match self {
            Family::V4 => '4',
            Family::V6 => '6',
        }
    }

    pub fn source(self) -> Field {
        if self == Family::V4 { Field::Ip4Saddr } else { Field::Ip6Saddr }
    }

    pub fn destination(self) -> Field {
        if self == Family::V4 { Field::Ip4Daddr } else { Field::Ip6Daddr }
    }

    fn datum(self, number: u128) -> Datum {
        match self {
            Family::V4 => Datum::V4(Ipv4Addr::from_bits(number as u32)),
            Family::V6 => Datum::V6(Ipv6Addr::from_bits(number)),
        }
    }

    /// The shortest way to write an interval; the same that nft prints.
    pub fn span(self, (first, last): Interval) -> Span {
        let size = last.wrapping_sub(first).wrapping_add(1);
        let host_bits = if size == 0 { 128 } else { size.trailing_zeros() };
        let aligned = host_bits == 128 || (size.is_power_of_two() && first & (size - 1) == 0);
        match self.bits() as u32 {
            _ if first == last => Span::One(self.datum(first)),
            bits if aligned => Span::Prefix(self.datum(first), (bits - host_bits) as u8),
            _ => Span::Range(self.datum(first), self.datum(last)),
        }
    }

    pub fn spans(self, intervals: &[Interval]) -> Vec<Span> {
        intervals.iter().map(|interval| self.span(*interval)).collect()
    }
}

/// A match on one value, or on a list of them.
pub fn operand(mut spans: Vec<Span>) -> Operand {
    match spans.len() {
        1 => Operand::One(spans.remove(0)),
        _ => Operand::Any(spans),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::check::ranges::number;

    fn written(family: Family, interval: Interval) -> String {
        format!("{:?}", family.span(interval))
    }

    #[test]
    fn an_interval_that_is_a_prefix_is_written_as_one() {
        assert_eq!(family_text("10.0.0.0", "10.0.0.255"), "Prefix(V4(10.0.0.0), 24)");
        assert_eq!(family_text("10.0.0.1", "10.0.0.1"), "One(V4(10.0.0.1))");
        assert_eq!(family_text("10.0.0.1", "10.0.0.2"), "Range(V4(10.0.0.1), V4(10.0.0.2))");
        assert_eq!(written(Family::V4, Family::V4.all()), "Prefix(V4(0.0.0.0), 0)");
        assert_eq!(written(Family::V6, Family::V6.all()), "Prefix(V6(::), 0)");
        assert_eq!(family_text("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), "Prefix(V6(fe80::), 10)");
    }

    fn family_text(first: &str, last: &str) -> String {
        let (first, last): (IpAddr, IpAddr) = (first.parse().unwrap(), last.parse().unwrap());
        written(Family::of(first), (number(first), number(last)))
    }
}
