//! Mapped clients: who is let in, by which way out, and why the others are not. Written in the candidate, told from what runs.

use std::collections::{BTreeMap, BTreeSet};

use policy::model::{Config, ProxyMapping, Resource};
use policy::name::Name;
use serde::Serialize;

use super::datagrams;
use super::format::{self, Clock, Stamp};
use super::latency::{self, Latency};
use super::page::{self, Page};
use super::ui::{Badge, Bar, Choice, Field, Notice, Tone, query, visible};
use crate::candidate;
use crate::carried::{self, Known};
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[Route { method: Method::Get, path: "/mappings", access: Access::May(Action::View), handler: show }];

#[derive(Debug, Serialize)]
pub struct Mappings {
    intro: String,
    may_edit: bool,
    filter: Vec<Field>,
    filtered: bool,
    count: String,
    rows: Vec<Row>,
    more: Option<String>,
    nothing: &'static str,
    datagrams: Vec<datagrams::Figure>,
}

#[derive(Debug, Serialize)]
pub struct Row {
    name: String,
    href: String,
    description: Option<String>,
    clients: Vec<String>,
    more_clients: Option<String>,
    state: Badge,
    why: String,
    since: Option<Stamp>,
    way: String,
    upstream: String,
    exit: String,
    spark: Option<Latency>,
    latency: String,
    flows: String,
    carried: String,
    today: String,
    month: String,
    day_bar: Option<Bar>,
    month_bar: Option<Bar>,
    /// It runs, so that it can be tested and its flows seen.
    runs: bool,
}

/// More make a page that nobody reads; the filter finds the rest.
const MOST_ROWS: usize = 100;
const MOST_CLIENTS: usize = 4;
/// What the page says where nobody tells.
pub const NOT_KNOWN: &str = "not known";

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let candidate = candidate::get(visit.site)?;
    let written = candidate.dirty.then(|| policy::read::read(&candidate.sources).0);
    let known = visit.site.carried.look(visit.site);
    let asked = &visit.request.query;
    let view = mappings(page::config(&seen), written.as_ref(), &known, &page::clock(visit), asked, visit.may(Action::Edit));
    let page = Page::new(visit, "Mappings").live("mappings");
    absences(page, &known).draw("mappings.html", &view)
}

/// What is not known is said at the top, once.
pub fn absences<'a>(page: Page<'a>, known: &Known) -> Page<'a> {
    let page = match &known.applier {
        None => page.notice(Notice::bad(
            "The applier does not answer. The kernel enforces what was installed last; its permits end within 90 seconds unless the applier renews them, so that nothing passes unseen. Which clients are let in is not known.",
        )),
        Some(status) if !status.forwarder_connected && !status.mappings.is_empty() => {
            page.notice(Notice::bad("The forwarder has no link to the applier: every mapped client is blocked until it is back."))
        }
        Some(_) => page,
    };
    match &known.forwarder {
        Some(_) => page,
        None if known.applier.as_ref().is_some_and(|status| status.mappings.is_empty()) => page,
        None => page.notice(Notice::warn("The forwarder does not answer: flows, bytes and the history of upstreams are not known.")),
    }
}

pub fn mappings(
    running: Option<&Config>,
    written: Option<&Config>,
    known: &Known,
    clock: &Clock,
    asked: &Fields,
    may_edit: bool,
) -> Mappings {
    let none = BTreeMap::new();
    let running = running.map_or(&none, |config| &config.proxy_mappings);
    let written = written.map_or(running, |config| &config.proxy_mappings);
    let names: BTreeSet<&Name> = running.keys().chain(written.keys()).collect();
    let (text, state) = (asked.text("q").trim().to_lowercase(), asked.text("state"));
    let wanted = |name: &&&Name| {
        let effect = known.effect(name);
        let found = [running.get(**name), written.get(**name)].into_iter().flatten().any(|mapping| mentions(mapping, &text));
        let fits = match state {
            "permitted" => effect.is_some_and(|effect| effect.permitted),
            "blocked" => effect.is_some_and(|effect| !effect.permitted),
            _ => true,
        };
        fits && (text.is_empty() || name.as_str().contains(&text) || found)
    };
    let matching: Vec<&&Name> = names.iter().filter(wanted).collect();
    let rows = matching.iter().take(MOST_ROWS).filter_map(|name| row(name, running.get(**name), written.get(**name), known, clock));
    let hidden = matching.len().saturating_sub(MOST_ROWS);
    let intro = match known.permits() {
        None => "Which clients are let in is not known at this moment.".to_owned(),
        Some((permitted, blocked)) => {
            format!(
                "{} let in, {} blocked. A mapped client has no other way out.",
                format::count(permitted as u64),
                format::count(blocked as u64)
            )
        }
    };
    let states = [("", "all"), ("permitted", "let in"), ("blocked", "blocked")];
    Mappings {
        intro,
        may_edit,
        filter: vec![
            Field::text("q", "Search", asked.text("q")).kind("search"),
            Field::select("state", "State", state, states.map(|(value, label)| Choice::new(value, label)).to_vec()),
        ],
        filtered: !text.is_empty() || !state.is_empty(),
        count: format::plural(matching.len(), "mapping", "mappings"),
        rows: rows.collect(),
        more: (hidden > 0)
            .then(|| format!("{} are not shown. Search for them above.", format::plural(hidden, "mapping more", "mappings more"))),
        nothing: if names.is_empty() {
            "The policy maps no client: everything goes by the firewall's rules."
        } else {
            "No mapping fits what you asked for."
        },
        datagrams: datagrams::figures(known.forwarder.as_ref()),
    }
}

