//! A change on trial: kept by whoever made it over a new connection, or taken back.

use std::time::Duration;

use policy::messages::{self, ApplierResponse, Principal};

use super::{Caller, Effect, Installed, Machine, Number, Stands, Work, refuse};
use crate::clock::{Now, shown};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    pub number: Number,
    pub by: Principal,
    pub installed: Now,
    /// By the boot clock, which nobody can set.
    pub deadline: Duration,
    /// For people: what a wall clock showed at that moment, if nobody set it meanwhile.
    pub deadline_wall: u64,
    pub back_to: Option<Number>,
}

/// On the way back to what was confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    /// What is taken back.
    pub number: Number,
    pub reason: String,
    /// What went wrong, if it is not a person's wish or a deadline.
    pub failure: Option<String>,
    pub answer: Option<Caller>,
    /// Who asked for the change and was not told yet that it went on trial.
    pub asked: Option<Caller>,
    pub then_exit: bool,
}

impl Return {
    pub fn of(number: Number, reason: String, asked: Option<Caller>) -> Return {
        Return { number, reason, failure: None, answer: None, asked, then_exit: false }
    }
}

/// Nobody stands behind a change that came from a file; the first person who sees that it works may keep it.
const NOBODY: &str = "hot-reload";

/// Whoever stands at the box, or is root on it, reaches it whatever the policy says, and may keep anybody's change.
const CONSOLE: &str = "console";

impl Trial {
    /// Remaining time is what counts: the shown deadline follows a wall clock that was set.
    pub fn shown(&self, now: Now) -> messages::Trial {
        messages::Trial {
            generation: self.number,
            by: self.by.name.clone(),
            installed_at: self.installed.wall,
            deadline: now.wall + self.deadline.saturating_sub(now.boot).as_millis() as u64,
            back_to: self.back_to,
        }
    }

    /// Whether this request proves that its sender can still reach the box: the same person, over a connection that began after
    /// the change stood. Err says what is missing.
    fn may_be_kept_by(&self, caller: Caller, by: &Principal, now: Now) -> Result<(), String> {
        let at_the_box = by.name == CONSOLE && by.connected_at.is_none();
        if self.by.name != NOBODY && self.by.name != by.name && !at_the_box {
            return Err(format!("generation {} was applied by {}, and only they can confirm it", self.number, self.by.name));
        }
        let is_new = match by.connected_at {
            None => caller.opened > self.installed.boot,
            // The wall clock may have been set since: the connection must be younger by both ways of counting, and not from the future.
            Some(connected) => {
                let age = now.boot.saturating_sub(self.installed.boot).as_millis() as u64;
                connected > self.installed.wall && connected > now.wall.saturating_sub(age) && connected <= now.wall
            }
        };
        is_new.then_some(()).ok_or_else(|| {
            format!(
                "this connection is older than generation {} (installed {}); confirm over a new connection, which shows that the box can still be reached",
                self.number,
                shown(self.installed.wall)
            )
        })
    }
}

impl Machine {
    pub(super) fn confirm(&mut self, caller: Caller, number: Number, by: Principal, now: Now) -> Vec<Effect> {
        let trial = match &self.work {
            Work::Trial(trial) if trial.number == number => trial.clone(),
            Work::Trial(trial) => return refuse(caller, format!("generation {} is on trial, not {number}", trial.number)),
            _ if self.confirmed == Some(number) => return refuse(caller, format!("generation {number} is confirmed already")),
            _ => return refuse(caller, format!("generation {number} is not on trial; it went back or never was")),
        };
        if let Err(why) = trial.may_be_kept_by(caller, &by, now) {
            return refuse(caller, why);
        }
        let name = by.name.clone();
        self.work = Work::Keeping { trial, caller, by };
        vec![Effect::Point { to: Some(number), by: name }]
    }

    pub(super) fn pointed(&mut self, result: Result<(), String>, now: Now) -> Vec<Effect> {
        match (std::mem::replace(&mut self.work, Work::Nothing), result) {
            (Work::Keeping { trial, caller, by }, Ok(())) => {
                self.confirmed = Some(trial.number);
                self.pointer_in_doubt = false;
                let ended = self.safe.is_some().then(|| self.switch_safe_mode(None));
                let mut effects = self.settle(format!("generation {} was confirmed by {}", trial.number, by.name), now);
                effects.insert(0, Effect::Reply(caller, ApplierResponse::Confirmed { generation: trial.number }));
                effects.insert(1, Effect::Prune);
                effects.extend(ended);
                effects
            }
            // It cannot be known what the disk will say after a power cut, so what was confirmed is written anew on the way back.
            (Work::Keeping { trial, caller, .. }, Err(why)) => {
                self.pointer_in_doubt = true;
                let reason = format!("the confirmation of generation {} could not be stored: {why}", trial.number);
                self.begin_return(Return { failure: Some(reason.clone()), answer: Some(caller), ..Return::of(trial.number, reason, None) })
            }
            (Work::GoingBack(way), result) => {
                let effects = self.install_back(way);
                match result {
                    Ok(()) => {
                        self.pointer_in_doubt = false;
                        effects
                    }
                    Err(why) => {
                        let text = format!("the disk fails: after a restart the change that was taken back may stand ({why})");
                        std::iter::once(Effect::Warn(text)).chain(effects).collect()
                    }
                }
            }
            (other, result) => {
                self.work = other;
                self.pointer_in_doubt &= result.is_err();
                vec![]
            }
        }
    }

