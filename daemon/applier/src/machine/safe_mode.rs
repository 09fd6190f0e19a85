//! Safe mode: what a person at the console switches on when in doubt. Nothing is forwarded, and it stands until a person ends it.

use policy::messages::Principal;

use super::{Caller, Effect, Machine, Work, refuse};

impl Machine {
    /// A trial is ended by it: safe mode is then where it goes back to.
    pub(super) fn enter_safe_mode(&mut self, caller: Caller, by: &Principal) -> Vec<Effect> {
        match &self.work {
            Work::Nothing if self.safe.is_some() => refuse(caller, "safe mode is on already"),
            Work::Nothing => {
                let keep = self.switch_safe_mode(Some(by.name.clone()));
                self.work = Work::Restoring { note: Some(format!("{} switched safe mode on", by.name)), answer: Some(caller) };
                vec![keep, self.home()]
            }
            Work::Trial(_) | Work::Proving(_) => {
                let keep = self.switch_safe_mode(Some(by.name.clone()));
                let back = self.go_back(format!("{} switched safe mode on", by.name), Some(caller), false);
                std::iter::once(keep).chain(back).collect()
            }
            _ => refuse(caller, "a change is under way; try again in a moment"),
        }
    }

    pub(super) fn leave_safe_mode(&mut self, caller: Caller, by: &Principal) -> Vec<Effect> {
        let keep = self.switch_safe_mode(None);
        self.work = Work::Restoring { note: Some(format!("{} ended safe mode", by.name)), answer: Some(caller) };
        vec![keep, self.home()]
    }

    /// What stands while nothing is on trial, and what a trial goes back to.
    pub(super) fn home(&self) -> Effect {
        match (&self.safe, self.confirmed) {
            (Some(_), confirmed) => Effect::InstallSafeMode(confirmed),
            (None, Some(number)) => Effect::Install(number),
            (None, None) => Effect::LockDown,
        }
    }

    pub(super) fn switch_safe_mode(&mut self, by: Option<String>) -> Effect {
        self.safe.clone_from(&by);
        Effect::KeepSafeMode(by)
    }
}
