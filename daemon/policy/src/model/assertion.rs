use super::{AddressTerm, ServiceTerm, ZoneTerm};
use crate::shape::shape;

shape! {
    /// A sentence about the whole policy that must be true of every packet, or the policy cannot be committed.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Assertion {
        /// Where the connections begin.
        pub from: Vec<ZoneTerm>,
        /// Where they end, after any translation.
        pub to: Vec<ZoneTerm>,
        /// Left out: every source address.
        pub sources: Vec<AddressTerm> = Vec::new(),
        /// Left out: every destination address.
        pub destinations: Vec<AddressTerm> = Vec::new(),
        /// Left out: every service.
        pub services: Vec<ServiceTerm> = Vec::new(),
        /// What must be true of all of them.
        pub expect: Expectation,
    }
}

shape! {
    /// What an assertion says of its connections.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Expectation {
        /// No such new connection is let through, at any time of day, after any translation.
        Never,
        /// Every such new connection is let through, at any time of day, while it keeps to rate limits.
        Always,
    }
}