fn mentions(mapping: &Resource<ProxyMapping>, text: &str) -> bool {
    let spec = &mapping.spec;
    let ways = spec.upstream.iter().chain(&spec.group).any(|name| name.as_str().contains(text));
    let described = mapping.description.as_ref().is_some_and(|description| description.to_lowercase().contains(text));
    ways || described || spec.clients.iter().any(|client| client.to_string().contains(text))
}

pub fn row(
    name: &Name,
    running: Option<&Resource<ProxyMapping>>,
    written: Option<&Resource<ProxyMapping>>,
    known: &Known,
    clock: &Clock,
) -> Option<Row> {
    let mapping = running.or(written)?;
    let runs = running.is_some();
    let effect = known.effect(name).filter(|_| runs);
    let figures = figures_of(name, known);
    let figure = |key: &str| figures.get(key).cloned().unwrap_or_else(|| if runs { NOT_KNOWN } else { "–" }.to_owned());
    let (state, why) = match (running, written) {
        (None, _) => (Badge::new(Tone::Info, "in the candidate"), "Not applied yet.".to_owned()),
        (Some(_), None) => (state(known, name), format!("{} The candidate takes it out.", reason(known, name))),
        (Some(now), Some(then)) if now.spec != then.spec => {
            (state(known, name), format!("{} The candidate changes it.", reason(known, name)))
        }
        _ => (state(known, name), reason(known, name)),
    };
    let clients = &mapping.spec.clients;
    // A blocked mapping shows how the one upstream does that it waits for.
    let upstream = known.upstream_of(name).or(mapping.spec.upstream.as_ref());
    let bar = |used: u64, limit: Option<u64>, which: &str| limit.map(|limit| Bar::of(used, limit).live(format!("map.{name}.{which}bar")));
    Some(Row {
        name: name.to_string(),
        href: format!("/mappings/mapping?name={}", query(name.as_str())),
        description: mapping.description.as_deref().map(visible),
        clients: clients.iter().take(MOST_CLIENTS).map(ToString::to_string).collect(),
        more_clients: (clients.len() > MOST_CLIENTS).then(|| format!("and {} more", clients.len() - MOST_CLIENTS)),
        state,
        why: why.trim().to_owned(),
        since: effect.and_then(|effect| clock.stamp(effect.since)),
        way: way(&mapping.spec),
        upstream: figure("upstream"),
        exit: figure("exit"),
        spark: upstream.and_then(|upstream| latency::latency(known.history(upstream), format!("up.{upstream}.spark"))),
        latency: figure("latency"),
        flows: figure("flows"),
        carried: figure("carried"),
        today: figure("today"),
        month: figure("month"),
        day_bar: effect.and_then(|effect| bar(effect.today, effect.daily, "day")),
        month_bar: effect.and_then(|effect| bar(effect.this_month, effect.monthly, "month")),
        runs,
    })
}

fn way(spec: &ProxyMapping) -> String {
    match (&spec.upstream, &spec.group) {
        (Some(upstream), _) => upstream.to_string(),
        (None, Some(group)) => format!("group {group}"),
        (None, None) => "none".to_owned(),
    }
}

pub fn state(known: &Known, mapping: &Name) -> Badge {
    match known.effect(mapping) {
        None => Badge::new(Tone::Plain, NOT_KNOWN),
        Some(effect) if effect.permitted => Badge::new(Tone::Ok, "let in"),
        Some(_) => Badge::new(Tone::Bad, "blocked"),
    }
}

pub fn reason(known: &Known, mapping: &Name) -> String {
    known.effect(mapping).and_then(|effect| effect.blocked.as_ref()).map_or_else(String::new, |blocked| visible(&carried::why(blocked)))
}

/// What of a mapping is told as text, by a short word.
fn figures_of(mapping: &Name, known: &Known) -> BTreeMap<&'static str, String> {
    let mut figures = BTreeMap::new();
    let of = |used: u64, limit: Option<u64>| match limit {
        None => format::bytes(used),
        Some(limit) => format!("{} of {}", format::bytes(used), format::bytes(limit)),
    };
    if let Some(effect) = known.effect(mapping) {
        figures.insert("today", of(effect.today, effect.daily));
        figures.insert("month", of(effect.this_month, effect.monthly));
        let upstream = known.upstream_of(mapping);
        let health = upstream.and_then(|upstream| known.health(upstream));
        figures.insert("upstream", upstream.map_or_else(|| "none".to_owned(), ToString::to_string));
        figures.insert("exit", health.and_then(|health| health.exit).map_or_else(|| "–".to_owned(), |exit| exit.to_string()));
        figures.insert("latency", health.and_then(|health| health.latency_us).map_or_else(|| "–".to_owned(), latency::say));
    }
    if let Some(traffic) = known.traffic(mapping) {
        figures.insert("flows", format::count(traffic.flows));
        figures.insert("carried", format::bytes(traffic.up_bytes + traffic.down_bytes));
    }
    figures
}

/// What changes between two looks, by the keys that the template gave its elements.
pub fn figures(known: &Known) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, effect) in known.applier.iter().flat_map(|status| &status.mappings) {
        let key = |which: &str| format!("map.{name}.{which}");
        all.extend(figures_of(name, known).into_iter().map(|(which, text)| (key(which), text)));
        let state = state(known, name);
        all.insert(key("state"), state.word.clone());
        all.insert(key("tone"), state.tone.word().to_owned());
        all.insert(key("why"), reason(known, name));
        for (which, used, limit) in [("daybar", effect.today, effect.daily), ("monthbar", effect.this_month, effect.monthly)] {
            if let Some(limit) = limit {
                all.insert(key(which), Bar::width(used, limit));
            }
        }
    }
    all.extend(super::upstreams::sparks(known));
    all.extend(datagrams::live(known.forwarder.as_ref()));
    all
}
