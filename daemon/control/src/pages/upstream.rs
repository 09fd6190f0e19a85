//! One upstream: how it does, its probes of the last hour, and the form that changes it in the candidate.

use std::collections::BTreeSet;

use policy::Sources;
use policy::messages::forwarder::Health;
use policy::model::Config;
use policy::name::Name;
use serde::Serialize;

use super::format::{Clock, Stamp};
use super::latency::{self, Latency};
use super::mapping::written;
use super::mappings::absences;
use super::page::{self, Page};
use super::resource::{self, Refusal, named};
use super::ui::{Badge, Fact, Field, Place, ShownProblem, Tone, visible};
use super::upstream_form::{self as form, Inputs, new_secret, secrets};
use super::upstreams::{Policies, Row, row, state, why};
use crate::candidate::Candidate;
use crate::carried::{self, Known};
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const EDIT: Access = Access::May(Action::Edit);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/upstreams/upstream", access: Access::May(Action::View), handler: show },
    Route { method: Method::Post, path: "/upstreams/upstream", access: EDIT, handler: change },
    Route { method: Method::Get, path: "/upstreams/new", access: EDIT, handler: show_new },
    Route { method: Method::Post, path: "/upstreams/new", access: EDIT, handler: create },
    Route { method: Method::Post, path: "/upstreams/remove", access: EDIT, handler: remove },
];

#[derive(Debug, Serialize)]
struct OneUpstream {
    name: String,
    new: bool,
    intro: String,
    runs: bool,
    state: Badge,
    may_operate: bool,
    may_edit: bool,
    /// It stands in the candidate.
    written: bool,
    base: u64,
    facts: Vec<Fact>,
    why: String,
    spark: Option<Latency>,
    origin: Option<Place>,
    history: Vec<ProbeRow>,
    refused: bool,
    problems: Vec<ShownProblem>,
    what: Vec<Field>,
    who: Vec<Field>,
    tls: Vec<Field>,
    probe: Vec<Field>,
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

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let text = visit.request.query.required("name")?;
    let name = Name::try_from(text).map_err(|_| Trouble::no_such("upstream", text))?;
    let (candidate, config) = written(visit)?;
    let typed = config.upstreams.get(&name).map(|upstream| form::values(&name, upstream));
    draw(visit, Some(&name), typed.as_ref(), &candidate, &config, Refusal::default())
}

fn show_new(visit: &Visit) -> Result<Response, Trouble> {
    let (candidate, config) = written(visit)?;
    draw(visit, None, Some(&visit.request.query), &candidate, &config, Refusal::default())
}

fn draw(
    visit: &Visit,
    name: Option<&Name>,
    typed: Option<&Fields>,
    candidate: &Candidate,
    config: &Config,
    mut refusal: Refusal,
) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let known = visit.site.carried.look(visit.site);
    let clock = page::clock(visit);
    let none = Sources::default();
    let policies = Policies {
        running: page::config(&seen),
        written: Some(config),
        running_text: seen.running.as_ref().map_or(&none, |running| &running.sources),
        written_text: &candidate.sources,
    };
    let stands = name.and_then(|name| row(name, &policies, &known, &clock));
    if let (Some(name), None) = (name, &stands) {
        return Err(Trouble::no_such("upstream", name.as_str()));
    }
    let nothing = Fields::default();
    let Inputs { what, who, tls, probe } = form::inputs(typed.unwrap_or(&nothing), &choosable(&known, &policies), name.is_none());
    let lengths = [what.len(), who.len(), tls.len()];
    let mut all = [what, who, tls, probe].concat();
    let about_the_form = refusal.is_about_the_form();
    refusal.mark(&mut all);
    let title = name.map_or_else(|| "New upstream".to_owned(), Name::to_string);
    let mut page = Page::new(visit, title.clone()).live("upstreams").told(&mut all, refusal.trouble)?;
    if about_the_form {
        page = page.status(422);
    }
    let mut rest = all.into_iter();
    let [what, who, tls] = lengths.map(|length| rest.by_ref().take(length).collect::<Vec<_>>());
    let runs = stands.as_ref().is_some_and(|row| row.runs);
    let is_written = name.is_none_or(|name| config.upstreams.contains_key(name));
    let view = OneUpstream {
        name: title,
        new: name.is_none(),
        intro: match (name, runs, is_written) {
            (None, ..) => "It goes into the candidate. Nothing reaches the gate before you apply it; then it is probed for the first time.",
            (_, true, false) => "The candidate no longer has it; it runs until that is applied.",
            (_, false, _) => "It stands in the candidate and does not run yet, so it is not probed.",
            _ => "Saving changes the candidate only. Nothing reaches the gate before you apply it.",
        }
        .to_owned(),
        runs,
        state: stands.as_ref().map_or_else(|| Badge::new(Tone::Plain, "new"), |row| row.state.clone()),
        may_operate: visit.may(Action::Operate) && runs,
        may_edit: visit.may(Action::Edit),
        written: is_written,
        base: candidate.version,
        why: stands.as_ref().map_or_else(String::new, |row| row.why.clone()),
        facts: name.zip(stands.as_ref()).map_or_else(Vec::new, |(name, row)| facts(name, row, &policies)),
        origin: stands.as_ref().map(|row| row.origin.clone()),
        spark: stands.and_then(|row| row.spark),
        history: name.filter(|_| runs).map_or_else(Vec::new, |name| history(known.history(name), &clock)),
        refused: about_the_form,
        problems: refusal.elsewhere,
        what,
        who,
        tls,
        probe: rest.collect(),
    };
    absences(page, &known).draw("upstream.html", &view)
}

