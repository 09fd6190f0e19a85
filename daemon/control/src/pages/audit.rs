//! The audit log: who changed what, from where, in a chain of hashes.

use serde::Serialize;

use super::format::{self, Clock, Stamp, short_hash};
use super::page::{self, Page};
use super::ui::{Choice, Field, query, visible};
use crate::audit::{self, Entry, Filter};
use crate::flash;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;
use crate::user;

const READ: Access = Access::May(Action::Audit);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/audit", access: READ, handler: show },
    Route { method: Method::Post, path: "/audit/verify", access: READ, handler: verify },
    Route { method: Method::Get, path: "/audit/export", access: READ, handler: export },
];

#[derive(Debug, Serialize)]
struct Audit {
    filter: Vec<Field>,
    filtered: bool,
    count: &'static str,
    entries: Vec<Row>,
    older: Option<String>,
    nothing: &'static str,
}

#[derive(Debug, Serialize)]
struct Row {
    number: String,
    at: Option<Stamp>,
    who: String,
    address: String,
    action: String,
    subject: String,
    detail: String,
    before: Option<String>,
    after: Option<String>,
    hash: String,
    hash_short: String,
}

const PER_PAGE: u32 = 50;

/// The beginnings of actions, in people's words.
const ACTIONS: [(&str, &str); 18] = [
    ("", "everything"),
    ("policy.", "policies in effect"),
    ("candidate.", "the candidate"),
    ("revision.", "revisions"),
    ("mapping.blocked", "mappings blocked"),
    ("mapping.back", "mappings let in again"),
    ("mapping", "all of mappings: edited, imported, blocked, back"),
    ("upstream.", "upstreams edited"),
    ("group.", "groups of upstreams edited"),
    ("proxy.close", "connections ended"),
    ("proxy.probe", "upstreams tested"),
    ("secret.", "secrets"),
    ("alert.", "alerts acknowledged and suppressed"),
    ("login", "signing in"),
    ("user.", "users"),
    ("key.", "API keys"),
    ("session.", "sessions"),
    ("setup", "set-up"),
];

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let asked = &visit.request.query;
    let given = |name: &str| asked.get(name).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let filter =
        Filter { user: given("user"), action: given("action"), text: given("q"), before: asked.number("before")?, limit: PER_PAGE };
    let entries = audit::list(visit.site, &filter)?;
    let clock = page::clock(visit);
    let filtered = filter.user.is_some() || filter.action.is_some() || filter.text.is_some();
    let older = (entries.len() == PER_PAGE as usize).then(|| entries.last().map(|entry| older(asked, entry.number))).flatten();
    let view = Audit {
        filter: fields(visit, &filter)?,
        filtered,
        count: "Newest first",
        entries: entries.into_iter().map(|entry| row(entry, &clock)).collect(),
        older,
        nothing: if filtered { "No entry fits what you asked for." } else { "Nothing has been recorded yet." },
    };
    Page::new(visit, "Audit").draw("audit.html", &view)
}

fn fields(visit: &Visit, filter: &Filter) -> Result<Vec<Field>, Trouble> {
    let mut people = vec![Choice::new("", "everybody")];
    people.extend(user::list(visit.site)?.into_iter().map(|user| Choice::new(user.name.clone(), user.name)));
    for own in ["applier", "control", "hot-reload"] {
        people.push(Choice::new(own, format!("{own} (the box itself)")));
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Ok(vec![
        Field::text("q", "Search", text(&filter.text)).kind("search"),
        Field::select("user", "Who", text(&filter.user), people),
        Field::select("action", "What", text(&filter.action), ACTIONS.map(|(value, label)| Choice::new(value, label)).to_vec()),
    ])
}

/// The same question, from there on.
fn older(asked: &Fields, before: u64) -> String {
    let kept: String = ["q", "user", "action"].iter().map(|name| format!("{name}={}&", query(asked.text(name)))).collect();
    format!("/audit?{kept}before={before}")
}

fn row(entry: Entry, clock: &Clock) -> Row {
    let side = |text: Option<String>| text.filter(|text| !text.is_empty()).map(|text| digest_or_word(&text));
    Row {
        number: format::count(entry.number),
        at: clock.stamp(entry.at),
        who: visible(&entry.user),
        address: entry.address.unwrap_or_else(|| "the box".to_owned()),
        action: entry.action,
        subject: visible(&entry.subject),
        detail: visible(&entry.detail),
        before: side(entry.before),
        after: side(entry.after),
        hash_short: short_hash(&entry.hash),
        hash: entry.hash,
    }
}

/// Digests are cut to what an eye can compare; words stay.
fn digest_or_word(text: &str) -> String {
    let digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digest { short_hash(text) } else { visible(text) }
}

/// For the dashboard: the latest entries, each as a sentence.
pub fn lately(visit: &Visit, clock: &Clock, limit: u32) -> Result<Vec<super::dashboard::Lately>, Trouble> {
    let entries = audit::list(visit.site, &Filter { limit, ..Filter::default() })?;
    let sentence = |entry: &Entry| match (entry.detail.is_empty(), entry.subject.is_empty()) {
        (true, _) => format!("{} {}", entry.action, entry.subject),
        // Who it is stands beside it.
        (false, _) if entry.subject == entry.user => entry.detail.clone(),
        (false, true) => entry.detail.clone(),
        (false, false) => format!("{}: {}", entry.subject, entry.detail),
    };
    Ok(entries
        .iter()
        .map(|entry| super::dashboard::Lately { at: clock.stamp(entry.at), who: visible(&entry.user), what: visible(&sentence(entry)) })
        .collect())
}

fn verify(visit: &Visit) -> Result<Response, Trouble> {
    let verdict = audit::verify(visit.site)?;
    let (tone, text) = match verdict.fault {
        None => {
            let entries = format::plural(verdict.entries as usize, "entry", "entries");
            (
                flash::Tone::Ok,
                format!("The chain is whole: {entries}, {}.", format::plural(verdict.checkpoints, "checkpoint", "checkpoints")),
            )
        }
        Some(fault) => (flash::Tone::Bad, format!("The log was tampered with. Entry {}: {}", fault.entry, fault.text)),
    };
    Ok(Response::see_other("/audit").flash(tone, text))
}

fn export(visit: &Visit) -> Result<Response, Trouble> {
    let from = visit.request.query.number("from")?.unwrap_or(1);
    let json = audit::export(visit.site, from)?;
    let text = serde_json::to_vec_pretty(&json)
        .map_err(|error| Trouble::Internal(format!("the audit log could not be written as JSON: {error}")))?;
    Ok(Response::download("application/json", &format!("portcullis-audit-from-{from}.json"), text))
}
