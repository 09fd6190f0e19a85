//! Alerts: what people should look at, who has, and what shall be quiet for a while.

use policy::messages::observer::{Alert, AlertFilter, ObserverStatus, Severity, Suppression};
use serde::Serialize;

use super::format::{self, Clock, Stamp};
use super::page::{self, Page};
use super::seen;
use super::ui::{Badge, Choice, Field, Notice, Tone, query, visible};
use crate::flash;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::observer::{self, Alerts};
use crate::role::Action;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/alerts", access: Access::May(Action::View), handler: show },
    Route { method: Method::Get, path: "/alerts/alert", access: Access::May(Action::View), handler: one },
    Route { method: Method::Post, path: "/alerts/acknowledge", access: Access::May(Action::Operate), handler: acknowledge },
    Route { method: Method::Post, path: "/alerts/suppress", access: Access::May(Action::Operate), handler: suppress },
    Route { method: Method::Post, path: "/alerts/unsuppress", access: Access::May(Action::Operate), handler: unsuppress },
];

#[derive(Debug, Serialize)]
struct List {
    filter: Vec<Field>,
    filtered: bool,
    count: String,
    alerts: Vec<Row>,
    older: Option<String>,
    quiet: Vec<Quiet>,
    may_operate: bool,
    watching: Option<Watching>,
    nothing_title: &'static str,
    nothing: &'static str,
}

#[derive(Debug, Serialize)]
struct Row {
    id: u64,
    severity: Badge,
    title: String,
    rule: String,
    source: Option<String>,
    destination: Option<String>,
    count: String,
    first: Option<Stamp>,
    last: Option<Stamp>,
    /// By whom, once somebody has.
    acknowledged: Option<String>,
}

#[derive(Debug, Serialize)]
struct Quiet {
    id: u64,
    rule: String,
    source: String,
    until: Option<Stamp>,
    by: String,
    reason: String,
}

/// How the watching goes.
#[derive(Debug, Serialize)]
struct Watching {
    sources: Vec<(String, Badge, String)>,
    stored: String,
    dropped: String,
    garbled: String,
    space: String,
    oldest: Option<Stamp>,
    troubles: Vec<String>,
}

const PER_PAGE: u32 = 50;

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let asked = &visit.request.query;
    let clock = page::clock(visit);
    let mut filter = fields(asked);
    let found = wanted(asked).and_then(|wanted| visit.site.observer.alerts(wanted, asked.number("before")?, PER_PAGE));
    let (found, trouble) = match found {
        Ok(found) => (Some(found), None),
        Err(Trouble::ObserverAway(_)) => (None, None),
        Err(trouble) => (None, Some(trouble)),
    };
    let known = found.is_some();
    let Alerts { alerts, older, open } = found.unwrap_or_default();
    let quiet = visit.site.observer.suppressions().unwrap_or_default();
    let page = Page::new(visit, "Alerts").told(&mut filter, trouble)?;
    page.draw(
        "alerts.html",
        &List {
            filtered: ["show", "severity", "rule", "source"].iter().any(|name| !asked.text(name).is_empty()),
            count: if known { format!("{} open", format::count(open)) } else { "Not known".to_owned() },
            alerts: alerts.iter().map(|alert| row(alert, &clock)).collect(),
            older: older.map(|before| format!("/alerts?{}before={before}", kept(asked))),
            quiet: quiet.iter().map(|quiet| silence(quiet, &clock)).collect(),
            may_operate: visit.may(Action::Operate),
            watching: visit.site.observer.status().ok().map(|status| watching(&status, &clock)),
            nothing_title: if known { "Nothing to look at" } else { "Not known" },
            nothing: if known { "No alert fits." } else { "The observer does not answer. Nothing that carries traffic needs it." },
            filter,
        },
    )
}

