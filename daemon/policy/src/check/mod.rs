//! Whether the resources of a policy fit together.
//!
//! One file for each kind; `terms` holds what rules of every sort have in common. A problem says what contradicts what, and
//! what to do. What is found here would otherwise be found by packets.

pub mod addresses;
mod assertions;
mod clients;
mod firewall;
mod interfaces;
mod nat;
mod proxy_mappings;
pub mod ranges;
mod report;
mod routes;
pub mod services;
mod sets;
mod system;
mod terms;
mod upstream_groups;
mod upstreams;
mod zones;

use std::collections::BTreeMap;

use crate::model::{Config, Service, ServiceTerm};
use crate::name::{IfName, Name};
use crate::problem::Problems;
use addresses::Addresses;
use report::Report;
use services::Traffic;

/// A policy in which every reference resolves and nothing contradicts. Only `check` makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    config: Config,
    addresses: Addresses,
    zones: BTreeMap<Name, Vec<IfName>>,
}

impl Checked {
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Every AddressSet with its includes, merged, and what lists of address terms stand for.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The interfaces of a zone, in the order of their names.
    pub fn interfaces_of(&self, zone: &Name) -> &[IfName] {
        self.zones.get(zone).map_or(&[], Vec::as_slice)
    }

    /// The policy's own service, or the predefined one.
    pub fn service(&self, name: &Name) -> Option<&Service> {
        services::service(&self.config, name.as_str())
    }

    /// What a list of services stands for; None is every packet.
    pub fn traffic(&self, terms: &[ServiceTerm]) -> Option<Traffic> {
        Traffic::of(&self.config, terms)
    }
}

/// What every check looks at.
struct Whole<'c> {
    config: &'c Config,
    addresses: &'c Addresses,
    zones: &'c BTreeMap<Name, Vec<IfName>>,
}

/// Reports every problem at once; `read` problems are passed in so that all come in one list.
pub fn check(config: Config, mut problems: Problems) -> Result<Checked, Problems> {
    let mut report = Report(&mut problems);
    let zones = zones::interfaces(&config);
    let addresses = Addresses::resolve(&config, &mut report);
    let whole = Whole { config: &config, addresses: &addresses, zones: &zones };

    system::check(&whole, &mut report);
    zones::check(&whole, &mut report);
    interfaces::check(&whole, &mut report);
    sets::check(&whole, &mut report);
    firewall::check(&whole, &mut report);
    nat::check(&whole, &mut report);
    routes::check(&whole, &mut report);
    upstreams::check(&whole, &mut report);
    upstream_groups::check(&whole, &mut report);
    proxy_mappings::check(&whole, &mut report);
    assertions::check(&whole, &mut report);

    if problems.is_empty() {
        return Ok(Checked { config, addresses, zones });
    }
    Err(problems)
}
