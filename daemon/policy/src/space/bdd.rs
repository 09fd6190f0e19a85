//! A binary decision diagram: a set of bit vectors as a graph in which equal subsets are one node.
//!
//! Hash-consing makes equality a comparison of numbers, and makes taking one narrow rule out of a huge set cost one path.
//! Memory and work are bounded: at either limit the diagram stops growing and says so, and every answer after that is worthless.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

/// A set of bit vectors, by the number of its node. Only meaningful together with the [`Bdd`] that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set(u32);

impl Set {
    pub const EMPTY: Set = Set(0);
    pub const ALL: Set = Set(1);

    pub fn is_empty(self) -> bool {
        self == Set::EMPTY
    }
}

/// The number of a bit, counted from the root.
pub type Var = u16;

pub struct Bdd {
    nodes: Vec<Node>,
    /// Open addressing over `nodes`; 0 is free, since the two leaves are never looked up.
    table: Vec<u32>,
    /// Direct-mapped and lossy: what it has forgotten is computed again.
    cache: Vec<Remembered>,
    limit: usize,
    /// Work that may still be done, so that a hopeless case ends in seconds.
    steps: u64,
    exhausted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    var: Var,
    /// The lowest bit that matters below: a walk that looks for bits can turn round where there are none.
    deepest: Var,
    low: Set,
    high: Set,
}

#[derive(Clone, Copy)]
struct Remembered {
    op: Op,
    a: Set,
    b: Set,
    is: Set,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    None,
    And,
    Or,
    Minus,
}

const LEAF: Var = Var::MAX;
const CACHE_MAX: usize = 1 << 20;
/// Sets that fit need fewer than ten; more is the sign of one that is rebuilt over and over.
const STEPS_PER_NODE: u64 = 25;

impl Bdd {
    /// `limit` is in nodes; one costs about 30 bytes with its share of the tables.
    pub fn new(limit: usize) -> Self {
        let leaf = |set| Node { var: LEAF, deepest: 0, low: set, high: set };
        Bdd {
            nodes: vec![leaf(Set::EMPTY), leaf(Set::ALL)],
            table: vec![0; 1 << 12],
            cache: vec![Remembered { op: Op::None, a: Set::EMPTY, b: Set::EMPTY, is: Set::EMPTY }; 1 << 12],
            limit,
            steps: limit as u64 * STEPS_PER_NODE,
            exhausted: false,
        }
    }

    /// Whether the limit was met: then no answer may be trusted.
    pub fn exhausted(&self) -> bool {
        self.exhausted
    }

    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Bit `var` of every member is `high`'s or `low`'s business.
    pub fn node(&mut self, var: Var, low: Set, high: Set) -> Set {
        if low == high {
            return low;
        }
        let deepest = |set: Set| self.nodes[set.0 as usize].deepest;
        let node = Node { var, deepest: var.max(deepest(low)).max(deepest(high)), low, high };
        let mask = self.table.len() - 1;
        let mut slot = mix(u64::from(var), low, high) & mask;
        while self.table[slot] != 0 {
            if self.nodes[self.table[slot] as usize] == node {
                return Set(self.table[slot]);
            }
            slot = (slot + 1) & mask;
        }
        if self.nodes.len() >= self.limit {
            self.exhausted = true;
            return Set::EMPTY;
        }
        let set = Set(self.nodes.len() as u32);
        self.nodes.push(node);
        self.table[slot] = set.0;
        if self.nodes.len() * 3 > self.table.len() * 2 {
            self.grow();
        }
        set
    }

