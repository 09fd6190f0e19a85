//! What was seen: events, alerts and what became of them.

use policy::messages::observer::{AlertFilter, RawEvent, Suppression};
use serde::Deserialize;
use serde_json::json;

use super::revisions::{BEFORE, LIMIT};
use super::{Answer, Operation, Parameter};
use crate::http::{Access, Method, Response, Visit};
use crate::observer;
use crate::pages::{alerts, seen};
use crate::role::Action;
use crate::trouble::Trouble;

const VIEW: Access = Access::May(Action::View);
const OPERATE: Access = Access::May(Action::Operate);

pub const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::Get,
        path: "/observer",
        access: VIEW,
        handler: status,
        summary: "How the watching goes: sources, what was stored and dropped, and what is wrong. Times in microseconds.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Observer"),
    },
    Operation {
        method: Method::Get,
        path: "/alerts",
        access: VIEW,
        handler: list,
        summary: "Alerts, newest first; only open ones without `all`.",
        query: &[
            Parameter { name: "all", kind: "string", about: "`true`: acknowledged ones too" },
            Parameter { name: "severity", kind: "string", about: "this one and worse: info, warning, critical" },
            Parameter { name: "rule", kind: "string", about: "only of this rule" },
            Parameter { name: "source", kind: "string", about: "only from this address" },
            BEFORE,
            LIMIT,
        ],
        body: None,
        answer: Answer::Json(200, "Alerts"),
    },
    Operation {
        method: Method::Post,
        path: "/alerts/acknowledge",
        access: OPERATE,
        handler: acknowledge,
        summary: "Say that somebody has seen these alerts. The next finding of their kind opens a new one.",
        query: &[],
        body: Some("AcknowledgeBody"),
        answer: Answer::Json(200, "Acknowledged"),
    },
    Operation {
        method: Method::Get,
        path: "/suppressions",
        access: VIEW,
        handler: suppressions,
        summary: "Rules that raise no alerts for a while.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Suppressions"),
    },
    Operation {
        method: Method::Post,
        path: "/suppressions",
        access: OPERATE,
        handler: suppress,
        summary: "Raise no alerts of a rule (from one source, if one is named) until a time in microseconds. Events are stored all the same.",
        query: &[],
        body: Some("SuppressionBody"),
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Get,
        path: "/events",
        access: VIEW,
        handler: events,
        summary: "Stored events, newest first. `older` is the `before` of the next page; null when there is none.",
        query: &[
            Parameter { name: "kind", kind: "string", about: "alert, drop, anomaly, dns, http, tls, ssh, flow, other" },
            Parameter { name: "address", kind: "string", about: "source or destination" },
            Parameter { name: "port", kind: "integer", about: "source or destination" },
            Parameter { name: "signature", kind: "integer", about: "of an alert" },
            Parameter { name: "flow", kind: "integer", about: "the sensor's number of the flow" },
            Parameter { name: "from", kind: "integer", about: "microseconds since the epoch" },
            Parameter { name: "until", kind: "integer", about: "microseconds since the epoch" },
            BEFORE,
            LIMIT,
        ],
        body: None,
        answer: Answer::Json(200, "Events"),
    },
    Operation {
        method: Method::Get,
        path: "/event",
        access: VIEW,
        handler: event,
        summary: "One event with the line that it came as, or why that is not there.",
        query: &[Parameter { name: "id", kind: "integer", about: "its number" }],
        body: None,
        answer: Answer::Json(200, "OneEvent"),
    },
];

fn status(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&visit.site.observer.status()?))
}

fn list(visit: &Visit) -> Result<Response, Trouble> {
    let query = &visit.request.query;
    let at_least = match query.text("severity") {
        "" => None,
        word => Some(alerts::severity(word).ok_or_else(|| Trouble::field("severity", "is info, warning or critical"))?),
    };
    let rule = query.get("rule").filter(|rule| !rule.is_empty()).map(str::to_owned);
    let filter = AlertFilter { open: query.text("all") != "true", at_least, rule, source: seen::address(query, "source")? };
    let found = visit.site.observer.alerts(filter, query.number("before")?, query.number("limit")?.unwrap_or(100))?;
    Ok(Response::json(&json!({ "alerts": found.alerts, "older": found.older, "open": found.open })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcknowledgeBody {
    alerts: Vec<u64>,
}

fn acknowledge(visit: &Visit) -> Result<Response, Trouble> {
    let body: AcknowledgeBody = visit.request.json()?;
    if body.alerts.len() > 1_000 {
        return Err(Trouble::field("alerts", "are at most 1,000 at once"));
    }
    let changed = observer::acknowledge(visit.site, visit.actor()?, body.alerts)?;
    Ok(Response::json(&json!({ "alerts": changed })))
}

fn suppressions(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&visit.site.observer.suppressions()?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuppressionBody {
    rule: String,
    source: Option<std::net::IpAddr>,
    until: i64,
    reason: String,
}

fn suppress(visit: &Visit) -> Result<Response, Trouble> {
    let body: SuppressionBody = visit.request.json()?;
    if body.reason.trim().is_empty() || body.reason.len() > 200 || body.rule.is_empty() || body.rule.len() > 100 {
        return Err(Trouble::field("reason", "and rule are needed, in at most 200 and 100 bytes"));
    }
    if body.until <= (visit.site.now() as i64).saturating_mul(1_000) {
        return Err(Trouble::field("until", "is in the future, in microseconds since the epoch"));
    }
    let SuppressionBody { rule, source, until, reason } = body;
    observer::suppress(visit.site, visit.actor()?, Suppression { id: 0, rule, source, until, by: String::new(), reason })?;
    Ok(Response::no_content())
}

fn events(visit: &Visit) -> Result<Response, Trouble> {
    let query = &visit.request.query;
    let found = visit.site.observer.events(seen::wanted(query)?, query.number("before")?, query.number("limit")?.unwrap_or(100))?;
    Ok(Response::json(&json!({ "events": found.events, "older": found.older })))
}

fn event(visit: &Visit) -> Result<Response, Trouble> {
    let id = visit.request.query.number("id")?.ok_or_else(|| Trouble::field("id", "is missing"))?;
    let (event, raw) = visit.site.observer.event(id)?;
    let (line, lost) = match raw {
        RawEvent::Line(line) => (Some(line), None),
        RawEvent::Lost(why) => (None, Some(why)),
    };
    Ok(Response::json(&json!({ "event": event, "line": line, "lost": lost })))
}
