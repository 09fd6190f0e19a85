//! Addresses and ports as sorted intervals, so that sets of them can be joined and compared.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::Address;

/// First and last, both inclusive. Addresses are their bits, ports their numbers.
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

    /// Every address of the family.
    pub fn all(self) -> Interval {
        (0, if self == Family::V4 { u128::from(u32::MAX) } else { u128::MAX })
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Family::V4 { "IPv4" } else { "IPv6" })
    }
}

pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The whole network of an address with prefix length.
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

/// Whether two sorted lists have anything in common.
pub fn overlap(left: &[Interval], right: &[Interval]) -> bool {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
        if l.1 < r.0 {
            left.next();
        } else if r.1 < l.0 {
            right.next();
        } else {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_becomes_one() {
        assert_eq!(merge(vec![(5, 9), (1, 3), (3, 4), (20, 30), (22, 25)]), [(1, 4), (5, 9), (20, 30)]);
        assert_eq!(merge(vec![(0, u128::MAX), (7, 8)]), [(0, u128::MAX)]);
    }

    #[test]
    fn overlap_is_found_at_the_edges_too() {
        assert!(overlap(&[(1, 3), (8, 9)], &[(4, 5), (9, 20)]));
        assert!(!overlap(&[(1, 3), (8, 9)], &[(4, 7), (10, 20)]));
        assert!(!overlap(&[], &[(0, 5)]));
    }
}
