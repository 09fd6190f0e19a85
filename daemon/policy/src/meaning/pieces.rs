//! Taking a set apart, from the root down: families, protocols, ports, destinations, sources.

use std::collections::BTreeMap;

use crate::space::bdd::low_bits;
use crate::space::{Bdd, PORT, PROTOCOL, Set, Var};

/// Protocol → port ranges (all 65,536 for a protocol without ports).
pub type Services = BTreeMap<u8, Vec<(u128, u128)>>;

/// Consecutive numbers and what remains of the set below them.
type Piece = (u128, u128, Set);

/// The services of one family's packets, grouped by the addresses that go with them.
pub fn services(bdd: &Bdd, family: Set) -> BTreeMap<Set, Services> {
    let mut groups: BTreeMap<Set, Services> = BTreeMap::new();
    let mut below: BTreeMap<Set, Vec<Piece>> = BTreeMap::new();
    for (first, last, set) in numbers(bdd, family, PROTOCOL, 8, usize::MAX) {
        let ports = below.entry(set).or_insert_with(|| numbers(bdd, set, PORT, 16, usize::MAX));
        for protocol in first..=last {
            for (low, high, addresses) in ports.iter() {
                groups.entry(*addresses).or_default().entry(protocol as u8).or_default().push((*low, *high));
            }
        }
    }
    groups
}

/// The members' values of `width` bits at `first`, with what remains below; at most about `most` pieces.
pub fn numbers(bdd: &Bdd, set: Set, first: Var, width: u16, most: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    step(bdd, set, first, width, 0, most, &mut pieces);
    pieces
}

fn step(bdd: &Bdd, set: Set, var: Var, width: u16, base: u128, most: usize, pieces: &mut Vec<Piece>) {
    if set.is_empty() || pieces.len() > most {
        return;
    }
    // None of the bits that are left matters: one piece.
    if width == 0 || bdd.top(set) >= var + width {
        let last = base | low_bits(width);
        match pieces.last_mut() {
            Some(before) if before.2 == set && before.1 + 1 == base => before.1 = last,
            _ => pieces.push((base, last, set)),
        }
        return;
    }
    let (low, high) = bdd.split(set, var);
    step(bdd, low, var + 1, width - 1, base, most, pieces);
    step(bdd, high, var + 1, width - 1, base | 1 << (width - 1), most, pieces);
}
