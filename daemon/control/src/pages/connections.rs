//! What mapped clients have open right now, and the means to end it.

use std::net::IpAddr;

use policy::messages::forwarder::Flow;
use policy::name::Name;
use serde::Serialize;

use super::format::{self, Clock, Stamp};
use super::page::{self, Page};
use super::ui::{Choice, Field, query};
use crate::flash;
use crate::forwarder::{self, Target};
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
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
    back: String,
    flows: Vec<Row>,
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

/// Those with the most bytes; a box may carry thousands.
const MOST: u32 = 100;

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
    let (flows, trouble) = match find(visit, asked) {
        Ok(found) => (Some(found), None),
        Err(Trouble::ForwarderAway(_)) => (None, None),
        Err(trouble) => (None, Some(trouble)),
    };
    let known = flows.is_some();
    let (flows, total) = flows.unwrap_or_default();
    let page = Page::new(visit, "Connections").told(&mut filter, trouble)?;
    let client = asked.text("client").trim();
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
            back: back(asked.text("mapping"), client),
            flows: flows.iter().map(|flow| row(flow, &clock)).collect(),
            nothing_title: if known { "Nothing is open" } else { "Not known" },
            nothing: if known { "No mapped client that fits has a connection open." } else { "The forwarder does not answer." },
            filter,
        },
    )
}

fn find(visit: &Visit, asked: &Fields) -> Result<(Vec<Flow>, u64), Trouble> {
    let mapping = match asked.text("mapping") {
        "" => None,
        text => Some(Name::try_from(text).map_err(|bad| Trouble::field("mapping", bad.to_string()))?),
    };
    visit.site.forwarder.flows(mapping, client(asked)?, MOST)
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
