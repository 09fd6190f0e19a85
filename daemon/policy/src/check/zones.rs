//! Zones: their names, and which ports they have.

use std::collections::BTreeMap;

use super::Whole;
use super::report::Report;
use crate::model::Config;
use crate::name::{IfName, Name};

/// Every pair of zones is a chain of its own in the kernel.
const MOST_ZONES: usize = 200;

pub(super) fn interfaces(config: &Config) -> BTreeMap<Name, Vec<IfName>> {
    let mut zones: BTreeMap<Name, Vec<IfName>> = config.zones.keys().map(|name| (name.clone(), Vec::new())).collect();
    for (name, interface) in &config.interfaces {
        if let Some(zone) = zones.get_mut(&interface.spec.zone) {
            zone.push(name.clone());
        }
    }
    zones
}

pub(super) fn check(whole: &Whole, report: &mut Report) {
    let zones = &whole.config.zones;
    for (name, zone) in zones {
        if matches!(name.as_str(), "any" | "box") {
            report
                .resource("Zone", name, zone)
                .say(format!("`{name}` has a meaning of its own in rules; choose another name for this zone"));
        }
    }
    if zones.len() > MOST_ZONES {
        report.0.general(format!(
            "the policy has {} zones; at most {MOST_ZONES} are possible: put ports that are trusted alike into one",
            zones.len()
        ));
    }
}
