/// After how many failures in a row an upstream is failed, and after how many good probes in a row it is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limits {
    pub fail_after: u32,
    pub recover_after: u32,
}

/// For an upstream that a mapping names itself. The second failure is usually the probe that follows the first at once.
pub const SINGLE: Limits = Limits { fail_after: 2, recover_after: 1 };

/// What one pair of limits makes of an upstream. Two groups may judge the same one differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Nothing was tried yet; nothing is carried.
    Unknown,
    Up,
    Down,
}

impl Breaker {
    pub fn failed(&mut self, in_a_row: u32, limits: Limits) {
        if *self == Breaker::Unknown || in_a_row >= limits.fail_after.max(1) {
            *self = Breaker::Down;
        }
    }

    pub fn good(&mut self, in_a_row: u32, limits: Limits) {
        if *self == Breaker::Unknown || in_a_row >= limits.recover_after.max(1) {
            *self = Breaker::Up;
        }
    }
}
