//! A change on its way in: judged, stored, noted, installed.

use std::time::Duration;

use policy::messages::{ApplierResponse, Principal};
use policy::{Digest, Problems};

use super::proving::{PATIENCE, Proving};
use super::trial::Return;
use super::{Caller, Effect, Installed, Judged, Machine, Number, Refusal, Verdict, Work, refuse};
use crate::clock::{Now, shown};

/// Who asked for a change, and for how long they want to try it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub caller: Caller,
    /// Seconds; None takes the policy's own.
    pub confirm_within: Option<u32>,
    pub by: Principal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub asked: Asked,
    pub number: Number,
    pub confirm_within: Duration,
}

/// A trial shorter than this cannot be confirmed by a person, one longer is not a trial.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

impl Machine {
    pub(super) fn apply(&mut self, asked: Asked, judged: Judged, digest: Option<Digest>) -> Vec<Effect> {
        match &self.work {
            Work::Nothing => {
                self.work = Work::Judging(asked);
                vec![Effect::Judge { sources: judged, digest }]
            }
            Work::Trial(trial) => refuse(
                asked.caller,
                format!(
                    "generation {} by {} is on trial until {}; confirm it or let it go back first",
                    trial.number,
                    trial.by.name,
                    shown(trial.deadline_wall)
                ),
            ),
            Work::Proving(other) => {
                refuse(asked.caller, format!("a change by {} is being probed; try again in a moment", other.asked.by.name))
            }
            Work::Judging(other) => refuse(asked.caller, format!("a change by {} is being checked; try again in a moment", other.by.name)),
            _ => refuse(asked.caller, "another change is under way; try again in a moment"),
        }
    }

    pub(super) fn judged(&mut self, result: Result<Verdict, Refusal>, now: Now) -> Vec<Effect> {
        let asked = match std::mem::replace(&mut self.work, Work::Nothing) {
            Work::Judging(asked) => asked,
            other => {
                self.work = other;
                return vec![];
            }
        };
        match result {
            Err(Refusal { reason, problems }) => {
                vec![Effect::Reply(asked.caller, ApplierResponse::Refused { reason, problems })]
            }
            Ok(verdict) => {
                let wish = asked.confirm_within.map_or(verdict.confirm_within, |seconds| Duration::from_secs(seconds.into()));
                let number = self.next;
                self.next += 1;
                let by = asked.by.name.clone();
                self.work = Work::Saving(Candidate { asked, number, confirm_within: wish.clamp(SHORTEST, LONGEST) });
                vec![Effect::Save { number, by, at: now.wall }]
            }
        }
    }

    pub(super) fn saved(&mut self, result: Result<(), String>) -> Vec<Effect> {
        match std::mem::replace(&mut self.work, Work::Nothing) {
            Work::Saving(candidate) => match result {
                Ok(()) => {
                    let (number, by) = (candidate.number, candidate.asked.by.name.clone());
                    self.work = Work::Recording(candidate);
                    self.recorded = true;
                    vec![Effect::Record { number, back_to: self.confirmed, by }]
                }
                Err(why) => self.not_stored(candidate, &why),
            },
            other => {
                self.work = other;
                vec![]
            }
        }
    }

    pub(super) fn recorded(&mut self, result: Result<(), String>) -> Vec<Effect> {
        match std::mem::replace(&mut self.work, Work::Nothing) {
            Work::Recording(candidate) => match result {
                Ok(()) => {
                    let number = candidate.number;
                    self.work = Work::Installing(candidate);
                    vec![Effect::Install(number)]
                }
                // A note may have been written in part; the next tick removes it.
                Err(why) => self.not_stored(candidate, &why),
            },
            other => {
                self.work = other;
                vec![]
            }
        }
    }

    pub(super) fn candidate_installed(&mut self, candidate: Candidate, result: Result<Installed, String>, now: Now) -> Vec<Effect> {
        let Candidate { asked, number, confirm_within } = candidate;
        match result {
            Ok(installed) => {
                let found = Proving {
                    asked,
                    number,
                    confirm_within,
                    installed: now,
                    deadline: now.boot + PATIENCE,
                    mappings: installed.to_prove.len(),
                    phases: installed.phases.clone(),
                    remarks: installed.remarks.clone(),
                };
                let to_prove = installed.to_prove.clone();
                self.stand(number, installed, now);
                self.prove(found, to_prove, now)
            }
            // Whatever was done of it, the way back does not ask how far it came.
            Err(why) => {
                let reason = format!("generation {number} could not be installed: {why}");
                self.begin_return(Return { failure: Some(reason.clone()), ..Return::of(number, reason, Some(asked.caller)) })
            }
        }
    }

    /// The disk is full or failing: the kernel was not touched.
    fn not_stored(&mut self, candidate: Candidate, why: &str) -> Vec<Effect> {
        let reason = format!("nothing was changed, since the change could not be stored: {why}");
        vec![
            Effect::Reply(candidate.asked.caller, ApplierResponse::Refused { reason, problems: Problems::default() }),
            Effect::Discard(candidate.number),
        ]
    }
}
