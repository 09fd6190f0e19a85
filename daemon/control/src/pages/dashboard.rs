//! The first page: the state of the gate, its links, what passes and what happened lately.

use std::collections::BTreeMap;

use policy::Sources;
use policy::messages::{Counters, LinkCounters, Status, Tally};
use policy::model::{Action, Config};
use serde::Serialize;

use super::audit;
use super::format::{self, Clock, Stamp};
use super::gate::{self, Headline};
use super::mappings::NOT_KNOWN;
use super::page::{self, Page};
use super::spark::{Spark, spark};
use super::ui::{Badge, Bar, Fact, Place, Tone};
use crate::carried;
use crate::http::{Access, Method, Response, Route, Visit};
use crate::role::Action as May;
use crate::traffic::Traffic;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[Route { method: Method::Get, path: "/", access: Access::May(May::View), handler: show }];

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let clock = page::clock(visit);
    let known = Known {
        status: seen.status.as_ref(),
        counters: seen.counters.as_ref(),
        traffic: &visit.site.applier.traffic(),
        config: page::config(&seen),
        sources: seen.running.as_ref().map(|running| &running.sources),
        carried: &visit.site.carried.look(visit.site),
        clock: &clock,
        lately: visit.may(May::Audit).then(|| audit::lately(visit, &clock, 6)).transpose()?,
    };
    Page::new(visit, "Dashboard").live("dashboard").draw("dashboard.html", &dashboard(known))
}

#[derive(Debug, Serialize)]
pub struct Dashboard {
    intro: String,
    gate: Headline,
    tiles: Vec<Tile>,
    links: Vec<LinkRow>,
    /// How far back the sparklines reach.
    span: Option<String>,
    /// Said where there are no links.
    nothing: String,
    rules: Vec<TopRule>,
    nothing_rules: String,
    entries: Vec<Lately>,
    nothing_audit: String,
    may_audit: bool,
    facts: Vec<Fact>,
}

#[derive(Debug, Serialize)]
struct Tile {
    label: &'static str,
    figure: String,
    unit: Option<String>,
    key: Option<&'static str>,
    bar: Option<Bar>,
    text: String,
    text_key: Option<&'static str>,
    href: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct LinkRow {
    name: String,
    state: Badge,
    zone: Option<String>,
    addresses: Vec<String>,
    rx_rate: String,
    tx_rate: String,
    rx_total: String,
    tx_total: String,
    spark: Option<Spark>,
    peak: String,
}

#[derive(Debug, Serialize)]
struct TopRule {
    id: String,
    name: String,
    href: Option<String>,
    verdict: Badge,
    packets: String,
    bytes: String,
    bar: Bar,
}

/// An audit entry in one line.
#[derive(Debug, Serialize)]
pub struct Lately {
    pub at: Option<Stamp>,
    pub who: String,
    pub what: String,
}

/// What the page is made from; None where it is not known at this moment.
pub struct Known<'a> {
    pub status: Option<&'a Status>,
    pub counters: Option<&'a Counters>,
    pub traffic: &'a Traffic,
    /// The policy that runs, and its text.
    pub config: Option<&'a Config>,
    pub sources: Option<&'a Sources>,
    /// Mapped clients.
    pub carried: &'a carried::Known,
    pub clock: &'a Clock,
    /// None for those who may not read the audit log.
    pub lately: Option<Vec<Lately>>,
}

/// Enough to see what dominates; the rest is on the firewall page.
const TOP_RULES: usize = 8;

pub fn dashboard(known: Known) -> Dashboard {
    let hostname = known.config.and_then(|config| config.system.as_ref()).map(|(_, system)| system.spec.hostname.clone());
    let may_audit = known.lately.is_some();
    Dashboard {
        intro: match hostname {
            Some(name) => format!("What {name} carries at this moment, read from its kernel."),
            None => "No policy runs yet, so the box has no name of its own.".to_owned(),
        },
        gate: gate::headline(known.status, known.clock),
        tiles: tiles(&known),
        links: links(&known),
        span: known.traffic.span().map(|span| format!("last {}", format::span(span))),
        nothing: unknown(known.counters, "The kernel reports no links."),
        rules: top_rules(&known),
        nothing_rules: unknown(known.counters, "No rule has a counter yet."),
        nothing_audit: if may_audit { "Nothing has been recorded yet." } else { "Your role does not read the audit log." }.to_owned(),
        may_audit,
        facts: facts(&known),
        entries: known.lately.unwrap_or_default(),
    }
}

fn unknown(counters: Option<&Counters>, otherwise: &str) -> String {
    if counters.is_none() { "Not known: the applier does not answer.".to_owned() } else { otherwise.to_owned() }
}

