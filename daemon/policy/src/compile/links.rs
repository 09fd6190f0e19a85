//! The links' settings and addresses.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Config, DhcpFamily};
use crate::name::{IfName, Name};
use crate::plan::Link;

pub fn wanted(config: &Config) -> BTreeMap<IfName, Link> {
    config
        .interfaces
        .iter()
        .map(|(name, interface)| {
            let interface = &interface.spec;
            let link = Link {
                mtu: interface.mtu,
                addresses: interface.addresses.iter().copied().collect(),
                dhcp4: interface.dhcp.contains(&DhcpFamily::Ipv4),
                dhcp6: interface.dhcp.contains(&DhcpFamily::Ipv6),
            };
            (name.clone(), link)
        })
        .collect()
}

/// Every zone, also one without ports.
pub fn zones(config: &Config) -> BTreeMap<Name, BTreeSet<IfName>> {
    let mut zones: BTreeMap<_, BTreeSet<_>> = config.zones.keys().map(|zone| (zone.clone(), BTreeSet::new())).collect();
    for (port, interface) in &config.interfaces {
        zones.entry(interface.spec.zone.clone()).or_default().insert(port.clone());
    }
    zones
}
