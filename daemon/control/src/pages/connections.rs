//! What mapped clients have open right now, and the means to end it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy::messages::forwarder::Flow;
use policy::name::Name;
use serde::Serialize;

use super::datagrams;
use super::format::{self, Clock, Stamp};
use super::page::{self, Page};
use super::ui::{Choice, Field, query};
use crate::flash;
use crate::forwarder::{self, Target};
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::site::Site;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/connections", access: Access::May(Action::View), handler: show },
    Route { method: Method::Post, path: "/connections/close", access: Access::May(Action::Operate), handler: close },
];

#[derive(Debug, Serialize)]
struct Connections {
    filter: Vec<Field>,
    filtered: bool,
    /// The one client that was asked for.
    client: Option<String>,
    count: String,
    may_close: bool,
    flows: Vec<Row>,
    clients: Vec<ClientRow>,
    datagrams: Vec<datagrams::Figure>,
    nothing_title: &'static str,
    nothing: &'static str,
}

#[derive(Debug, Serialize)]
struct Row {
    id: u64,
    client: String,
    client_href: String,
    mapping: String,
    upstream: String,
    protocol: String,
    destination: String,
    began: Option<Stamp>,
    up: String,
    down: String,
}

/// What a client has open together.
#[derive(Debug, Serialize)]
struct ClientRow {
    client: String,
    href: String,
    mapping: String,
    flows: String,
    up: String,
    down: String,
}

/// Those with the most bytes; a box may carry thousands.
const MOST: usize = 100;
/// Asked for, so that clients can be told together.
const MOST_ASKED: u32 = 1_000;
const MOST_CLIENTS: usize = 25;

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let asked = &visit.request.query;
    let clock = page::clock(visit);
    let seen = visit.site.applier.seen();
    let mut mappings = vec![Choice::new("", "every mapping")];
    mappings.extend(
        page::config(&seen)
            .into_iter()
            .flat_map(|config| config.proxy_mappings.keys())
            .map(|name| Choice::new(name.as_str(), name.as_str())),
    );
    let mut filter = vec![
        Field::select("mapping", "Mapping", asked.text("mapping"), mappings),
        Field::text("client", "Client", asked.text("client").trim()).autocomplete("off"),
    ];
    let (flows, trouble) = match find(visit.site, asked) {
        Ok(found) => (Some(found), None),
        Err(Trouble::ForwarderAway(_)) => (None, None),
        Err(trouble) => (None, Some(trouble)),
    };
    let known = flows.is_some();
    let (all, total) = flows.unwrap_or_default();
    let flows = all.get(..MOST).unwrap_or(&all);
    let ids: Vec<String> = flows.iter().map(|flow| flow.id.to_string()).collect();
    let client = asked.text("client").trim();
    let topic = format!("connections&mapping={}&client={}&shown={}", query(asked.text("mapping")), query(client), ids.join("."));
    let page = Page::new(visit, "Connections").live(&topic).told(&mut filter, trouble)?;
    page.draw(
        "connections.html",
        &Connections {
            filtered: !client.is_empty() || !asked.text("mapping").is_empty(),
            client: (known && client.parse::<IpAddr>().is_ok()).then(|| client.to_owned()),
            count: match (known, flows.len() as u64) {
                (false, _) => "Not known".to_owned(),
                (true, shown) if shown < total => {
                    format!("{} of {}, those with the most bytes", format::count(shown), format::count(total))
                }
                (true, _) => format::count(total) + " open",
            },
            may_close: visit.may(Action::Operate),
            clients: if client.is_empty() { clients(&all) } else { Vec::new() },
            datagrams: datagrams::figures(visit.site.carried.look(visit.site).forwarder.as_ref()),
            flows: flows.iter().map(|flow| row(flow, &clock)).collect(),
            nothing_title: if known { "Nothing is open" } else { "Not known" },
            nothing: if known { "No mapped client that fits has a connection open." } else { "The forwarder does not answer." },
            filter,
        },
    )
}