fn tiles(known: &Known) -> Vec<Tile> {
    let connections = known.counters.map(|counters| Tile {
        label: "Connections",
        figure: format::count(counters.connections),
        unit: Some(format!("of {}", format::count(counters.connections_max))),
        key: Some("connections"),
        bar: Some(Bar::of(counters.connections, counters.connections_max).live("connections.bar")),
        text: format!("{} % of the table", Bar::width(counters.connections, counters.connections_max)),
        text_key: None,
        href: None,
    });
    let drops = known.counters.map(|counters| Tile {
        label: "Dropped by posture",
        figure: format::count(dropped(counters)),
        unit: Some("packets".to_owned()),
        key: Some("posture"),
        bar: None,
        text: "Invalid, spoofed, scans and what no rule permits".to_owned(),
        text_key: None,
        href: Some("/firewall"),
    });
    let drift = known.status.map(|status| {
        let open = status.drift.iter().filter(|finding| !finding.repaired).count();
        Tile {
            label: "Drift",
            figure: format::count(open as u64),
            unit: Some(if open == 1 { "difference" } else { "differences" }.to_owned()),
            key: None,
            bar: None,
            text: match status.drift.len() - open {
                0 => "Kernel against plan, every 30 s".to_owned(),
                repaired => format!("{} repaired", format::count(repaired as u64)),
            },
            text_key: None,
            href: Some("/drift"),
        }
    });
    let kept = known.status.map(|status| Tile {
        label: "Last confirmed",
        figure: status.last_confirmed.map_or_else(|| "none".to_owned(), |number| format!("generation {number}")),
        unit: None,
        key: None,
        bar: None,
        text: format!("{} kept to go back to", format::plural(status.kept.len(), "generation", "generations")),
        text_key: None,
        href: Some("/history"),
    });
    [connections, drops, drift, kept].into_iter().flatten().chain(carried_tiles(known)).collect()
}

/// For a box that maps clients.
fn carried_tiles(known: &Known) -> Vec<Tile> {
    let Some(config) = known.config.filter(|config| !config.proxy_mappings.is_empty()) else { return Vec::new() };
    let figures = carried_figures(known.carried);
    let figure = |key: &str| figures.get(key).cloned().unwrap_or_else(|| NOT_KNOWN.to_owned());
    let tile = |label, key: &'static str, unit: String, href| Tile {
        label,
        figure: figure(key),
        unit: Some(unit).filter(|unit| !unit.is_empty() && figures.contains_key(key)),
        key: Some(key),
        bar: None,
        text: String::new(),
        text_key: None,
        href: Some(href),
    };
    vec![
        Tile {
            text: figure("carried.blocked"),
            text_key: Some("carried.blocked"),
            ..tile("Mapped clients let in", "carried.permitted", format!("of {}", config.proxy_mappings.len()), "/mappings")
        },
        Tile {
            text: "Each probed through itself".to_owned(),
            ..tile("Upstreams up", "carried.up", format!("of {}", config.upstreams.len()), "/upstreams")
        },
        Tile {
            text: figure("carried.bytes"),
            text_key: Some("carried.bytes"),
            ..tile("Flows carried", "carried.flows", String::new(), "/connections")
        },
    ]
}

/// What of mapped clients changes between two looks; what is not known is not there.
pub fn carried_figures(carried: &carried::Known) -> BTreeMap<String, String> {
    let mut figures = BTreeMap::new();
    if let Some((permitted, blocked)) = carried.permits() {
        figures.insert("carried.permitted".to_owned(), format::count(permitted as u64));
        figures.insert("carried.blocked".to_owned(), format!("{} blocked", format::count(blocked as u64)));
    }
    if let Some(status) = &carried.forwarder {
        let up = status.upstreams.values().filter(|upstream| carried::carries(upstream.health.status)).count();
        let bytes: u64 = status.mappings.values().map(|traffic| traffic.up_bytes + traffic.down_bytes).sum();
        figures.insert("carried.up".to_owned(), format::count(up as u64));
        figures.insert("carried.flows".to_owned(), format::count(status.flows));
        figures.insert("carried.bytes".to_owned(), format!("{} since the forwarder started", format::bytes(bytes)));
    }
    figures
}

/// Packets that the posture itself dropped: counters under `posture/` other than those of what it lets through.
fn dropped(counters: &Counters) -> u64 {
    counters.rules.iter().filter(|(id, _)| is_posture_drop(id)).map(|(_, tally)| tally.packets).sum()
}

pub fn is_posture_drop(id: &str) -> bool {
    id.strip_prefix("posture/")
        .is_some_and(|name| !name.starts_with("admin") && !name.starts_with("established") && !name.starts_with("accept"))
}

fn links(known: &Known) -> Vec<LinkRow> {
    let Some(counters) = known.counters else { return Vec::new() };
    let zone = |name: &str| {
        let (_, interface) = known.config?.interfaces.iter().find(|(interface, _)| interface.as_str() == name)?;
        Some(interface.spec.zone.to_string())
    };
    let row = |(name, link): (&String, &LinkCounters)| {
        let rate = known.traffic.rate(name);
        let spark = spark(known.traffic, name);
        LinkRow {
            name: name.clone(),
            state: if link.up { Badge::new(Tone::Ok, "up") } else { Badge::new(Tone::Bad, "down") },
            zone: zone(name),
            addresses: link.addresses.clone(),
            rx_rate: rate.map_or_else(|| "measuring".to_owned(), |rate| format::rate(rate.rx)),
            tx_rate: rate.map_or_else(|| "measuring".to_owned(), |rate| format::rate(rate.tx)),
            rx_total: format::bytes(link.rx_bytes),
            tx_total: format::bytes(link.tx_bytes),
            peak: spark.as_ref().map_or_else(String::new, |spark| spark.peak.clone()),
            spark,
        }
    };
    counters.links.iter().filter(|(name, _)| *name != "lo").map(row).collect()
}

