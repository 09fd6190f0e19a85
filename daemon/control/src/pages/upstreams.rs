//! Upstreams and groups: how each does, what it did in the last two hours, and the secrets that they want.

use std::collections::{BTreeMap, BTreeSet};

use policy::Sources;
use policy::messages::forwarder::{Health, HealthStatus};
use policy::model::{Config, GroupStrategy, UpstreamType};
use policy::name::Name;
use serde::Serialize;

use super::format::{self, Clock, Stamp};
use super::latency::{self, Latency};
use super::mappings::{NOT_KNOWN, absences};
use super::page::{self, Page};
use super::ui::{Badge, Fact, Field, Place, Tone, query, visible};
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
    Route { method: Method::Get, path: "/upstreams/upstream", access: VIEW, handler: show_one },
    Route { method: Method::Post, path: "/upstreams/test", access: OPERATE, handler: test },
    Route { method: Method::Post, path: "/upstreams/secret", access: OPERATE, handler: set_secret },
    Route { method: Method::Post, path: "/upstreams/secret/remove", access: OPERATE, handler: remove_secret },
];

#[derive(Debug, Serialize)]
pub struct Upstreams {
    intro: String,
    may_operate: bool,
    upstreams: Vec<Row>,
    groups: Vec<GroupRow>,
    secrets: Vec<SecretRow>,
    secrets_known: bool,
    fields: Vec<Field>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    href: String,
    description: Option<String>,
    kind: &'static str,
    address: String,
    state: Badge,
    why: String,
    latency: String,
    spark: Option<Latency>,
    exit: String,
    checked: Option<Stamp>,
    flows: String,
    used_by: Vec<String>,
    origin: Place,
}

#[derive(Debug, Serialize)]
struct GroupRow {
    name: String,
    description: Option<String>,
    strategy: &'static str,
    members: Vec<Member>,
    used_by: Vec<String>,
    origin: Place,
}

#[derive(Debug, Serialize)]
struct Member {
    name: String,
    key: String,
    state: Badge,
}

#[derive(Debug, Serialize)]
struct SecretRow {
    name: String,
    state: Badge,
    used_by: Vec<String>,
    set: bool,
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    draw(visit, &Fields::default(), None)
}

fn draw(visit: &Visit, typed: &Fields, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let known = visit.site.carried.look(visit.site);
    let none = Sources::default();
    let sources = seen.running.as_ref().map_or(&none, |running| &running.sources);
    let mut view = upstreams(page::config(&seen), sources, &known, &page::clock(visit), typed, visit.may(Action::Operate));
    let page = Page::new(visit, "Upstreams").live("upstreams").told(&mut view.fields, trouble)?;
    absences(page, &known).draw("upstreams.html", &view)
}

pub fn upstreams(config: Option<&Config>, sources: &Sources, known: &Known, clock: &Clock, typed: &Fields, may_operate: bool) -> Upstreams {
    let nothing = Config::default();
    let config = config.unwrap_or(&nothing);
    let states: Vec<_> = config.upstreams.keys().map(|name| known.health(name)).collect();
    let up = states.iter().flatten().filter(|health| carried::carries(health.status)).count();
    let groups = config.upstream_groups.iter().map(|(name, group)| GroupRow {
        name: name.to_string(),
        description: group.description.as_deref().map(visible),
        strategy: match group.spec.strategy {
            GroupStrategy::Priority => "the first that is up",
            GroupStrategy::RoundRobin => "one after the other",
            GroupStrategy::Latency => "the quickest",
        },
        members: group
            .spec
            .members
            .iter()
            .map(|member| Member { name: member.to_string(), key: format!("up.{member}"), state: state(known.health(member)) })
            .collect(),
        used_by: config
            .proxy_mappings
            .iter()
            .filter(|(_, mapping)| mapping.spec.group.as_ref() == Some(name))
            .map(|(name, _)| name.to_string())
            .collect(),
        origin: Place::of(&group.origin, sources),
    });
    Upstreams {
        intro: match (config.upstreams.len(), states.iter().flatten().count()) {
            (0, _) => "The policy that runs has none.".to_owned(),
            (all, 0) => format!("{}; how they do is not known.", format::plural(all, "upstream", "upstreams")),
            (all, _) => format!("{up} of {all} up. Each is probed through itself every 30 seconds, never past it."),
        },
        may_operate,
        upstreams: config.upstreams.keys().map(|name| row(name, config, sources, known, clock)).collect(),
        groups: groups.collect(),
        secrets: secrets(config, known),
        secrets_known: known.applier.is_some(),
        fields: vec![
            Field::text("name", "Name of the secret", typed.text("name"))
                .hint("As the policy writes it: passwordSecret.")
                .autocomplete("off")
                .required(),
            Field::password("value", "Password", "off").hint("Kept sealed by the applier, and never shown again."),
        ],
    }
}

fn row(name: &Name, config: &Config, sources: &Sources, known: &Known, clock: &Clock) -> Row {
    let upstream = &config.upstreams[name];
    let health = known.health(name);
    let used = |mapping: &policy::model::ProxyMapping| {
        mapping.upstream.as_ref() == Some(name)
            || mapping
                .group
                .as_ref()
                .and_then(|group| config.upstream_groups.get(group))
                .is_some_and(|group| group.spec.members.contains(name))
    };
    let figures = figures_of(name, known);
    let figure = |key: &str| figures.get(key).cloned().unwrap_or_else(|| NOT_KNOWN.to_owned());
    Row {
        name: name.to_string(),
        href: format!("/upstreams/upstream?name={}", query(name.as_str())),
        description: upstream.description.as_deref().map(visible),
        kind: kind(&upstream.spec.kind),
        address: std::net::SocketAddr::new(upstream.spec.address, upstream.spec.port).to_string(),
        state: state(health),
        why: why(health),
        latency: figure("latency"),
        spark: latency::latency(known.history(name), format!("up.{name}.spark")),
        exit: figure("exit"),
        checked: health.and_then(|health| clock.stamp(health.at)),
        flows: figure("flows"),
        used_by: config.proxy_mappings.iter().filter(|(_, mapping)| used(&mapping.spec)).map(|(name, _)| name.to_string()).collect(),
        origin: Place::of(&upstream.origin, sources),
    }
}

