//! Figures for people: what the links carried and how full the connection table is.

use std::collections::BTreeMap;

use policy::messages::LinkCounters;

use crate::netlink::RouteTalk;
use crate::{Error, sysctl};

/// Every link but loopback, by name.
pub fn links() -> Result<BTreeMap<String, LinkCounters>, Error> {
    let held = crate::links::read(&mut RouteTalk::open()?)?;
    Ok(held.into_iter().filter(|(name, _)| name != "lo").map(|(name, held)| (name, held.counters)).collect())
}

/// Entries in the connection table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    pub count: u64,
    pub max: u64,
}

/// Zeros while connection tracking is not loaded, that is, before the first ruleset.
pub fn connections() -> Connections {
    let figure = |name: &str| sysctl::read(name).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    Connections { count: figure("net/netfilter/nf_conntrack_count"), max: figure("net/netfilter/nf_conntrack_max") }
}
