//! The page of a trial: try whether everything still works, then keep it or go back.

use policy::messages::Status;
use serde::Serialize;

use super::format::{self, Clock};
use super::gate;
use super::page::{self, Page};
use super::ui::{Fact, Notice};
use crate::flash;
use crate::http::{Access, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trial::{self, Back};
use crate::trouble::Trouble;

const DECIDE: Access = Access::May(Action::Apply);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/trial", access: Access::May(Action::View), handler: show },
    Route { method: Method::Post, path: "/trial/confirm", access: DECIDE, handler: confirm },
    Route { method: Method::Post, path: "/trial/renew", access: DECIDE, handler: renew },
    Route { method: Method::Post, path: "/trial/back", access: DECIDE, handler: back },
];

#[derive(Debug, Serialize)]
struct Trial {
    intro: String,
    /// Said when a confirmation came over the old connection, even at the second try.
    old_connection: Option<&'static str>,
    facts_title: String,
    facts: Vec<Fact>,
}

const OLD_CONNECTION: &str = "Your browser still uses the connection that it had when the change was applied. That one would go on working even if no new \
     one could be made, so it proves nothing.";

fn show(visit: &Visit) -> Result<Response, Trouble> {
    draw(visit, None, 200)
}

fn draw(visit: &Visit, old_connection: Option<&'static str>, status: u16) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let mut view = trial(seen.status.as_ref(), &page::clock(visit));
    view.old_connection = old_connection;
    Page::new(visit, "Trial").status(status).draw("trial.html", &view)
}

fn trial(status: Option<&Status>, clock: &Clock) -> Trial {
    let headline = gate::headline(status, clock);
    let (intro, facts) = match status {
        None => (headline.text, Vec::new()),
        Some(Status { trial: Some(trial), .. }) => (
            "Try whether everything that you need still works: this page, the internet, the servers. Then confirm. If you cannot reach this page any more, wait: the gate goes back by itself.".to_owned(),
            vec![
                Fact::new("Applied by", trial.by.clone()),
                Fact::new("Installed", clock.say(trial.installed_at)),
                Fact::new("Deadline", clock.say(trial.deadline)),
                Fact::new("Without a confirmation", gate::back_to(trial)),
            ],
        ),
        Some(status) => {
            let mut facts: Vec<Fact> = status.running.iter().flat_map(|running| running_facts(running, clock)).collect();
            if let Some(event) = &status.last_event {
                facts.push(Fact::new("Latest event", format!("{}, at {}", event.text, clock.say(event.at))));
            }
            ("Nothing is on trial.".to_owned(), facts)
        }
    };
    Trial { intro, old_connection: None, facts_title: headline.headline, facts }
}

fn running_facts(running: &policy::messages::Generation, clock: &Clock) -> Vec<Fact> {
    vec![
        Fact::new("Installed", clock.say(running.installed_at)),
        Fact::new("By", running.by.clone()),
        Fact::new("Confirmed", if running.confirmed { "yes" } else { "no" }),
        Fact::new("Digest", format::short_hash(&running.digest.0)),
    ]
}

/// Browsers keep several connections. Each answer closes the one that it came over, so after a few there is no old one left.
const TRIES: u32 = 8;

/// The browser is first asked to come again over a new connection by itself, form and all; only where that does not help is the person asked.
fn confirm(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let generation = form.number("generation")?.ok_or_else(|| Trouble::field("generation", "is missing"))?;
    let again: u32 = visit.request.query.number("again")?.unwrap_or(0);
    match trial::confirm(visit.site, visit.actor()?, generation) {
        Ok(generation) => Ok(Response::see_other("/").flash(flash::Tone::Ok, format!("Generation {generation} is confirmed and stays."))),
        Err(Trouble::OldConnection) if again < TRIES => {
            Ok(Response::same_again_on_a_new_connection(&format!("/trial/confirm?again={}", again + 1)))
        }
        Err(Trouble::OldConnection) => Ok(draw(visit, Some(OLD_CONNECTION), 409)?.with("Connection", "close")),
        Err(trouble) => told(visit, trouble),
    }
}

/// The next page comes over a new connection.
fn renew(_: &Visit) -> Result<Response, Trouble> {
    Ok(Response::see_other("/trial")
        .with("Connection", "close")
        .flash(flash::Tone::Info, "This page came over a new connection. You can confirm now."))
}

fn back(visit: &Visit) -> Result<Response, Trouble> {
    match trial::go_back(visit.site, visit.actor()?, None) {
        Ok(Back::WentBack { generation: 0 }) => Ok(Response::see_other("/").flash(flash::Tone::Warn, "The gate is locked down again.")),
        Ok(Back::WentBack { generation } | Back::OnTrial { generation, .. }) => {
            Ok(Response::see_other("/").flash(flash::Tone::Ok, format!("The gate went back to generation {generation}.")))
        }
        Err(trouble) => told(visit, trouble),
    }
}

/// What the applier would not do is told on the page of the trial.
fn told(visit: &Visit, trouble: Trouble) -> Result<Response, Trouble> {
    match trouble {
        Trouble::Conflict(_) | Trouble::Refused(_) | Trouble::WentBack(_) => {
            let seen = visit.site.applier.seen();
            let view = trial(seen.status.as_ref(), &page::clock(visit));
            let notice = Notice::bad(super::error::sentence(&trouble));
            Page::new(visit, "Trial").status(trouble.status()).notice(notice).draw("trial.html", &view)
        }
        other => Err(other),
    }
}
