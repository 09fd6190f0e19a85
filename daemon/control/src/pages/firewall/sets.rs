//! Address sets and services, by name.

use policy::Sources;
use policy::model::{Address, Config, PortRange, Service};
use serde::Serialize;

use super::words;
use crate::pages::format;
use crate::pages::ui::Place;

#[derive(Debug, Serialize)]
pub struct SetRow {
    name: String,
    description: Option<String>,
    count: String,
    items: Vec<String>,
    more: Option<String>,
    include: Vec<String>,
    origin: Place,
}

#[derive(Debug, Serialize)]
pub struct ServiceRow {
    name: String,
    description: Option<String>,
    items: Vec<String>,
    origin: Place,
}

/// Addresses of a set that are listed.
const MOST_ITEMS: usize = 40;

pub fn sets(config: &Config, sources: &Sources) -> Vec<SetRow> {
    let row = |(name, resource): (&policy::name::Name, &policy::model::Resource<policy::model::AddressSet>)| {
        let all = &resource.spec.addresses;
        SetRow {
            name: name.to_string(),
            description: resource.description.clone(),
            count: format::count(all.len() as u64),
            items: all.iter().take(MOST_ITEMS).map(Address::to_string).collect(),
            more: (all.len() > MOST_ITEMS).then(|| format!("and {} more", format::count((all.len() - MOST_ITEMS) as u64))),
            include: words(&resource.spec.include),
            origin: Place::of(&resource.origin, sources),
        }
    };
    config.address_sets.iter().map(row).collect()
}

pub fn services(config: &Config, sources: &Sources) -> Vec<ServiceRow> {
    let row = |(name, resource): (&policy::name::Name, &policy::model::Resource<Service>)| ServiceRow {
        name: name.to_string(),
        description: resource.description.clone(),
        items: service_items(&resource.spec),
        origin: Place::of(&resource.origin, sources),
    };
    config.services.iter().map(row).collect()
}

pub fn service_items(service: &Service) -> Vec<String> {
    let ports =
        |protocol: &'static str, ports: &[PortRange]| ports.iter().map(move |ports| format!("{protocol}/{ports}")).collect::<Vec<_>>();
    [
        ports("tcp", &service.tcp),
        ports("udp", &service.udp),
        ports("sctp", &service.sctp),
        service.icmp.iter().map(|kind| format!("icmp type {}", kind.0)).collect(),
        service.icmpv6.iter().map(|kind| format!("icmpv6 type {}", kind.0)).collect(),
        words(&service.protocols),
    ]
    .concat()
}
