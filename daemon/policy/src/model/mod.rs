//! Everything an administrator can say: one type for each kind of resource.
//!
//! The API's routes, the pages' forms, the JSON Schema, import, export and diff all follow from these types; nothing
//! else holds a second model. A `Config` is well-formed (every value valid by itself); that the resources fit
//! together is what `check` establishes.

mod address_set;
mod assertion;
mod firewall;
mod interface;
mod nat;
mod proxy_mapping;
mod route;
mod service;
mod system;
mod terms;
mod upstream;
mod upstream_group;
mod zone;

pub use address_set::AddressSet;
pub use assertion::{Assertion, Expectation};
pub use firewall::{Action, FirewallPolicy, FirewallRule, LogSpec, RateLimit};
pub use interface::{DhcpFamily, Interface};
pub use nat::{NatKind, NatPolicy, NatRule};
pub use proxy_mapping::{CaptureMode, DnsMode, ProxyMapping};
pub use route::{Route, RouteType};
pub use service::{IcmpType, Icmpv6Type, Service};
pub use system::{Admin, Drift, HotReload, OutputPosture, System};
pub use terms::{
    Address, AddressTerm, BadWord, ClientTerm, Mac, Pem, PortRange, Prefix, Protocol, RuleSchedule, ServiceTerm, TimeOfDay, Weekday,
    ZoneTerm,
};
pub use upstream::{Upstream, UpstreamType};
pub use upstream_group::{GroupStrategy, UpstreamGroup};
pub use zone::Zone;

use std::collections::{BTreeMap, BTreeSet};

use crate::name::{IfName, Name};
use crate::source::Origin;

/// One complete policy, read and typed, not yet checked as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Exactly one after `check`.
    pub system: Option<(Name, Resource<System>)>,
    pub interfaces: BTreeMap<IfName, Resource<Interface>>,
    pub zones: BTreeMap<Name, Resource<Zone>>,
    pub address_sets: BTreeMap<Name, Resource<AddressSet>>,
    pub services: BTreeMap<Name, Resource<Service>>,
    pub firewall_policies: BTreeMap<Name, Resource<FirewallPolicy>>,
    pub nat_policies: BTreeMap<Name, Resource<NatPolicy>>,
    pub routes: BTreeMap<Name, Resource<Route>>,
    pub upstreams: BTreeMap<Name, Resource<Upstream>>,
    pub upstream_groups: BTreeMap<Name, Resource<UpstreamGroup>>,
    pub proxy_mappings: BTreeMap<Name, Resource<ProxyMapping>>,
    pub assertions: BTreeMap<Name, Resource<Assertion>>,
    /// Never any after `check`.
    pub gaps: Gaps,
}

/// What is in the text and could not be read. Its problems are said; nobody is told in addition that it is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps {
    /// A whole document, which may hold anything.
    pub document: bool,
    /// Kind, and name where that was readable.
    pub resources: BTreeSet<(String, Option<String>)>,
}

impl Gaps {
    pub fn may_hide(&self, kind: &str, name: &str) -> bool {
        self.document || self.resources.iter().any(|(of, gap)| of == kind && gap.as_ref().is_none_or(|gap| gap == name))
    }

    pub fn may_hide_any(&self, kind: &str) -> bool {
        self.document || self.resources.iter().any(|(of, _)| of == kind)
    }
}

/// A resource and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource<T> {
    pub origin: Origin,
    /// `metadata.description`
    pub description: Option<String>,
    pub spec: T,
}

/// A rule inside a resource and the line on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    pub line: u32,
    pub value: T,
}
