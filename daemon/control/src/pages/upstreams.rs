//! Upstreams and groups: how each does at this moment. Written in the candidate, told from what runs.

use std::collections::{BTreeMap, BTreeSet};

use policy::Sources;
use policy::messages::forwarder::{Health, HealthStatus};
use policy::model::{Config, GroupStrategy, ProxyMapping, Resource, UpstreamType};
use policy::name::Name;
use serde::Serialize;

use super::format::{self, Clock, Stamp};
use super::latency::{self, Latency};
use super::mappings::{NOT_KNOWN, absences};
use super::page::{self, Page};
use super::secrets::{self, SecretRow};
use super::ui::{Badge, Field, Place, Tone, query, visible};
use crate::candidate;
use crate::carried::{self, Known};
use crate::flash;
use crate::forwarder;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const VIEW: Access = Access::May(Action::View);
const OPERATE: Access = Access::May(Action::Operate);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/upstreams", access: VIEW, handler: show },
    Route { method: Method::Post, path: "/upstreams/test", access: OPERATE, handler: test },
];

#[derive(Debug, Serialize)]
pub struct Upstreams {
    intro: String,
    may_operate: bool,
    may_edit: bool,
    /// There is one to probe.
    running: bool,
    upstreams: Vec<Row>,
    groups: Vec<GroupRow>,
    secrets: Vec<SecretRow>,
    secrets_known: bool,
    fields: Vec<Field>,
}

#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    href: String,
    description: Option<String>,
    pub kind: &'static str,
    pub address: String,
    pub state: Badge,
    pub why: String,
    /// What the candidate does to it.
    pub note: &'static str,
    pub latency: String,
    pub spark: Option<Latency>,
    pub exit: String,
    checked: Option<Stamp>,
    pub flows: String,
    pub used_by: Vec<String>,
    pub origin: Place,
    pub runs: bool,
}

#[derive(Debug, Serialize)]
struct GroupRow {
    name: String,
    href: String,
    description: Option<String>,
    key: String,
    state: Badge,
    note: &'static str,
    strategy: &'static str,
    members: Vec<Member>,
    used_by: Vec<String>,
    origin: Place,
    runs: bool,
}

#[derive(Debug, Serialize)]
struct Member {
    name: String,
    key: String,
    state: Badge,
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    draw(visit, &Fields::default(), None)
}

pub fn draw(visit: &Visit, typed: &Fields, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let known = visit.site.carried.look(visit.site);
    let candidate = candidate::get(visit.site)?;
    let written = candidate.dirty.then(|| policy::read::read(&candidate.sources).0);
    let none = Sources::default();
    let policies = Policies {
        running: page::config(&seen),
        written: written.as_ref().or(page::config(&seen)),
        running_text: seen.running.as_ref().map_or(&none, |running| &running.sources),
        written_text: &candidate.sources,
    };
    let mut view = upstreams(&policies, &known, &page::clock(visit), typed);
    (view.may_operate, view.may_edit) = (visit.may(Action::Operate), visit.may(Action::Edit));
    let page = Page::new(visit, "Upstreams").live("upstreams").told(&mut view.fields, trouble)?;
    absences(page, &known).draw("upstreams.html", &view)
}

/// What runs, and what is written in the candidate.
pub struct Policies<'a> {
    pub running: Option<&'a Config>,
    pub written: Option<&'a Config>,
    pub running_text: &'a Sources,
    pub written_text: &'a Sources,
}

impl<'a> Policies<'a> {
    /// A resource as it runs, else as it is written, with its place and whether it runs.
    pub fn find<T>(&self, name: &Name, of: fn(&Config) -> &BTreeMap<Name, Resource<T>>) -> Option<(&'a Resource<T>, Place, bool)> {
        let in_one = |config: Option<&'a Config>| config.and_then(|config| of(config).get(name));
        match (in_one(self.running), in_one(self.written)) {
            (Some(resource), _) => Some((resource, Place::of(&resource.origin, self.running_text), true)),
            (None, Some(resource)) => Some((resource, Place::of(&resource.origin, self.written_text), false)),
            (None, None) => None,
        }
    }