fn top_rules(known: &Known) -> Vec<TopRule> {
    let Some(counters) = known.counters else { return Vec::new() };
    let mut hits: Vec<(&String, &Tally)> = counters.rules.iter().filter(|(_, tally)| tally.packets > 0).collect();
    hits.sort_by(|a, b| b.1.packets.cmp(&a.1.packets).then(a.0.cmp(b.0)));
    hits.truncate(TOP_RULES);
    let most = hits.first().map_or(0, |(_, tally)| tally.packets);
    let places = known.config.map(|config| rule_places(config, known.sources)).unwrap_or_default();
    let row = |(id, tally): (&String, &Tally)| {
        let place = places.get(id);
        TopRule {
            id: id.clone(),
            name: id.clone(),
            href: place.and_then(|(place, _)| place.href.clone()),
            verdict: place.map_or_else(|| posture_verdict(id), |(_, action)| verdict(*action)),
            packets: format::count(tally.packets),
            bytes: format::bytes(tally.bytes),
            bar: Bar::of(tally.packets, most),
        }
    };
    hits.into_iter().map(row).collect()
}

fn posture_verdict(id: &str) -> Badge {
    if is_posture_drop(id) {
        verdict(Action::Drop)
    } else {
        Badge::new(Tone::Plain, if id.starts_with("posture/") { "posture" } else { "translate" })
    }
}

pub fn verdict(action: Action) -> Badge {
    match action {
        Action::Accept => Badge::new(Tone::Ok, "accept"),
        Action::Drop => Badge::new(Tone::Bad, "drop"),
        Action::Reject => Badge::new(Tone::Warn, "reject"),
    }
}

/// Where each firewall rule was written, by its counter's id.
fn rule_places(config: &Config, sources: Option<&Sources>) -> BTreeMap<String, (Place, Action)> {
    let none = Sources::default();
    let mut places = BTreeMap::new();
    for (policy, resource) in &config.firewall_policies {
        for rule in &resource.spec.rules {
            let origin = policy::Origin { file: resource.origin.file.clone(), line: rule.line };
            places.insert(format!("{policy}/{}", rule.value.name), (Place::of(&origin, sources.unwrap_or(&none)), rule.value.action));
        }
    }
    places
}

fn facts(known: &Known) -> Vec<Fact> {
    let mut facts = vec![Fact::new("Control", format!("version {}", env!("CARGO_PKG_VERSION")))];
    match known.status {
        None => facts.push(Fact::new("Applier", "does not answer")),
        Some(status) => {
            facts.push(Fact::new("Applier", format!("answered {} ago", format::span(known.clock.now.saturating_sub(status.now)))));
            let features = if status.features.is_empty() { "none of those probed".to_owned() } else { status.features.join(", ") };
            facts.push(Fact::new("Kernel features", features));
            if let Some(running) = &status.running {
                facts.push(Fact::new("Digest", format::short_hash(&running.digest.0)));
            }
        }
    }
    facts
}

/// What changes between two looks, by the keys that the template gave its elements.
pub fn figures(counters: &Counters, traffic: &Traffic) -> BTreeMap<String, String> {
    let mut figures = BTreeMap::from([
        ("connections".to_owned(), format::count(counters.connections)),
        ("connections.bar".to_owned(), Bar::width(counters.connections, counters.connections_max)),
        ("posture".to_owned(), format::count(dropped(counters))),
    ]);
    for (name, link) in &counters.links {
        figures.insert(format!("link.{name}.rxt"), format::bytes(link.rx_bytes));
        figures.insert(format!("link.{name}.txt"), format::bytes(link.tx_bytes));
        if let Some(rate) = traffic.rate(name) {
            figures.insert(format!("link.{name}.rx"), format::rate(rate.rx));
            figures.insert(format!("link.{name}.tx"), format::rate(rate.tx));
        }
        if let Some(spark) = spark(traffic, name) {
            figures.insert(format!("{}.rx", spark.key), spark.rx);
            figures.insert(format!("{}.tx", spark.key), spark.tx);
            figures.insert(format!("{}.fill", spark.key), spark.fill);
        }
    }
    figures
}

/// The same for the counters of rules.
pub fn rule_figures(counters: &Counters) -> BTreeMap<String, String> {
    let pair = |(id, tally): (&String, &Tally)| {
        [(format!("rule.{id}.p"), format::count(tally.packets)), (format!("rule.{id}.b"), format::bytes(tally.bytes))]
    };
    counters.rules.iter().flat_map(pair).collect()
}
