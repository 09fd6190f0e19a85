//! The packet filter: nf_tables over netlink.
//!
//! ```no_run
//! # fn story(ruleset: &policy::ruleset::Ruleset) -> Result<(), kernel::Error> {
//! let mut nft = kernel::Nft::open()?;               // held for life: it owns the tables
//! nft.apply(ruleset)?;                              // all of it, or nothing
//! assert!(nft.differences(ruleset)?.is_empty());    // the kernel holds what was meant
//! let hits = nft.counters(ruleset)?;                // by policy rule
//! # Ok(()) }
//! ```

mod element;
mod monitor;

pub use element::{HeldElement, NewElement};
pub use monitor::{Change, Monitor, Who};

use std::collections::BTreeMap;

use policy::messages::Tally;
use policy::ruleset::{Ruleset, Span};

use crate::{Difference, Error};

/// One netlink socket, held for life. The tables it installs with `owned` belong to it: no other program can change or
/// flush them (Linux 5.12), and when its process dies they stay (Linux 6.9) until the next `Nft` adopts them.
pub struct Nft {}

/// What this kernel can do with tables; probed, not guessed from a version number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// `owner`: only we can change our tables.
    pub owner: bool,
    /// `persist`: they outlive us.
    pub persist: bool,
}

impl Nft {
    /// Opens the socket in the calling thread's network namespace and probes the kernel.
    pub fn open() -> Result<Nft, Error> {
        Err(Error::Inexpressible { what: "nft".into(), why: "not built yet".into() })
    }

    pub fn features(&self) -> Features {
        Features { owner: false, persist: false }
    }

    /// Makes the kernel hold exactly these tables, in one transaction: tables of the same name are replaced, tables that
    /// we own and that are no longer named are removed. Counters begin anew. Tables that a dead owner left are adopted.
    pub fn apply(&mut self, ruleset: &Ruleset) -> Result<(), Error> {
        self.apply_instead_of(ruleset, &[])
    }

    /// The same, and in the same transaction the `inet` tables `others` go away, where they exist (a lockdown guard).
    pub fn apply_instead_of(&mut self, _ruleset: &Ruleset, _others: &[&str]) -> Result<(), Error> {
        Ok(())
    }

    /// Where the kernel differs from the ruleset; empty means that every table, chain, set, element and rule is as meant.
    /// Elements of sets with `timeout` come and go and are not compared.
    pub fn differences(&mut self, _ruleset: &Ruleset) -> Result<Vec<Difference>, Error> {
        Ok(vec![])
    }

    /// Base chains of tables that are not in the ruleset: `table ip docker, chain FORWARD: filter hook forward, priority 0, policy drop`.
    /// For information; another table can only forbid more, never permit what ours forbids.
    pub fn foreign_hooks(&mut self, _ruleset: &Ruleset) -> Result<Vec<String>, Error> {
        Ok(vec![])
    }

    /// Packets and bytes by `Source::id`, summed over every rule and element that carries it, and by comment for the
    /// posture's own rules (`posture/...`).
    pub fn counters(&mut self, _ruleset: &Ruleset) -> Result<BTreeMap<String, Tally>, Error> {
        Ok(BTreeMap::new())
    }

    /// What the kernel holds in these `inet` tables, in nft's own language, with live counters.
    pub fn text(&mut self, _tables: &[&str]) -> Result<String, Error> {
        Ok(String::new())
    }

    /// Adds elements to a named set, all or none. An element that exists already is left as it is (its timeout too:
    /// delete it first to renew it, or use [`Nft::renew_elements`]).
    pub fn add_elements(&mut self, _table: &str, _set: &str, _elements: &[NewElement]) -> Result<(), Error> {
        Ok(())
    }

    /// Gives the elements their timeout anew, whether they exist or not, in one transaction.
    pub fn renew_elements(&mut self, _table: &str, _set: &str, _elements: &[NewElement]) -> Result<(), Error> {
        Ok(())
    }

    /// Removes elements, those of the keys that exist. A key has one span for each field of the set.
    pub fn delete_elements(&mut self, _table: &str, _set: &str, _keys: &[Vec<Span>]) -> Result<(), Error> {
        Ok(())
    }

    /// What a named set of the ruleset holds now.
    pub fn elements(&mut self, _ruleset: &Ruleset, _table: &str, _set: &str) -> Result<Vec<HeldElement>, Error> {
        Ok(vec![])
    }
}