    fn names<T: 'a>(&self, of: fn(&Config) -> &BTreeMap<Name, Resource<T>>) -> BTreeSet<&'a Name> {
        [self.running, self.written].into_iter().flatten().flat_map(|config| of(config).keys()).collect()
    }

    /// What the candidate does to it, where it does something.
    pub fn note<T: PartialEq>(&self, name: &Name, of: fn(&Config) -> &BTreeMap<Name, Resource<T>>) -> &'static str {
        let in_one = |config: Option<&'a Config>| config.and_then(|config| of(config).get(name));
        match (in_one(self.running), in_one(self.written)) {
            (Some(_), None) => "The candidate takes it out.",
            (Some(now), Some(then)) if now.spec != then.spec => "The candidate changes it.",
            (None, Some(_)) => "Not applied yet.",
            _ => "",
        }
    }

    /// Mappings that run, or where there are none of this name, that are written.
    fn mappings(&self) -> BTreeMap<&'a Name, &'a ProxyMapping> {
        let all = [self.written, self.running].into_iter().flatten().flat_map(|config| &config.proxy_mappings);
        all.map(|(name, mapping)| (name, &mapping.spec)).collect()
    }

    pub fn users_of_upstream(&self, upstream: &Name) -> Vec<String> {
        let by_group = |group: &Name| {
            self.find(group, |config| &config.upstream_groups).is_some_and(|(group, ..)| group.spec.members.contains(upstream))
        };
        let uses = |mapping: &ProxyMapping| mapping.upstream.as_ref() == Some(upstream) || mapping.group.as_ref().is_some_and(by_group);
        self.mappings().into_iter().filter(|(_, mapping)| uses(mapping)).map(|(name, _)| name.to_string()).collect()
    }

    pub fn users_of_group(&self, group: &Name) -> Vec<String> {
        self.mappings().into_iter().filter(|(_, mapping)| mapping.group.as_ref() == Some(group)).map(|(name, _)| name.to_string()).collect()
    }
}

pub fn upstreams(policies: &Policies, known: &Known, clock: &Clock, typed: &Fields) -> Upstreams {
    let nothing = Config::default();
    let config = policies.running.unwrap_or(&nothing);
    let states: Vec<_> = config.upstreams.keys().map(|name| known.health(name)).collect();
    let up = states.iter().flatten().filter(|health| carried::carries(health.status)).count();
    Upstreams {
        intro: match (config.upstreams.len(), states.iter().flatten().count()) {
            (0, _) => "The policy that runs has none.".to_owned(),
            (all, 0) => format!("{}; how they do is not known.", format::plural(all, "upstream", "upstreams")),
            (all, _) => format!("{up} of {all} up. Each is probed through itself every 30 seconds, never past it."),
        },
        may_operate: false,
        may_edit: false,
        running: !config.upstreams.is_empty(),
        upstreams: policies.names(|config| &config.upstreams).into_iter().filter_map(|name| row(name, policies, known, clock)).collect(),
        groups: policies.names(|config| &config.upstream_groups).into_iter().filter_map(|name| group_row(name, policies, known)).collect(),
        secrets: secrets::rows(policies.written.unwrap_or(config), known),
        secrets_known: known.applier.is_some(),
        fields: secrets::fields(typed),
    }
}

