//! Between installation and trial: what a change maps anew has to be carried before anybody is asked to confirm it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::messages::ApplierResponse;
use policy::name::Name;

use super::change::Asked;
use super::trial::{Return, Trial};
use super::{Effect, Machine, Number, Work};
use crate::clock::{Now, shown};
use crate::mapped::PROBED_WITHIN;

/// A change that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proving {
    pub asked: Asked,
    pub number: Number,
    pub confirm_within: Duration,
    pub installed: Now,
    /// By the boot clock.
    pub deadline: Duration,
    /// How many have to be proven.
    pub mappings: usize,
    pub phases: BTreeMap<String, u64>,
    pub remarks: Vec<String>,
}

/// Whoever probes keeps the shorter time; this one is for when not even that works.
pub const PATIENCE: Duration = PROBED_WITHIN.saturating_add(Duration::from_secs(2));

impl Machine {
    pub(super) fn prove(&mut self, proving: Proving, mappings: BTreeSet<Name>, now: Now) -> Vec<Effect> {
        if mappings.is_empty() {
            return self.begin_trial(proving, now);
        }
        let text = format!("generation {} stands, and {} of its mappings are probed", proving.number, mappings.len());
        self.work = Work::Proving(proving);
        vec![Effect::Say(text), Effect::Probe(mappings)]
    }

    pub(super) fn probed(&mut self, result: Result<(), String>, now: Now) -> Vec<Effect> {
        match (std::mem::replace(&mut self.work, Work::Nothing), result) {
            (Work::Proving(mut proving), Ok(())) => {
                let took = now.boot.saturating_sub(proving.installed.boot);
                proving.phases.insert("probe".into(), took.as_micros() as u64);
                self.begin_trial(proving, now)
            }
            (Work::Proving(proving), Err(why)) => {
                let reason = format!("generation {} was refused: {why}", proving.number);
                let way = Return::of(proving.number, reason.clone(), Some(proving.asked.caller));
                self.begin_return(Return { failure: Some(reason), ..way })
            }
            (other, _) => {
                self.work = other;
                vec![]
            }
        }
    }

    /// A connection proves that the box can be reached from the installation on; the time to confirm runs from now.
    fn begin_trial(&mut self, proving: Proving, now: Now) -> Vec<Effect> {
        let trial = Trial {
            number: proving.number,
            by: proving.asked.by,
            installed: proving.installed,
            deadline: now.boot + proving.confirm_within,
            deadline_wall: now.wall + proving.confirm_within.as_millis() as u64,
            back_to: self.confirmed,
        };
        let text = format!("generation {} by {} is on trial until {}", trial.number, trial.by.name, shown(trial.deadline_wall));
        let text = proving.remarks.iter().fold(text, |text, remark| format!("{text}; {remark}"));
        let reply = ApplierResponse::OnTrial { generation: trial.number, deadline: trial.deadline_wall, phases: proving.phases };
        self.work = Work::Trial(trial);
        vec![self.event(text, now), Effect::Reply(proving.asked.caller, reply)]
    }
}
