//! Events: what sensors have seen, searched and paged, each with the line that it came as.

use std::net::IpAddr;

use policy::messages::observer::{Event, EventFilter, EventKind, RawEvent};
use serde::Serialize;

use super::alerts::badge;
use super::format::{Clock, Stamp};
use super::page::{self, Page};
use super::ui::{Badge, Choice, Field, query, visible};
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::observer::Events;
use crate::role::Action;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/seen", access: Access::May(Action::View), handler: show },
    Route { method: Method::Get, path: "/seen/event", access: Access::May(Action::View), handler: one },
];

#[derive(Debug, Serialize)]
struct List {
    filter: Vec<Field>,
    filtered: bool,
    events: Vec<Row>,
    older: Option<String>,
    nothing_title: &'static str,
    nothing: &'static str,
}

#[derive(Debug, Serialize)]
pub struct Row {
    id: u64,
    at: Option<Stamp>,
    kind: &'static str,
    severity: Badge,
    source: String,
    destination: String,
    message: String,
    flow: Option<String>,
}

const PER_PAGE: u32 = 50;
const NAMES: [&str; 5] = ["kind", "address", "port", "signature", "flow"];

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let asked = &visit.request.query;
    let clock = page::clock(visit);
    let mut kinds = vec![Choice::new("", "everything")];
    kinds.extend(EventKind::ALL.map(|kind| Choice::new(kind.word(), kind.word())));
    let text = |name: &'static str, label| Field::text(name, label, asked.text(name).trim()).autocomplete("off");
    let mut filter = vec![
        Field::select("kind", "What", asked.text("kind"), kinds),
        text("address", "Address"),
        text("port", "Port").inputmode("numeric"),
        text("signature", "Signature").inputmode("numeric"),
        text("flow", "Flow").inputmode("numeric"),
    ];
    let found = wanted(asked).and_then(|wanted| visit.site.observer.events(wanted, asked.number("before")?, PER_PAGE));
    let (found, trouble) = match found {
        Ok(found) => (Some(found), None),
        Err(Trouble::ObserverAway(_)) => (None, None),
        Err(trouble) => (None, Some(trouble)),
    };
    let known = found.is_some();
    let Events { events, older } = found.unwrap_or_default();
    let page = Page::new(visit, "Events").told(&mut filter, trouble)?;
    page.draw(
        "seen.html",
        &List {
            filtered: NAMES.iter().any(|name| !asked.text(name).is_empty()),
            events: events.iter().map(|event| row(event, &clock)).collect(),
            older: older.map(|before| {
                let kept: String = NAMES.iter().map(|name| format!("{name}={}&", query(asked.text(name)))).collect();
                format!("/seen?{kept}before={before}")
            }),
            nothing_title: if known { "Nothing found" } else { "Not known" },
            nothing: match (known, older) {
                (true, None) => "No event fits, or no sensor has sent any.",
                (true, Some(_)) => "None among the newer ones. The search took its time: go on with the older ones.",
                (false, _) => "The observer does not answer. Nothing that carries traffic needs it.",
            },
            filter,
        },
    )
}

pub fn wanted(asked: &Fields) -> Result<EventFilter, Trouble> {
    let kind = match asked.text("kind") {
        "" => None,
        word => {
            let kind = EventKind::ALL.into_iter().find(|kind| kind.word() == word);
            Some(kind.ok_or_else(|| Trouble::field("kind", format!("there is no kind of event {word:?}")))?)
        }
    };
    Ok(EventFilter {
        kind,
        address: address(asked, "address")?,
        port: number(asked, "port")?,
        signature: number(asked, "signature")?,
        flow: number(asked, "flow")?,
        from: number(asked, "from")?,
        until: number(asked, "until")?,
    })
}

fn number<T: std::str::FromStr>(asked: &Fields, name: &str) -> Result<Option<T>, Trouble> {
    if asked.text(name).trim().is_empty() { Ok(None) } else { asked.number(name) }
}

pub fn address(asked: &Fields, name: &str) -> Result<Option<IpAddr>, Trouble> {
    match asked.text(name).trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Trouble::field(name, format!("must be an address, not {text:?}"))),
    }
}

/// From microseconds.
pub fn stamp(at: i64, clock: &Clock) -> Option<Stamp> {
    clock.stamp(u64::try_from(at / 1_000).unwrap_or(0))
}

pub fn row(event: &Event, clock: &Clock) -> Row {
    let end = |address: Option<IpAddr>, port: Option<u16>| match (address, port) {
        (None, _) => String::new(),
        (Some(address), None | Some(0)) => address.to_string(),
        (Some(address), Some(port)) => std::net::SocketAddr::from((address, port)).to_string(),
    };
    let signature = event.signature.map(|signature| format!(" ({signature})")).unwrap_or_default();
    Row {
        id: event.id,
        at: stamp(event.at, clock),
        kind: event.kind.word(),
        severity: badge(event.severity),
        source: end(event.source, event.source_port),
        destination: end(event.destination, event.destination_port),
        message: visible(&event.message) + &signature,
        flow: event.flow.map(|flow| flow.to_string()),
    }
}

/// The line, a field to a line of the page; or why it is not there.
pub fn raw(raw: &RawEvent) -> Result<Vec<String>, String> {
    match raw {
        RawEvent::Lost(why) => Err(visible(why)),
        RawEvent::Line(line) => {
            let pretty = serde_json::from_str::<serde_json::Value>(line).and_then(|value| serde_json::to_string_pretty(&value));
            Ok(super::ui::lines(&pretty.unwrap_or_else(|_| line.clone())))
        }
    }
}

#[derive(Debug, Serialize)]
struct One {
    event: Row,
    raw: Option<Vec<String>>,
    lost: Option<String>,
}

fn one(visit: &Visit) -> Result<Response, Trouble> {
    let id = visit.request.query.number("id")?.ok_or_else(|| Trouble::field("id", "of the event is missing"))?;
    let (event, line) = visit.site.observer.event(id)?;
    let (raw, lost) = match raw(&line) {
        Ok(lines) => (Some(lines), None),
        Err(why) => (None, Some(why)),
    };
    Page::new(visit, "Event").draw("event.html", &One { event: row(&event, &page::clock(visit)), raw, lost })
}
