//! A change on its way in: judged, stored, noted, installed.

use std::time::Duration;

use policy::messages::{ApplierResponse, Principal};
use policy::{Digest, Problems};

use super::trial::{Return, Trial};
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
                let phases = installed.phases.clone();
                let remarks = installed.remarks.join("; ");
                self.stand(number, installed, now);
                let trial = Trial {
                    number,
                    by: asked.by,
                    installed: now,
                    deadline: now.boot + confirm_within,
                    deadline_wall: now.wall + confirm_within.as_millis() as u64,
                    back_to: self.confirmed,
                };
                let text = format!("generation {number} by {} is on trial until {}", trial.by.name, shown(trial.deadline_wall));
                let reply = ApplierResponse::OnTrial { generation: number, deadline: trial.deadline_wall, phases };
                self.work = Work::Trial(trial);
                let text = if remarks.is_empty() { text } else { format!("{text}; {remarks}") };
                vec![self.event(text, now), Effect::Reply(asked.caller, reply)]
            }
            // Whatever was done of it, the way back does not ask how far it came.
            Err(why) => {
                let reason = format!("generation {number} could not be installed: {why}");
                self.begin_return(Return { number, failure: Some(reason.clone()), reason, answer: Some(asked.caller), then_exit: false })
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