    fn grow(&mut self) {
        let mask = self.table.len() * 2 - 1;
        self.table = vec![0; mask + 1];
        for (number, node) in self.nodes.iter().enumerate().skip(2) {
            let mut slot = mix(u64::from(node.var), node.low, node.high) & mask;
            while self.table[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.table[slot] = number as u32;
        }
        if self.cache.len() < CACHE_MAX {
            self.cache = vec![Remembered { op: Op::None, a: Set::EMPTY, b: Set::EMPTY, is: Set::EMPTY }; mask.div_ceil(2)];
        }
    }

    pub fn var(&mut self, var: Var) -> Set {
        self.node(var, Set::EMPTY, Set::ALL)
    }

    pub fn and(&mut self, a: Set, b: Set) -> Set {
        self.apply(Op::And, a.min(b), a.max(b))
    }

    pub fn or(&mut self, a: Set, b: Set) -> Set {
        self.apply(Op::Or, a.min(b), a.max(b))
    }

    pub fn minus(&mut self, a: Set, b: Set) -> Set {
        self.apply(Op::Minus, a, b)
    }

    pub fn not(&mut self, a: Set) -> Set {
        self.minus(Set::ALL, a)
    }

    /// Halves first, so that no intermediate result is larger than it must be.
    pub fn any(&mut self, sets: &[Set]) -> Set {
        match sets {
            [] => Set::EMPTY,
            [one] => *one,
            _ => {
                let (left, right) = sets.split_at(sets.len() / 2);
                let (left, right) = (self.any(left), self.any(right));
                self.or(left, right)
            }
        }
    }

    fn apply(&mut self, op: Op, a: Set, b: Set) -> Set {
        match (op, a, b) {
            (Op::And, Set::EMPTY, _) | (Op::Minus, Set::EMPTY, _) | (Op::Minus, _, Set::ALL) => return Set::EMPTY,
            (Op::And, Set::ALL, other) | (Op::Or, Set::EMPTY, other) | (Op::Minus, other, Set::EMPTY) => return other,
            (Op::Or, Set::ALL, _) => return Set::ALL,
            (Op::And | Op::Or, a, b) if a == b => return a,
            (Op::Minus, a, b) if a == b => return Set::EMPTY,
            _ if self.exhausted => return Set::EMPTY,
            _ => {}
        }
        let slot = mix(op as u64, a, b) & (self.cache.len() - 1);
        let seen = self.cache[slot];
        if seen.op == op && seen.a == a && seen.b == b {
            return seen.is;
        }
        self.steps = self.steps.saturating_sub(1);
        if self.steps == 0 {
            self.exhausted = true;
        }
        let (left, right) = (self.nodes[a.0 as usize], self.nodes[b.0 as usize]);
        let var = left.var.min(right.var);
        let (a0, a1) = if left.var == var { (left.low, left.high) } else { (a, a) };
        let (b0, b1) = if right.var == var { (right.low, right.high) } else { (b, b) };
        let swap = op != Op::Minus;
        let mut side = |x: Set, y: Set| if swap { self.apply(op, x.min(y), x.max(y)) } else { self.apply(op, x, y) };
        let (low, high) = (side(a0, b0), side(a1, b1));
        let is = self.node(var, low, high);
        let slot = mix(op as u64, a, b) & (self.cache.len() - 1);
        self.cache[slot] = Remembered { op, a, b, is };
        is
    }

    /// Which vectors become members when the bits in `free` may be changed at will.
    pub fn exists(&mut self, set: Set, free: &Range<Var>) -> Set {
        self.exists_step(set, free, &mut Memo::default())
    }

    fn exists_step(&mut self, set: Set, free: &Range<Var>, memo: &mut Memo) -> Set {
        let node = self.nodes[set.0 as usize];
        if node.var >= free.end || node.deepest < free.start {
            return set;
        }
        if let Some(done) = memo.get(&set.0) {
            return *done;
        }
        let low = self.exists_step(node.low, free, memo);
        let high = self.exists_step(node.high, free, memo);
        let is = if free.contains(&node.var) { self.or(low, high) } else { self.node(node.var, low, high) };
        memo.insert(set.0, is);
        is
    }

    /// The same set once the bits in `range` for which `fixed` knows a value have that value; those bits no longer matter.
    pub fn restrict(&mut self, set: Set, range: &Range<Var>, fixed: &dyn Fn(Var) -> Option<bool>) -> Set {
        self.restrict_step(set, range, fixed, &mut Memo::default())
    }

    fn restrict_step(&mut self, set: Set, range: &Range<Var>, fixed: &dyn Fn(Var) -> Option<bool>, memo: &mut Memo) -> Set {
        let node = self.nodes[set.0 as usize];
        if node.var >= range.end || node.deepest < range.start {
            return set;
        }
        if let Some(done) = memo.get(&set.0) {
            return *done;
        }
        let is = match fixed(node.var).filter(|_| range.contains(&node.var)) {
            Some(true) => self.restrict_step(node.high, range, fixed, memo),
            Some(false) => self.restrict_step(node.low, range, fixed, memo),
            None => {
                let low = self.restrict_step(node.low, range, fixed, memo);
                let high = self.restrict_step(node.high, range, fixed, memo);
                self.node(node.var, low, high)
            }
        };
        memo.insert(set.0, is);
        is
    }

    /// One member, as the bits that matter on its path; all others may have any value. Prefers zeros.
    pub fn member(&self, mut set: Set) -> Option<Vec<(Var, bool)>> {
        let mut path = Vec::new();
        while set != Set::ALL {
            let node = self.nodes[set.0 as usize];
            if node.var == LEAF {
                return None;
            }
            let take_high = node.low.is_empty();
            path.push((node.var, take_high));
            set = if take_high { node.high } else { node.low };
        }
        Some(path)
    }

    /// Whether the vector whose bits `value` tells is a member.
    pub fn contains(&self, mut set: Set, value: &dyn Fn(Var) -> bool) -> bool {
        loop {
            let node = self.nodes[set.0 as usize];
            if node.var == LEAF {
                return set == Set::ALL;
            }
            set = if value(node.var) { node.high } else { node.low };
        }
    }

    /// Splits a set at bit `var`, which must not lie below its topmost bit: the members without and with it.
    pub fn split(&self, set: Set, var: Var) -> (Set, Set) {
        let node = self.nodes[set.0 as usize];
        if node.var == var { (node.low, node.high) } else { (set, set) }
    }

    /// The topmost bit that matters to this set; `Var::MAX` for the leaves.
    pub fn top(&self, set: Set) -> Var {
        self.nodes[set.0 as usize].var
    }

    /// All numbers of `width` bits, the most significant at `first`, that lie in one of the ranges (sorted, disjoint, inclusive).
    pub fn ranges(&mut self, first: Var, width: u16, ranges: &[(u128, u128)]) -> Set {
        self.range_step(first, width, 0, ranges)
    }

    fn range_step(&mut self, var: Var, width: u16, base: u128, ranges: &[(u128, u128)]) -> Set {
        let (Some(first), Some(_)) = (ranges.first(), ranges.last()) else { return Set::EMPTY };
        let last = base | low_bits(width);
        if first.0 <= base && first.1 >= last {
            return Set::ALL;
        }
        let middle = base | 1 << (width - 1);
        let left = &ranges[..ranges.partition_point(|range| range.0 < middle)];
        let right = &ranges[ranges.partition_point(|range| range.1 < middle)..];
        let low = self.range_step(var + 1, width - 1, base, left);
        let high = self.range_step(var + 1, width - 1, middle, right);
        self.node(var, low, high)
    }
}

/// The greatest number of `width` bits.
pub fn low_bits(width: u16) -> u128 {
    if width == 0 { 0 } else { u128::MAX >> (128 - width) }
}

fn mix(a: u64, b: Set, c: Set) -> usize {
    let key = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(b.0) << 32 | u64::from(c.0));
    let hash = key.wrapping_mul(0xff51_afd7_ed55_8ccd);
    ((hash ^ hash >> 32).wrapping_mul(0xc4ce_b9fe_1a85_ec53) >> 20) as usize
}