fn kind(kind: &UpstreamType) -> &'static str {
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

fn why(health: Option<&Health>) -> String {
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
pub fn figures(known: &Known) -> BTreeMap<String, String> {
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
    all
}

pub fn sparks(known: &Known) -> BTreeMap<String, String> {
    let drawn = known.forwarder.iter().flat_map(|status| &status.upstreams);
    let lines = drawn.filter_map(|(name, upstream)| latency::latency(&upstream.history, format!("up.{name}.spark")));
    lines.flat_map(|spark| [(format!("{}.line", spark.key), spark.line), (format!("{}.fails", spark.key), spark.fails)]).collect()
}

/// Those that the policy names and those that are set.
fn secrets(config: &Config, known: &Known) -> Vec<SecretRow> {
    let Some(status) = &known.applier else { return Vec::new() };
    let mut users: BTreeMap<String, Vec<String>> =
        status.secrets.iter().chain(&status.secrets_missing).map(|name| (name.clone(), Vec::new())).collect();
    for (name, upstream) in &config.upstreams {
        if let Some(secret) = &upstream.spec.password_secret {
            users.entry(secret.to_string()).or_default().push(name.to_string());
        }
    }
    let row = |(name, used_by): (String, Vec<String>)| {
        let set = status.secrets.contains(&name);
        let state = match (set, used_by.is_empty()) {
            (true, false) => Badge::new(Tone::Ok, "set"),
            (true, true) => Badge::new(Tone::Plain, "set, not used"),
            (false, _) => Badge::new(Tone::Bad, "not set"),
        };
        SecretRow { name, state, used_by, set }
    };
    users.into_iter().map(row).collect()
}

#[derive(Debug, Serialize)]
struct OneUpstream {
    name: String,
    state: Badge,
    may_operate: bool,
    facts: Vec<Fact>,
    why: String,
    spark: Option<Latency>,
    origin: Place,
    history: Vec<ProbeRow>,
}

#[derive(Debug, Serialize)]
struct ProbeRow {
    at: Option<Stamp>,
    state: Badge,
    latency: String,
    exit: String,
    why: String,
}

/// An hour of rounds, newest first.
const MOST_PROBES: usize = 120;

fn show_one(visit: &Visit) -> Result<Response, Trouble> {
    let text = visit.request.query.required("name")?;
    let missing = || Trouble::no_such("upstream", text);
    let name = Name::try_from(text).map_err(|_| missing())?;
    let seen = visit.site.applier.seen();
    let known = visit.site.carried.look(visit.site);
    let clock = page::clock(visit);
    let config = page::config(&seen).filter(|config| config.upstreams.contains_key(&name)).ok_or_else(missing)?;
    let none = Sources::default();
    let row = row(&name, config, seen.running.as_ref().map_or(&none, |running| &running.sources), &known, &clock);
    let spec = &config.upstreams[&name].spec;
    let probe = |health: &Health| ProbeRow {
        at: clock.stamp(health.at),
        state: state(Some(health)),
        latency: health.latency_us.map_or_else(|| "–".to_owned(), latency::say),
        exit: health.exit.map_or_else(|| "–".to_owned(), |exit| exit.to_string()),
        why: why(Some(health)),
    };
    let expected: Vec<String> = spec.expect_exit.iter().map(ToString::to_string).collect();
    let view = OneUpstream {
        name: name.to_string(),
        state: row.state,
        may_operate: visit.may(Action::Operate),
        facts: vec![
            Fact::new("Kind", row.kind),
            Fact::new("Address", row.address),
            Fact::new("User", spec.username.as_deref().map_or_else(|| "none".to_owned(), visible)),
            Fact::new("Secret", spec.password_secret.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)),
            Fact::new("Probe", visible(&spec.probe)),
            Fact::new(
                "Must come out at",
                if expected.is_empty() { "anywhere but at the box itself".to_owned() } else { expected.join(", ") },
            ),
            Fact::new("Exit", row.exit),
            Fact::new("Latency", row.latency),
            Fact::new("Flows", row.flows),
            Fact::new("Used by", if row.used_by.is_empty() { "no mapping".to_owned() } else { row.used_by.join(", ") }),
        ],
        why: row.why,
        spark: row.spark,
        origin: row.origin,
        history: known.history(&name).iter().rev().take(MOST_PROBES).map(probe).collect(),
    };
    absences(Page::new(visit, name.to_string()).live("upstreams"), &known).draw("upstream.html", &view)
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

fn set_secret(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let name = form.text("name").trim();
    match form.required("name").and_then(|_| carried::set_secret(visit.site, visit.actor()?, name, form.text("value"))) {
        Ok(()) => Ok(Response::see_other("/upstreams").flash(flash::Tone::Ok, format!("The secret {name} is set."))),
        Err(trouble) => draw(visit, &form, Some(trouble)),
    }
}

fn remove_secret(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let name = form.required("name")?;
    carried::remove_secret(visit.site, visit.actor()?, name)?;
    Ok(Response::see_other("/upstreams")
        .flash(flash::Tone::Warn, format!("The secret {name} is forgotten. Mappings that need it are blocked.")))
}