    pub(super) fn end_trial(&mut self, caller: Caller, by: &Principal) -> Vec<Effect> {
        match &self.work {
            Work::Trial(_) | Work::Proving(_) => self.go_back(format!("taken back by {}", by.name), Some(caller), false),
            Work::GoingBack(_) | Work::Unrecording(_) => refuse(caller, "it is going back already"),
            Work::Nothing if self.safe.is_some() => self.leave_safe_mode(caller, by),
            _ => refuse(caller, "nothing is on trial; name the generation that should stand instead"),
        }
    }

    /// Ends a trial, or the probing before it, whose time is over.
    pub(super) fn expire(&mut self, now: Now) -> Vec<Effect> {
        match &self.work {
            Work::Proving(proving) if now.boot >= proving.deadline => self.probed(Err("its mappings were not probed in time".into()), now),
            Work::Trial(trial) if now.boot >= trial.deadline => self.go_back("it was not confirmed in time".into(), None, false),
            _ => vec![],
        }
    }

    pub(super) fn go_back(&mut self, reason: String, answer: Option<Caller>, then_exit: bool) -> Vec<Effect> {
        match std::mem::replace(&mut self.work, Work::Nothing) {
            Work::Trial(Trial { number, .. }) => self.begin_return(Return { answer, then_exit, ..Return::of(number, reason, None) }),
            Work::Proving(proving) => {
                let asked = Some(proving.asked.caller);
                self.begin_return(Return { answer, then_exit, ..Return::of(proving.number, reason, asked) })
            }
            other => {
                self.work = other;
                vec![]
            }
        }
    }

    pub(super) fn begin_return(&mut self, way: Return) -> Vec<Effect> {
        if self.pointer_in_doubt {
            self.work = Work::GoingBack(way);
            return vec![self.point_again()];
        }
        self.install_back(way)
    }

    pub(super) fn point_again(&self) -> Effect {
        Effect::Point { to: self.confirmed, by: "the applier".into() }
    }

    fn install_back(&mut self, way: Return) -> Vec<Effect> {
        self.work = Work::GoingBack(way);
        vec![self.home()]
    }

    pub(super) fn back_installed(&mut self, mut way: Return, result: Result<Installed, String>, now: Now) -> Vec<Effect> {
        match (result, self.confirmed) {
            (Ok(_), _) if self.safe.is_some() => {
                self.stand_safe(now);
                self.unrecord(way, now)
            }
            (Ok(installed), Some(number)) => {
                way.reason = installed.remarks.iter().fold(way.reason, |reason, remark| format!("{reason}; {remark}"));
                self.stand(number, installed, now);
                self.unrecord(way, now)
            }
            (result, _) => {
                let why = result.err().unwrap_or_default();
                let failed = format!("going back failed too, and the box is locked down: {why}");
                way.failure = Some(way.failure.map_or(failed.clone(), |first| format!("{first}; {failed}")));
                self.work = Work::GoingBack(way);
                vec![Effect::LockDown]
            }
        }
    }

    /// The note of the trial goes only when something that may stand does stand.
    pub(super) fn unrecord(&mut self, way: Return, now: Now) -> Vec<Effect> {
        if self.stands == Stands::Unknown {
            return self.returned(way, now);
        }
        self.work = Work::Unrecording(way);
        vec![Effect::Unrecord]
    }

    pub(super) fn unrecorded(&mut self, result: Result<(), String>, now: Now) -> Vec<Effect> {
        self.recorded &= result.is_err();
        match std::mem::replace(&mut self.work, Work::Nothing) {
            Work::Unrecording(way) => self.returned(way, now),
            other => {
                self.work = other;
                vec![]
            }
        }
    }

    fn returned(&mut self, way: Return, now: Now) -> Vec<Effect> {
        self.work = Work::Nothing;
        let back_to = self.standing().unwrap_or(0);
        let place = self.place();
        let why = way.failure.as_ref().unwrap_or(&way.reason);
        let mut effects = vec![self.event(format!("generation {} went back to {place}: {why}", way.number), now)];
        if let Some(caller) = way.asked {
            effects.push(Effect::Reply(caller, ApplierResponse::Failed { reason: why.clone(), generation: back_to }));
        }
        if let Some(caller) = way.answer {
            let response = match way.failure {
                None => ApplierResponse::WentBack { generation: back_to },
                Some(reason) => ApplierResponse::Failed { reason, generation: back_to },
            };
            effects.push(Effect::Reply(caller, response));
        }
        if way.then_exit {
            self.work = Work::Leaving;
            effects.push(Effect::Exit);
        }
        effects
    }
}
