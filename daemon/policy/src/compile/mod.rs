//! From a checked policy to the plan: pure, total and deterministic.
//!
//! ```text
//! firewall rules ──rules──▶ kernel rules ──pairs──▶ one chain for each pair of zones ──collapse──▶ verdict maps
//! ```

mod addresses;
mod antispoof;
mod collapse;
mod forward;
mod hygiene;
mod input;
mod links;
mod matches;
mod nat;
mod output;
mod pairs;
pub mod proxy;
mod routes;
mod rules;
mod schedules;
mod services;
mod spans;
mod sysctls;
mod zones;

pub(crate) use antispoof::{Territory, port_of};

use std::collections::{BTreeMap, BTreeSet};

use crate::check::Checked;
use crate::check::addresses::Addresses;
use crate::model::{Config, FirewallRule, Located, NatRule, Resource, System};
use crate::name::Name;
use crate::plan::Plan;
use crate::ruleset::{Chain, Part, Rule, Ruleset, Set, Source, Table, Verdict};
use crate::source::Origin;

use zones::Zones;

/// Our one table.
pub const TABLE: &str = "portcullis";
/// The bit of the packet mark that says "our table has let this packet in"; without it nothing is routed.
pub const LET_IN: u32 = 0x1;
/// The NFLOG group that packets are logged to.
pub const LOG_GROUP: u16 = 1;

pub fn compile(checked: &Checked) -> Plan {
    let config = checked.config();
    // `check` has seen that there is one; without it there is nothing to be.
    let Some((_, system)) = &config.system else { return Plan::default() };
    let context = &Context::of(checked, system);
    let schedules = schedules::all(context);
    let pairs = pairs::chains(context);
    let proxy = proxy::plan(context);
    let table = Fragment::of([
        hygiene::chains(context, &proxy),
        antispoof::chains(context),
        proxy::chains(context, &proxy),
        input::chains(context, &pairs, &proxy),
        forward::chains(context, &pairs, &proxy),
        output::chains(context, &pairs, &proxy),
        proxy::output_chains(context, &proxy),
        nat::chains(context, &proxy),
        Fragment { sets: schedules::sets(&schedules), chains: BTreeMap::new() },
        pairs.fragment,
    ]);
    Plan {
        hostname: system.spec.hostname.clone(),
        zones: links::zones(config),
        links: links::wanted(config),
        routes: routes::wanted(config),
        route_rules: routes::rules(&proxy),
        sysctls: sysctls::wanted(config, &proxy),
        ruleset: Ruleset { tables: vec![table.with_address_sets(context).table()] },
        schedules,
        proxy,
        proxied: config.zones.iter().filter(|(_, zone)| zone.spec.proxied).map(|(name, _)| name.clone()).collect(),
        files: crate::services::files(checked),
        units: crate::services::units(checked),
    }
}

/// The policy with its names resolved.
struct Context<'a> {
    config: &'a Config,
    system: &'a System,
    /// Where the posture's own rules come from: the administrator chose them with the System resource.
    origin: &'a Origin,
    zones: Zones<'a>,
    addresses: &'a Addresses,
    territory: Territory<'a>,
}

impl<'a> Context<'a> {
    fn of(checked: &'a Checked, system: &'a Resource<System>) -> Self {
        Context {
            config: checked.config(),
            system: &system.spec,
            origin: &system.origin,
            zones: zones::resolve(checked.config()),
            addresses: checked.addresses(),
            territory: Territory::of(checked.config()),
        }
    }

    /// Enabled rules of every policy, in the order in which they decide.
    fn firewall_rules(&self) -> impl Iterator<Item = (Source, &'a Located<FirewallRule>)> + use<'a> {
        let mut policies: Vec<_> = self.config.firewall_policies.iter().collect();
        policies.sort_by_key(|(_, policy)| policy.spec.order);
        policies.into_iter().flat_map(|(name, policy)| {
            let enabled = policy.spec.rules.iter().filter(|rule| rule.value.enabled);
            enabled.map(move |rule| (source(name, &rule.value.name, policy, rule.line), rule))
        })
    }

    fn nat_rules(&self) -> impl Iterator<Item = (Source, &'a Located<NatRule>)> + use<'a> {
        let mut policies: Vec<_> = self.config.nat_policies.iter().collect();
        policies.sort_by_key(|(_, policy)| policy.spec.order);
        policies.into_iter().flat_map(|(name, policy)| {
            let enabled = policy.spec.rules.iter().filter(|rule| rule.value.enabled);
            enabled.map(move |rule| (source(name, &rule.value.name, policy, rule.line), rule))
        })
    }

    /// A rule of the posture that drops, and counts under `posture/<name>`.
    fn drop(&self, name: &str, matches: impl IntoIterator<Item = Part>) -> Rule {
        self.drop_as(format!("posture/{name}"), matches)
    }

    fn drop_as(&self, id: String, matches: impl IntoIterator<Item = Part>) -> Rule {
        let parts = matches.into_iter().chain([Part::Counter, Part::Verdict(Verdict::Drop)]).collect();
        Rule { parts, comment: Some(id.clone()), source: Some(Source { id, origin: self.origin.clone() }) }
    }
}

fn source<T>(policy: &Name, rule: &Name, resource: &Resource<T>, line: u32) -> Source {
    Source { id: format!("{policy}/{rule}"), origin: Origin { file: resource.origin.file.clone(), line } }
}

fn accept(matches: impl IntoIterator<Item = Part>) -> Rule {
    Rule::of(matches.into_iter().chain([Part::Verdict(Verdict::Accept)]).collect::<Vec<_>>())
}

/// A piece of the table.
#[derive(Debug, Default)]
struct Fragment {
    sets: BTreeMap<String, Set>,
    chains: BTreeMap<String, Chain>,
}

impl Fragment {
    fn of(pieces: impl IntoIterator<Item = Fragment>) -> Self {
        let mut whole = Fragment::default();
        for piece in pieces {
            whole.sets.extend(piece.sets);
            whole.chains.extend(piece.chains);
        }
        whole
    }

    /// Adds the address sets that some rule refers to.
    fn with_address_sets(mut self, context: &Context<'_>) -> Self {
        let parts = self.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.parts);
        let wanted: BTreeSet<String> = parts
            .filter_map(|part| match part {
                Part::InSet { set, .. } => Some(set.clone()),
                _ => None,
            })
            .collect();
        self.sets.extend(addresses::sets(context.config, context.addresses, &wanted));
        self
    }

    fn table(self) -> Table {
        Table { name: TABLE.to_owned(), owned: true, sets: self.sets, chains: self.chains }
    }
}
