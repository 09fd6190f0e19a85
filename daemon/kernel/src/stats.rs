//! Figures for people: what the links carried and how full the connection table is.

use std::collections::BTreeMap;

use policy::messages::{LinkCounters, Port};

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

/// The machine's network ports: links that hardware stands behind, or that at least are Ethernet (`veth` in tests).
pub fn ports() -> Result<Vec<Port>, Error> {
    let ports = links()?.into_iter().filter_map(|(name, counters)| {
        let tells = |what: &str| std::fs::read_to_string(format!("/sys/class/net/{name}/{what}")).ok().map(|text| text.trim().to_owned());
        // ARPHRD_ETHER; tunnels and loopback have other numbers.
        (tells("type")? == "1").then(|| Port {
            mac: tells("address").unwrap_or_default(),
            // Not to be read while the port is switched off.
            carrier: tells("carrier").map(|carrier| carrier == "1"),
            speed: tells("speed").and_then(|speed| speed.parse().ok()),
            addresses: counters.addresses.clone(),
            name: name.clone(),
        })
    });
    Ok(ports.collect())
}