fn choosable(known: &Known, policies: &Policies) -> BTreeSet<String> {
    secrets(known, &[policies.running, policies.written])
}

fn facts(name: &Name, row: &Row, policies: &Policies) -> Vec<Fact> {
    let Some((upstream, ..)) = policies.find(name, |config| &config.upstreams) else { return Vec::new() };
    let spec = &upstream.spec;
    let expected: Vec<String> = spec.expect_exit.iter().map(ToString::to_string).collect();
    vec![
        Fact::new("Kind", row.kind),
        Fact::new("Address", row.address.clone()),
        Fact::new("User", spec.username.as_deref().map_or_else(|| "none".to_owned(), visible)),
        Fact::new("Secret", spec.password_secret.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)),
        Fact::new("Probe", visible(&spec.probe)),
        Fact::new("Must come out at", if expected.is_empty() { "anywhere but at the box itself".to_owned() } else { expected.join(", ") }),
        Fact::new("Exit", row.exit.clone()),
        Fact::new("Latency", row.latency.clone()),
        Fact::new("Flows", row.flows.clone()),
        Fact::new("Used by", if row.used_by.is_empty() { "no mapping".to_owned() } else { row.used_by.join(", ") }),
    ]
}

fn history(probes: &[Health], clock: &Clock) -> Vec<ProbeRow> {
    let probe = |health: &Health| ProbeRow {
        at: clock.stamp(health.at),
        state: state(Some(health)),
        latency: health.latency_us.map_or_else(|| "–".to_owned(), latency::say),
        exit: health.exit.map_or_else(|| "–".to_owned(), |exit| exit.to_string()),
        why: why(Some(health)),
    };
    probes.iter().rev().take(MOST_PROBES).map(probe).collect()
}

fn change(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    let name = named(typed.required("upstream")?)?;
    write(visit, &typed, &name, false)
}

fn create(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    match typed.required("name").and_then(named) {
        Ok(name) => write(visit, &typed, &name, true),
        Err(trouble) => {
            let (candidate, config) = written(visit)?;
            draw(visit, None, Some(&typed), &candidate, &config, trouble.into())
        }
    }
}

/// A password that was typed goes to the applier under a new name, and the policy names that: what runs keeps its own until this is
/// applied, and after going back.
fn write(visit: &Visit, typed: &Fields, name: &Name, new: bool) -> Result<Response, Trouble> {
    let (candidate, config) = written(visit)?;
    let seen = visit.site.applier.seen();
    let known = visit.site.carried.look(visit.site);
    let password = typed.text("password");
    let kept = Some(typed.text("kept")).filter(|kept| !kept.is_empty() && !typed.text("username").trim().is_empty());
    let secret = match (password, kept) {
        ("", kept) => kept.map(str::to_owned),
        _ => Some(new_secret(name, &secrets(&known, &[page::config(&seen), Some(&config)]))),
    };
    let keep = || match (&secret, password) {
        (_, "") | (None, _) => Ok(()),
        (Some(secret), password) => carried::set_secret(visit.site, visit.actor()?, secret, password).map_err(|trouble| match trouble {
            Trouble::Fields(mut problems) => {
                problems.iter_mut().for_each(|problem| problem.field = "password".to_owned());
                Trouble::Fields(problems)
            }
            Trouble::ApplierAway(_) => Trouble::Conflict(super::error::sentence(&trouble)),
            other => other,
        }),
    };
    let base = typed.number("base")?.unwrap_or(0);
    let saved = form::text(name.as_str(), typed, secret.as_deref())
        .map_err(Refusal::from)
        .and_then(|text| resource::write(visit, &form::SUBJECT, name, new, base, &text, keep));
    saved.or_else(|refusal| draw(visit, (!new).then_some(name), Some(typed), &candidate, &config, refusal))
}

fn remove(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    let name = named(typed.required("upstream")?)?;
    let (candidate, config) = written(visit)?;
    let after = "Its secret, if it had one, is kept until you forget it on the page of upstreams.";
    let removed = resource::remove(visit, &form::SUBJECT, &name, typed.number("base")?.unwrap_or(0), after);
    removed.or_else(|refusal| draw(visit, Some(&name), Some(&typed), &candidate, &config, refusal))
}