pub fn row(name: &Name, policies: &Policies, known: &Known, clock: &Clock) -> Option<Row> {
    let (upstream, origin, runs) = policies.find(name, |config| &config.upstreams)?;
    let health = known.health(name).filter(|_| runs);
    let figures = figures_of(name, known);
    let figure = |key: &str| figures.get(key).cloned().unwrap_or_else(|| if runs { NOT_KNOWN } else { "–" }.to_owned());
    Some(Row {
        name: name.to_string(),
        href: format!("/upstreams/upstream?name={}", query(name.as_str())),
        description: upstream.description.as_deref().map(visible),
        kind: kind(&upstream.spec.kind),
        address: std::net::SocketAddr::new(upstream.spec.address, upstream.spec.port).to_string(),
        state: if runs { state(health) } else { Badge::new(Tone::Info, "in the candidate") },
        why: why(health),
        note: policies.note(name, |config| &config.upstreams),
        latency: figure("latency"),
        spark: latency::latency(known.history(name), format!("up.{name}.spark")).filter(|_| runs),
        exit: figure("exit"),
        checked: health.and_then(|health| clock.stamp(health.at)),
        flows: figure("flows"),
        used_by: policies.users_of_upstream(name),
        origin,
        runs,
    })
}

fn group_row(name: &Name, policies: &Policies, known: &Known) -> Option<GroupRow> {
    let (group, origin, runs) = policies.find(name, |config| &config.upstream_groups)?;
    let member = |member: &Name| Member { name: member.to_string(), key: format!("up.{member}"), state: state(known.health(member)) };
    Some(GroupRow {
        name: name.to_string(),
        href: format!("/upstreams/group?name={}", query(name.as_str())),
        description: group.description.as_deref().map(visible),
        key: format!("group.{name}"),
        state: if runs { group_state(&group.spec.members, known) } else { Badge::new(Tone::Info, "in the candidate") },
        note: policies.note(name, |config| &config.upstream_groups),
        strategy: strategy(group.spec.strategy),
        members: group.spec.members.iter().map(member).collect(),
        used_by: policies.users_of_group(name),
        origin,
        runs,
    })
}

pub fn strategy(strategy: GroupStrategy) -> &'static str {
    match strategy {
        GroupStrategy::Priority => "the first that is up",
        GroupStrategy::RoundRobin => "one after the other",
        GroupStrategy::Latency => "the quickest",
    }
}

/// A group carries while one member does, and is whole while all of them do.
pub fn group_state(members: &[Name], known: &Known) -> Badge {
    group_of(members.iter().map(|member| known.health(member).map(|health| health.status)))
}

pub fn group_of(members: impl Iterator<Item = Option<HealthStatus>>) -> Badge {
    let members: Vec<_> = members.collect();
    let count = |status: HealthStatus| members.iter().filter(|member| **member == Some(status)).count();
    let (healthy, up) = (count(HealthStatus::Healthy), count(HealthStatus::Healthy) + count(HealthStatus::Degraded));
    match members.len() {
        all if healthy == all && all > 0 => Badge::new(Tone::Ok, "healthy"),
        _ if up > 0 => Badge::new(Tone::Warn, "degraded"),
        all if count(HealthStatus::Failed) == all && all > 0 => Badge::new(Tone::Bad, "failed"),
        _ => Badge::new(Tone::Plain, NOT_KNOWN),
    }
}

pub fn kind(kind: &UpstreamType) -> &'static str {
    match kind {
        UpstreamType::Socks5 { udp: true } => "SOCKS5, TCP and UDP",
        UpstreamType::Socks5 { udp: false } => "SOCKS5, TCP",
        UpstreamType::Socks5Tls { .. } => "SOCKS5 over TLS",
        UpstreamType::HttpConnect {} => "HTTP CONNECT",
        UpstreamType::HttpsConnect { .. } => "HTTPS CONNECT",
    }
}

pub fn state(health: Option<&Health>) -> Badge {
    match health.map(|health| health.status) {
        None => Badge::new(Tone::Plain, NOT_KNOWN),
        Some(HealthStatus::Unknown) => Badge::new(Tone::Plain, "not probed yet"),
        Some(HealthStatus::Healthy) => Badge::new(Tone::Ok, "healthy"),
        Some(HealthStatus::Degraded) => Badge::new(Tone::Warn, "degraded"),
        Some(HealthStatus::Failed) => Badge::new(Tone::Bad, "failed"),
    }
}

