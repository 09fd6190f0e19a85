use super::{AddressTerm, ServiceTerm, ZoneTerm};

/// A sentence about the whole policy that must be true of every packet, or the policy cannot be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    pub from: Vec<ZoneTerm>,
    pub to: Vec<ZoneTerm>,
    pub sources: Vec<AddressTerm>,
    pub destinations: Vec<AddressTerm>,
    pub services: Vec<ServiceTerm>,
    pub expect: Expectation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// No such new connection is let through, at any time of day, after any translation.
    Never,
    /// Every such new connection is let through, at any time of day, while it keeps to rate limits.
    Always,
}
