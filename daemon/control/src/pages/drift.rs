//! Where the kernel differed from the plan.

use policy::messages::{ApplierRequest, ApplierResponse, DriftFinding, Status};
use policy::model::{Config, Drift as Mode};
use serde::Serialize;

use super::format::{self, Clock, Stamp};
use super::page::{self, Page};
use super::ui::{Badge, Tone, visible};
use crate::applier::unexpected;
use crate::flash;
use crate::http::{Access, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/drift", access: Access::May(Action::View), handler: show },
    Route { method: Method::Post, path: "/drift", access: Access::May(Action::Apply), handler: compare },
];

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let view = drift(seen.status.as_ref(), page::config(&seen), &page::clock(visit), visit.may(Action::Apply));
    Page::new(visit, "Drift").draw("drift.html", &view)
}

/// Without waiting for the next round.
fn compare(visit: &Visit) -> Result<Response, Trouble> {
    match visit.site.applier.ask(&ApplierRequest::CheckDrift)? {
        ApplierResponse::Drift { findings } => {
            visit.site.applier.poll(visit.site.now());
            let open = findings.iter().filter(|finding| !finding.repaired).count();
            let (tone, text) = match (open, findings.len()) {
                (0, 0) => (flash::Tone::Ok, "Compared just now: the kernel holds exactly what the plan says.".to_owned()),
                (0, repaired) => (
                    flash::Tone::Ok,
                    format!("Compared just now: {}.", format::plural(repaired, "difference was repaired", "differences were repaired")),
                ),
                (open, _) => {
                    (flash::Tone::Warn, format!("Compared just now: {}.", format::plural(open, "difference remains", "differences remain")))
                }
            };
            Ok(Response::see_other("/drift").flash(tone, text))
        }
        other => Err(unexpected(&other)),
    }
}

#[derive(Debug, Serialize)]
pub struct Drift {
    intro: &'static str,
    may_check: bool,
    mode: &'static str,
    findings: Vec<Finding>,
    nothing_title: &'static str,
    nothing: String,
}

#[derive(Debug, Serialize)]
struct Finding {
    at: Option<Stamp>,
    what: String,
    expected: String,
    found: String,
    who: String,
    state: Badge,
}

pub fn drift(status: Option<&Status>, config: Option<&Config>, clock: &Clock, may_check: bool) -> Drift {
    let mode = config.and_then(|config| config.system.as_ref()).map(|(_, system)| system.spec.drift);
    let mut findings: Vec<&DriftFinding> = status.map(|status| status.drift.iter().collect()).unwrap_or_default();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.at));
    Drift {
        intro: "Every 30 seconds the applier compares what the kernel holds with the plan that runs.",
        may_check,
        mode: match mode {
            Some(Mode::Repair) => "Differences are repaired (System.drift: repair)",
            Some(Mode::Report) => "Differences are only reported (System.drift: report)",
            None => "No policy runs",
        },
        findings: findings.into_iter().map(|finding| shown(finding, clock)).collect(),
        nothing_title: if status.is_some() { "No drift" } else { "Not known" },
        nothing: match status {
            None => "The applier does not answer.".to_owned(),
            Some(Status { running: None, .. }) => "No policy runs, so there is nothing to compare with.".to_owned(),
            Some(_) => "The kernel holds exactly what the plan says.".to_owned(),
        },
    }
}

fn shown(finding: &DriftFinding, clock: &Clock) -> Finding {
    Finding {
        at: clock.stamp(finding.at),
        what: visible(&finding.what),
        expected: visible(&finding.expected),
        found: visible(&finding.found),
        who: finding.who.as_deref().map_or_else(|| "the kernel does not tell".to_owned(), visible),
        state: if finding.repaired { Badge::new(Tone::Ok, "repaired") } else { Badge::new(Tone::Warn, "differs") },
    }
}
