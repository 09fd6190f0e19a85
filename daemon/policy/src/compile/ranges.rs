//! Sorted, merged intervals of addresses or ports, and how they become spans of the ruleset.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::model::Address;
use crate::ruleset::{Datum, Field, Operand, Span};

/// First and last, both inclusive.
pub type Interval = (u128, u128);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// Every address of the family.
    pub fn all(self) -> Interval {
        (0, if self == Family::V4 { u128::from(u32::MAX) } else { u128::MAX })
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

pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

pub fn of_net(net: &IpNet) -> (Family, Interval) {
    (Family::of(net.addr()), (number(net.network()), number(net.broadcast())))
}

pub fn of_address(address: &Address) -> (Family, Interval) {
    match address {
        Address::Prefix(net) => of_net(net),
        Address::Range(first, last) => (Family::of(*first), (number(*first), number(*last))),
    }
}

/// Sorts, and joins what overlaps. What only touches stays apart, as it was written: `10.0.0.1, 10.0.0.2` reads better than a range.
pub fn merge(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_unstable();
    let mut merged: Vec<Interval> = Vec::with_capacity(intervals.len());
    for (first, last) in intervals {
        match merged.last_mut() {
            Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
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
    use super::*;

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

    #[test]
    fn what_overlaps_becomes_one() {
        assert_eq!(merge(vec![(5, 9), (1, 3), (3, 4), (20, 30), (22, 25)]), [(1, 4), (5, 9), (20, 30)]);
        assert_eq!(merge(vec![(0, u128::MAX), (7, 8)]), [(0, u128::MAX)]);
    }
}