fn fields(asked: &Fields) -> Vec<Field> {
    let severities =
        vec![Choice::new("", "every severity"), Choice::new("warning", "warning and worse"), Choice::new("critical", "critical")];
    vec![
        Field::select("show", "Show", asked.text("show"), vec![Choice::new("", "open ones"), Choice::new("all", "acknowledged ones too")]),
        Field::select("severity", "Severity", asked.text("severity"), severities),
        Field::text("rule", "Rule", asked.text("rule").trim()).autocomplete("off"),
        Field::text("source", "From", asked.text("source").trim()).autocomplete("off"),
    ]
}

fn wanted(asked: &Fields) -> Result<AlertFilter, Trouble> {
    let at_least = match asked.text("severity") {
        "" => None,
        word => Some(severity(word).ok_or_else(|| Trouble::field("severity", format!("is info, warning or critical, not {word:?}")))?),
    };
    let rule = Some(asked.text("rule").trim().to_owned()).filter(|rule| !rule.is_empty());
    Ok(AlertFilter { open: asked.text("show") != "all", at_least, rule, source: seen::address(asked, "source")? })
}

pub fn severity(word: &str) -> Option<Severity> {
    Severity::ALL.into_iter().find(|severity| severity.word() == word)
}

fn kept(asked: &Fields) -> String {
    ["show", "severity", "rule", "source"].iter().map(|name| format!("{name}={}&", query(asked.text(name)))).collect()
}

fn row(alert: &Alert, clock: &Clock) -> Row {
    Row {
        id: alert.id,
        severity: badge(alert.severity),
        title: visible(&alert.title),
        rule: visible(&alert.rule),
        source: alert.source.map(|source| source.to_string()),
        destination: alert.destination.map(|destination| destination.to_string()),
        count: format::count(alert.count),
        first: seen::stamp(alert.first, clock),
        last: seen::stamp(alert.last, clock),
        acknowledged: alert.acknowledged.as_ref().map(|seen| visible(&seen.by)),
    }
}

pub fn badge(severity: Severity) -> Badge {
    let tone = match severity {
        Severity::Info => Tone::Info,
        Severity::Warning => Tone::Warn,
        Severity::Critical => Tone::Bad,
    };
    Badge::new(tone, severity.word())
}

fn silence(quiet: &Suppression, clock: &Clock) -> Quiet {
    Quiet {
        id: quiet.id,
        rule: visible(&quiet.rule),
        source: quiet.source.map_or_else(|| "anywhere".to_owned(), |source| source.to_string()),
        until: seen::stamp(quiet.until, clock),
        by: visible(&quiet.by),
        reason: visible(&quiet.reason),
    }
}

fn watching(status: &ObserverStatus, clock: &Clock) -> Watching {
    let source = |source: &policy::messages::observer::SourceStatus| {
        let badge = if source.open { Badge::new(Tone::Ok, "connected") } else { Badge::new(Tone::Plain, "nobody connected") };
        (source.name.clone(), badge, format::count(source.events))
    };
    Watching {
        sources: status.sources.iter().map(source).collect(),
        stored: format::count(status.stored),
        dropped: format::count(status.dropped),
        garbled: format::count(status.garbled),
        space: format!("{} of {}", format::bytes(status.bytes), format::bytes(status.bytes_max)),
        oldest: status.oldest.and_then(|oldest| seen::stamp(oldest, clock)),
        troubles: status.troubles.iter().map(|trouble| visible(trouble)).collect(),
    }
}

#[derive(Debug, Serialize)]
struct One {
    alert: Row,
    event: Option<seen::Row>,
    raw: Option<Vec<String>>,
    lost: Option<String>,
    around: String,
    suppress: Vec<Field>,
    may_operate: bool,
}

fn one(visit: &Visit) -> Result<Response, Trouble> {
    let id = visit.request.query.number("id")?.ok_or_else(|| Trouble::field("id", "of the alert is missing"))?;
    draw(visit, id, None)
}

