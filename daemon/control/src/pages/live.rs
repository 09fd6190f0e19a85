//! Live figures over server-sent events: texts by key, and the state of the gate. A page that misses them is only older.

use std::collections::BTreeMap;

use super::{connections, dashboard, gate, mappings, page, upstreams};
use crate::http::{Access, Event, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::site::Site;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[Route { method: Method::Get, path: "/events", access: Access::May(Action::View), handler: events }];

/// What a page wants to hear of; every page hears of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topic {
    State,
    Dashboard,
    Rules,
    Mappings,
    Upstreams,
    Connections,
}

fn events(visit: &Visit) -> Result<Response, Trouble> {
    let topic = match visit.request.query.text("topic") {
        "dashboard" => Topic::Dashboard,
        "rules" => Topic::Rules,
        "mappings" => Topic::Mappings,
        "upstreams" => Topic::Upstreams,
        "connections" => Topic::Connections,
        _ => Topic::State,
    };
    let mut state = String::new();
    let mut sent = BTreeMap::new();
    let asked = visit.request.query.clone();
    Ok(Response::events(move |site| {
        let mut due = Vec::new();
        let now = gate::fingerprint(site.applier.seen().status.as_ref());
        if now != state {
            due.push(Event::new("state", &now));
            state = now;
        }
        let figures = figures(site, topic, &asked);
        let changed: BTreeMap<_, _> = figures.iter().filter(|(key, text)| sent.get(*key) != Some(*text)).collect();
        if !changed.is_empty() {
            due.push(Event::new("figures", &changed));
            sent = figures;
        }
        due
    }))
}

fn figures(site: &Site, topic: Topic, asked: &Fields) -> BTreeMap<String, String> {
    let seen = site.applier.seen();
    let Some(counters) = &seen.counters else { return BTreeMap::new() };
    match topic {
        Topic::State => BTreeMap::new(),
        Topic::Connections => connections::figures(site, asked),
        Topic::Rules => dashboard::rule_figures(counters),
        Topic::Mappings => mappings::figures(&site.carried.look(site)),
        Topic::Upstreams => upstreams::figures(page::config(&seen), &site.carried.look(site)),
        Topic::Dashboard => {
            let mut figures = dashboard::figures(counters, &site.applier.traffic());
            figures.extend(dashboard::rule_figures(counters));
            figures.extend(dashboard::carried_figures(&site.carried.look(site)));
            figures
        }
    }
}