type Memo = HashMap<u32, Set, BuildHasherDefault<NumberHasher>>;

/// Node numbers are small and ours: no defence against chosen keys is needed.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u128, width: u16) -> impl Fn(Var) -> bool {
        move |var| value >> (width - 1 - var) & 1 == 1
    }

    #[test]
    fn ranges_hold_exactly_their_numbers() {
        let mut bdd = Bdd::new(10_000);
        let set = bdd.ranges(0, 8, &[(0, 3), (17, 17), (100, 255)]);
        for value in 0..256 {
            let expected = value <= 3 || value == 17 || value >= 100;
            assert_eq!(bdd.contains(set, &number(value, 8)), expected, "{value}");
        }
        assert_eq!(bdd.ranges(0, 128, &[(0, u128::MAX)]), Set::ALL);
    }

    #[test]
    fn equal_sets_are_one_node_however_they_were_made() {
        let mut bdd = Bdd::new(10_000);
        let a = bdd.ranges(0, 16, &[(10, 500)]);
        let b = bdd.ranges(0, 16, &[(400, 9_000)]);
        let both = bdd.or(a, b);
        assert_eq!(both, bdd.ranges(0, 16, &[(10, 9_000)]));
        let only_a = bdd.minus(a, b);
        assert_eq!(only_a, bdd.ranges(0, 16, &[(10, 399)]));
        let not_a = bdd.not(a);
        assert_eq!(bdd.and(a, not_a), Set::EMPTY);
    }

    #[test]
    fn exists_and_restrict_forget_bits() {
        let mut bdd = Bdd::new(10_000);
        let set = bdd.ranges(0, 8, &[(0x50, 0x5f)]);
        assert_eq!(bdd.exists(set, &(0..4)), Set::ALL);
        assert_eq!(bdd.restrict(set, &(0..4), &|var| Some(var == 1 || var == 3)), Set::ALL);
        assert_eq!(bdd.restrict(set, &(0..4), &|_| Some(false)), Set::EMPTY);
    }

    #[test]
    fn the_limit_is_met_and_said() {
        let mut bdd = Bdd::new(100);
        let ranges: Vec<_> = (0..1000u128).map(|n| (n * 97, n * 97 + 3)).collect();
        bdd.ranges(0, 32, &ranges);
        assert!(bdd.exhausted());
        assert!(bdd.size() <= 100);
    }
}