fn draw(visit: &Visit, id: u64, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let clock = page::clock(visit);
    let alert = visit.site.observer.alert(id)?;
    let event = visit.site.observer.event(alert.event).ok();
    let (raw, lost) = match event.as_ref().map(|(_, raw)| seen::raw(raw)) {
        Some(Ok(lines)) => (Some(lines), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, Some("The event that raised it is kept no longer.".to_owned())),
    };
    let hours = [("1", "an hour"), ("8", "eight hours"), ("24", "a day"), ("168", "a week"), ("720", "thirty days")];
    let typed = visit.request.form().ok();
    let was = |name: &str| typed.as_ref().map(|form| form.text(name).to_owned()).unwrap_or_default();
    let whom = match alert.source {
        Some(source) => vec![Choice::new(source.to_string(), format!("from {source} only")), Choice::new("", "from anywhere")],
        None => vec![Choice::new("", "from anywhere")],
    };
    let mut suppress = vec![
        Field::select("source", "Which", was("source"), whom),
        Field::select("hours", "For", was("hours"), hours.map(|(value, label)| Choice::new(value, label)).to_vec()),
        Field::text("reason", "Why", was("reason")).required().autocomplete("off"),
    ];
    let source = alert.source.map(|source| source.to_string()).unwrap_or_default();
    let page = Page::new(visit, "Alert").told(&mut suppress, trouble)?;
    let page = if alert.acknowledged.is_some() { page.notice(Notice::info("Somebody has acknowledged this alert.")) } else { page };
    page.draw(
        "alert.html",
        &One {
            event: event.as_ref().map(|(event, _)| seen::row(event, &clock)),
            raw,
            lost,
            around: format!("/seen?address={}", query(&source)),
            suppress,
            may_operate: visit.may(Action::Operate),
            alert: row(&alert, &clock),
        },
    )
}

fn acknowledge(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let ids: Result<Vec<u64>, _> = form.all("id").map(str::parse).collect();
    let ids = ids.map_err(|_| Trouble::field("id", "is the number of an alert"))?;
    if ids.is_empty() {
        return Ok(Response::see_other("/alerts").flash(flash::Tone::Warn, "No alert was chosen.".to_owned()));
    }
    let changed = observer::acknowledge(visit.site, visit.actor()?, ids)?;
    let text = format!("Acknowledged: {}.", format::plural(changed as usize, "alert", "alerts"));
    Ok(Response::see_other("/alerts").flash(flash::Tone::Ok, text))
}

fn suppress(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let id = form.number("alert")?.ok_or_else(|| Trouble::field("alert", "is missing"))?;
    match suppression(visit, &form, id) {
        Ok(suppression) => {
            observer::suppress(visit.site, visit.actor()?, suppression)?;
            Ok(Response::see_other("/alerts").flash(flash::Tone::Ok, "It is quiet until then.".to_owned()))
        }
        Err(trouble @ Trouble::Fields(_)) => draw(visit, id, Some(trouble)),
        Err(trouble) => Err(trouble),
    }
}

fn suppression(visit: &Visit, form: &Fields, id: u64) -> Result<Suppression, Trouble> {
    let alert = visit.site.observer.alert(id)?;
    let hours: i64 =
        form.number("hours")?.filter(|hours| (1..=720).contains(hours)).ok_or_else(|| Trouble::field("hours", "is 1 to 720"))?;
    let reason = form.text("reason").trim();
    if reason.is_empty() || reason.len() > 200 {
        return Err(Trouble::field("reason", "is needed, in at most 200 bytes: whoever misses an alert will ask"));
    }
    let until = (visit.site.now() as i64).saturating_mul(1_000).saturating_add(hours * 3_600_000_000);
    Ok(Suppression { id: 0, rule: alert.rule, source: seen::address(form, "source")?, until, by: String::new(), reason: reason.to_owned() })
}

fn unsuppress(visit: &Visit) -> Result<Response, Trouble> {
    let id = visit.request.form()?.number("id")?.ok_or_else(|| Trouble::field("id", "is missing"))?;
    observer::unsuppress(visit.site, visit.actor()?, id)?;
    Ok(Response::see_other("/alerts").flash(flash::Tone::Ok, "Its alerts are raised again.".to_owned()))
}