pub fn why(health: Option<&Health>) -> String {
    health.and_then(|health| health.why.as_deref()).map_or_else(String::new, visible)
}

fn figures_of(upstream: &Name, known: &Known) -> BTreeMap<&'static str, String> {
    let mut figures = BTreeMap::new();
    if let Some(health) = known.health(upstream) {
        figures.insert("latency", health.latency_us.map_or_else(|| "–".to_owned(), latency::say));
        figures.insert("exit", health.exit.map_or_else(|| "–".to_owned(), |exit| exit.to_string()));
    }
    if let Some(status) = known.forwarder.as_ref().and_then(|status| status.upstreams.get(upstream)) {
        figures.insert("flows", format::count(status.flows));
    }
    figures
}

/// What changes between two looks, by the keys that the template gave its elements.
pub fn figures(config: Option<&Config>, known: &Known) -> BTreeMap<String, String> {
    let mut all = sparks(known);
    let appliers = known.applier.iter().flat_map(|status| status.upstreams.keys());
    let names: BTreeSet<&Name> = appliers.chain(known.forwarder.iter().flat_map(|status| status.upstreams.keys())).collect();
    for name in names {
        let key = |which: &str| format!("up.{name}.{which}");
        let badge = state(known.health(name));
        all.insert(key("state"), badge.word);
        all.insert(key("tone"), badge.tone.word().to_owned());
        all.insert(key("why"), why(known.health(name)));
        all.extend(figures_of(name, known).into_iter().map(|(which, text)| (key(which), text)));
    }
    for (name, group) in config.iter().flat_map(|config| &config.upstream_groups) {
        let badge = group_state(&group.spec.members, known);
        all.insert(format!("group.{name}.state"), badge.word);
        all.insert(format!("group.{name}.tone"), badge.tone.word().to_owned());
    }
    all
}

pub fn sparks(known: &Known) -> BTreeMap<String, String> {
    let drawn = known.forwarder.iter().flat_map(|status| &status.upstreams);
    let lines = drawn.filter_map(|(name, upstream)| latency::latency(&upstream.history, format!("up.{name}.spark")));
    lines.flat_map(|spark| [(format!("{}.line", spark.key), spark.line), (format!("{}.fails", spark.key), spark.fails)]).collect()
}

/// One upstream, or without a name all of them.
fn test(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let names = match form.text("upstream") {
        "" => Vec::new(),
        text => vec![Name::try_from(text).map_err(|_| Trouble::no_such("upstream", text))?],
    };
    let back = names.first().map_or_else(|| "/upstreams".to_owned(), |name| format!("/upstreams/upstream?name={}", query(name.as_str())));
    let health = forwarder::probe(visit.site, visit.actor()?, names)?;
    Ok(Response::see_other(&back).flash(verdict(&health), sentence(&health)))
}

pub fn verdict(health: &BTreeMap<Name, Health>) -> flash::Tone {
    match health.values().filter(|health| carried::carries(health.status)).count() {
        0 => flash::Tone::Bad,
        good if good < health.len() => flash::Tone::Warn,
        _ => flash::Tone::Ok,
    }
}

/// What probes said, for people.
pub fn sentence(health: &BTreeMap<Name, Health>) -> String {
    let told = |(name, health): (&Name, &Health)| {
        let exit = health.exit.map_or_else(String::new, |exit| format!(", exit {exit}"));
        match health.latency_us {
            Some(latency) if carried::carries(health.status) => format!("{name} answered in {}{exit}.", latency::say(latency)),
            _ => format!("{name} failed: {}.", health.why.as_deref().unwrap_or("no reason was told")),
        }
    };
    if health.is_empty() {
        return "There is no upstream to probe.".to_owned();
    }
    health.iter().map(told).collect::<Vec<_>>().join(" ")
}
