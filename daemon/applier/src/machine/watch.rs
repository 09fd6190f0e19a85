//! Drift: whether the kernel still is what the plan says, and what is done when it is not.

use std::time::Duration;

use policy::messages::{ApplierResponse, DriftFinding};

use super::{Caller, Effect, Machine, Stands, Work, refuse};
use crate::clock::Now;

#[derive(Debug, Default)]
pub struct Watch {
    /// What was found in the last round, repaired or not.
    pub findings: Vec<DriftFinding>,
    next: Duration,
    /// When the last comparison was, so that a busy stranger cannot keep us comparing.
    last: Duration,
    under_way: bool,
    /// The last round found something that had not been told.
    is_news: bool,
    asked: Vec<Caller>,
}

/// The least time between two comparisons that nobody asked for.
const BREATH: Duration = Duration::from_secs(1);

impl Watch {
    pub fn forget(&mut self) {
        self.findings.clear();
    }

    pub fn put_off(&mut self, now: Now, by: Duration) {
        self.next = now.boot + by;
    }
}

impl Machine {
    pub(super) fn check_drift(&mut self, caller: Caller, now: Now) -> Vec<Effect> {
        if !self.may_compare() {
            return refuse(caller, "a change is under way; try again in a moment");
        }
        self.watch.asked.push(caller);
        self.compare(now)
    }

    pub(super) fn tables_changed(&mut self, now: Now) -> Vec<Effect> {
        // At once, or as soon as the last comparison is a breath ago.
        self.watch.next = self.watch.next.min(self.watch.last + BREATH);
        self.watch_round(now)
    }

    pub(super) fn watch_round(&mut self, now: Now) -> Vec<Effect> {
        if now.boot < self.watch.next || !self.may_compare() || self.watch.under_way {
            return vec![];
        }
        self.compare(now)
    }

    pub(super) fn compared(&mut self, result: Result<Vec<DriftFinding>, String>, now: Now) -> Vec<Effect> {
        if !std::mem::take(&mut self.watch.under_way) {
            return vec![];
        }
        match result {
            Err(why) => {
                let mut effects = vec![self.event(format!("the kernel could not be compared with the plan: {why}"), now)];
                effects.extend(
                    std::mem::take(&mut self.watch.asked)
                        .into_iter()
                        .flat_map(|caller| refuse(caller, format!("the kernel could not be compared with the plan: {why}"))),
                );
                effects
            }
            Ok(findings) if findings.is_empty() => {
                // What was repaired stays on show until something else is found or a change is made.
                self.watch.findings.retain(|finding| finding.repaired);
                self.answer_drift(vec![])
            }
            Ok(findings) => {
                let first_seen = |finding: &DriftFinding| {
                    self.watch
                        .findings
                        .iter()
                        .find(|old| old.what == finding.what && old.found == finding.found && !old.repaired)
                        .map(|old| old.at)
                };
                let is_news = findings.iter().any(|finding| first_seen(finding).is_none());
                let findings: Vec<DriftFinding> = findings
                    .into_iter()
                    .map(|mut finding| {
                        finding.at = first_seen(&finding).unwrap_or(now.wall);
                        finding
                    })
                    .collect();
                self.watch.findings = findings.clone();
                self.watch.is_news = is_news;
                if self.repairs() {
                    self.watch.under_way = true;
                    return vec![Effect::Repair];
                }
                let said = is_news.then(|| self.event(told(&findings, "the policy says to report only"), now));
                said.into_iter().chain(self.answer_drift(findings)).collect()
            }
        }
    }

    pub(super) fn repaired(&mut self, result: Result<(), String>, now: Now) -> Vec<Effect> {
        if !std::mem::take(&mut self.watch.under_way) {
            return vec![];
        }
        let outcome = match &result {
            Ok(()) => "repaired".to_owned(),
            Err(why) => format!("COULD NOT BE REPAIRED: {why}"),
        };
        for finding in &mut self.watch.findings {
            finding.repaired = result.is_ok();
        }
        let findings = self.watch.findings.clone();
        let said = self.watch.is_news.then(|| self.event(told(&findings, &outcome), now));
        said.into_iter().chain(self.answer_drift(findings)).collect()
    }

    fn compare(&mut self, now: Now) -> Vec<Effect> {
        self.watch.last = now.boot;
        self.watch.put_off(now, self.settings.drift_every);
        self.watch.under_way = true;
        vec![Effect::Compare]
    }

    fn may_compare(&self) -> bool {
        matches!(self.work, Work::Nothing | Work::Judging(_) | Work::Proving(_) | Work::Trial(_)) && self.stands != Stands::Unknown
    }

    /// Lockdown is always repaired; it has no policy that could say otherwise.
    fn repairs(&self) -> bool {
        match &self.stands {
            Stands::Generation(standing) => standing.repair,
            Stands::Lockdown | Stands::SafeMode => true,
            Stands::Unknown => false,
        }
    }

    fn answer_drift(&mut self, findings: Vec<DriftFinding>) -> Vec<Effect> {
        let asked = std::mem::take(&mut self.watch.asked);
        asked.into_iter().map(|caller| Effect::Reply(caller, ApplierResponse::Drift { findings: findings.clone() })).collect()
    }
}

fn told(findings: &[DriftFinding], outcome: &str) -> String {
    let who = findings.iter().find_map(|finding| finding.who.as_deref()).map_or(String::new(), |who| format!(" by {who}"));
    let what: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).take(3).collect();
    let more = findings.len().saturating_sub(what.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("the kernel was changed{who}: {}{more}: {outcome}", what.join(", "))
}
