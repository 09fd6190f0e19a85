use super::{AddressTerm, Located, RuleSchedule, ServiceTerm, ZoneTerm};
use crate::name::Name;

/// Ordered rules; the first that matches decides. What no rule permits is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallPolicy {
    /// Policies with a lower order come first; equal ones in the order of their names. Default 100.
    pub order: u32,
    pub rules: Vec<Located<FirewallRule>>,
}

/// Empty lists of addresses or services mean all of them. A rule holds for new connections; answers follow by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallRule {
    /// Unique in its policy.
    pub name: Name,
    /// `box` here means what the gateway itself sends.
    pub from: Vec<ZoneTerm>,
    /// `box` here means what is addressed to the gateway.
    pub to: Vec<ZoneTerm>,
    pub sources: Vec<AddressTerm>,
    pub destinations: Vec<AddressTerm>,
    pub services: Vec<ServiceTerm>,
    pub action: Action,
    pub log: Option<LogSpec>,
    /// With `accept`: what goes beyond the rate is dropped. With `drop` and `reject` it is refused by `check`.
    pub rate_limit: Option<RateLimit>,
    pub schedule: Option<RuleSchedule>,
    /// Default true: packets and bytes, shown live.
    pub counter: bool,
    /// Default true.
    pub enabled: bool,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Accept,
    Drop,
    /// TCP gets a reset, everything else ICMP "administratively prohibited".
    Reject,
}

/// `log: true`, or with a prefix. Packets go to NFLOG group 1 with the rule's id in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpec {
    /// Up to 30 printable characters.
    pub prefix: Option<String>,
}

/// `20/second`, `20/second burst 50`. New connections, for the rule as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub rate: u32,
    pub per: crate::ruleset::Per,
    pub burst: u32,
}