fn find(site: &Site, asked: &Fields) -> Result<(Vec<Flow>, u64), Trouble> {
    let mapping = match asked.text("mapping") {
        "" => None,
        text => Some(Name::try_from(text).map_err(|bad| Trouble::field("mapping", bad.to_string()))?),
    };
    site.forwarder.flows(mapping, client(asked)?, MOST_ASKED)
}

/// Those with the most bytes first.
fn clients(flows: &[Flow]) -> Vec<ClientRow> {
    let mut sums: BTreeMap<IpAddr, (&Flow, u64, u64, u64)> = BTreeMap::new();
    for flow in flows {
        let (_, count, up, down) = sums.entry(flow.client.ip()).or_insert((flow, 0, 0, 0));
        (*count, *up, *down) = (*count + 1, *up + flow.up_bytes, *down + flow.down_bytes);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, (_, _, up, down))| std::cmp::Reverse(up + down));
    let row = |(client, (flow, count, up, down)): (IpAddr, (&Flow, u64, u64, u64))| ClientRow {
        client: client.to_string(),
        href: back("", &client.to_string()),
        mapping: flow.mapping.to_string(),
        flows: format::count(count),
        up: format::bytes(up),
        down: format::bytes(down),
    };
    sums.into_iter().take(MOST_CLIENTS).map(row).collect()
}

/// What moves on an open page: bytes, which of the shown flows have ended, and how many it does not show.
pub fn figures(site: &Site, asked: &Fields) -> BTreeMap<String, String> {
    let mut figures = datagrams::live(site.carried.look(site).forwarder.as_ref());
    let Ok((flows, total)) = find(site, asked) else { return figures };
    let shown: BTreeSet<u64> = asked.text("shown").split('.').filter_map(|id| id.parse().ok()).take(MOST).collect();
    for flow in flows.iter().filter(|flow| shown.contains(&flow.id)) {
        figures.insert(format!("flow.{}.up", flow.id), format::bytes(flow.up_bytes));
        figures.insert(format!("flow.{}.down", flow.id), format::bytes(flow.down_bytes));
    }
    let open: BTreeSet<u64> = flows.iter().map(|flow| flow.id).collect();
    // Where not all are told, one that is not among them may still be open.
    if total == flows.len() as u64 {
        figures.extend(shown.difference(&open).map(|id| (format!("flow.{id}.state"), "ended".to_owned())));
    }
    let more = total.saturating_sub(shown.intersection(&open).count() as u64);
    let news = if more == 0 { String::new() } else { format!("{} more than shown here.", format::count(more)) };
    figures.insert("flows.news".to_owned(), news);
    figures
}

fn client(fields: &Fields) -> Result<Option<IpAddr>, Trouble> {
    match fields.text("client").trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Trouble::field("client", format!("must be an address, not {text:?}"))),
    }
}

fn back(mapping: &str, client: &str) -> String {
    format!("/connections?mapping={}&client={}", query(mapping), query(client))
}

fn row(flow: &Flow, clock: &Clock) -> Row {
    Row {
        id: flow.id,
        client: flow.client.to_string(),
        client_href: back("", &flow.client.ip().to_string()),
        mapping: flow.mapping.to_string(),
        upstream: flow.upstream.to_string(),
        protocol: super::ui::visible(&flow.protocol),
        destination: flow.destination.to_string(),
        began: clock.stamp(flow.began),
        up: format::bytes(flow.up_bytes),
        down: format::bytes(flow.down_bytes),
    }
}

fn close(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let all = form.get("all").and_then(|text| text.parse().ok());
    let flows = forwarder::close(visit.site, visit.actor()?, Target::of(form.number("flow")?, all)?)?;
    let (tone, text) = match flows {
        0 => (flash::Tone::Info, "It had ended already.".to_owned()),
        flows => (flash::Tone::Ok, format!("Ended: {}.", format::plural(flows as usize, "flow", "flows"))),
    };
    Ok(Response::see_other(&back(form.text("mapping"), form.text("client"))).flash(tone, text))
}
