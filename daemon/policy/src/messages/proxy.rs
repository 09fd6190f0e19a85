//! What the applier tells of mapped clients: which are let in, and why the others are not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::forwarder::{Health, MappingState};
use crate::name::Name;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// Milliseconds since the epoch.
    pub now: u64,
    pub forwarder_connected: bool,
    pub mappings: BTreeMap<Name, Effect>,
    /// The last word on each upstream.
    pub upstreams: BTreeMap<Name, Health>,
    /// Names of secrets that are set; never a value.
    pub secrets: Vec<String>,
    /// Names that the policy uses and nobody has set.
    pub secrets_missing: Vec<String>,
}

/// A mapping as the kernel treats it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Effect {
    /// The permit is in the kernel.
    pub permitted: bool,
    /// Why not.
    pub blocked: Option<Blocked>,
    /// Milliseconds since the epoch: since when it is so.
    pub since: u64,
    /// What the forwarder last said.
    pub state: Option<MappingState>,
    /// Bytes of this day and of this month, and their limits.
    pub today: u64,
    pub this_month: u64,
    pub daily: Option<u64>,
    pub monthly: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "because")]
pub enum Blocked {
    /// Nobody could carry it: the forwarder is not there or has not answered yet.
    NoForwarder,
    UpstreamDown {
        why: String,
    },
    /// The exit is an address of the box itself, or not an expected one.
    WrongExit {
        why: String,
    },
    DailyQuota,
    MonthlyQuota,
    Schedule,
    /// The policy says `enabled: false`.
    Disabled,
    SecretMissing {
        name: String,
    },
}
