//! The commit machine: what the box should do next, decided without touching it.
//!
//! ```text
//!             Apply                    read back
//!  Standing ───────▶ Judging ▶ Saving ▶ Recording ▶ Installing ──────────▶ Trial ── Confirm ──▶ Keeping ──▶ Standing
//!     ▲                 │refused  │full    │full        │    │mappings new   ▲│deadline, GoBack, SIGTERM   (the new one)
//!     │                 │         │        │            │    └──▶ Proving ───┘│
//!     │                 ▼         ▼        ▼            ▼failed     ▼no exit  ▼
//!     └─────────────────┴─────────┴────────┴──────── GoingBack ◀────┴─────────┘
//!                                                       │failed
//!                                                       ▼
//!                                                    Lockdown, and another try every few seconds
//! ```
//!
//! Inputs are requests, results of effects, and time; effects are data that `hands` carries out. Of the effects of one
//! answer at most one has a result, and the next input of the machine is that result. It never panics on an input
//! that does not fit its state: such an input is ignored.

mod change;
mod proving;
mod safe_mode;
mod shown;
mod trial;
mod watch;
mod words;

pub use words::{Caller, Effect, Found, Input, Installed, Interrupted, Judged, Question, Refusal, Verdict};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod stories;

use std::time::Duration;

use policy::messages::{ApplierRequest, ApplierResponse, Event, Principal};
use policy::{Digest, Problems};

use crate::clock::Now;
use crate::mapped::Secret;

/// Generations count from 1.
pub type Number = u64;

/// How the machine was set up.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub drift_every: Duration,
}

pub struct Machine {
    settings: Settings,
    /// What a restart restores.
    confirmed: Option<Number>,
    /// Who switched safe mode on, while it is on.
    safe: Option<String>,
    stands: Stands,
    work: Work,
    next: Number,
    /// A note of a trial may be on disk.
    recorded: bool,
    /// A write of the pointer failed halfway: it is written again before anything else counts.
    pointer_in_doubt: bool,
    last_event: Option<Event>,
    watch: watch::Watch,
    retry_at: Duration,
}

/// What the kernel holds, as far as we could see.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stands {
    Lockdown,
    SafeMode,
    Generation(Standing),
    /// Not even lockdown could be installed; tried again with every tick.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    number: Number,
    digest: Digest,
    by: String,
    installed: Now,
    repair: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Work {
    /// Before `Started`.
    Waking,
    Nothing,
    /// The confirmed generation is being restored, or safe mode.
    Restoring {
        note: Option<String>,
        /// Who switched safe mode.
        answer: Option<Caller>,
    },
    Judging(change::Asked),
    Saving(change::Candidate),
    Recording(change::Candidate),
    Installing(change::Candidate),
    /// It stands, and what it maps anew is probed.
    Proving(proving::Proving),
    Trial(trial::Trial),
    Keeping {
        trial: trial::Trial,
        caller: Caller,
        by: Principal,
    },
    GoingBack(trial::Return),
    Unrecording(trial::Return),
    Leaving,
}

/// How often a confirmed generation that could not be restored is tried again.
const RETRY: Duration = Duration::from_secs(5);

impl Machine {
    pub fn new(settings: Settings) -> Self {
        Machine {
            settings,
            confirmed: None,
            safe: None,
            stands: Stands::Unknown,
            work: Work::Waking,
            next: 1,
            recorded: false,
            pointer_in_doubt: false,
            last_event: None,
            watch: watch::Watch::default(),
            retry_at: Duration::ZERO,
        }
    }

    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        // Not with results: they belong to what is under way, and their effects must not meet others.
        let mut effects = match input {
            Input::Tick | Input::Request(..) | Input::TablesChanged | Input::Shutdown => self.expire(now),
            _ => vec![],
        };
        effects.extend(match input {
            Input::Started(found) => self.start(found),
            Input::Request(caller, request) => self.request(caller, request, now),
            Input::Judged(result) => self.judged(result, now),
            Input::Saved(result) => self.saved(result),
            Input::Recorded(result) => self.recorded(result),
            Input::Installed(result) => self.installed(result, now),
            Input::Probed(result) => self.probed(result, now),
            Input::Pointed(result) => self.pointed(result, now),
            Input::Unrecorded(result) => self.unrecorded(result, now),
            Input::LockedDown(result) => self.locked_down(result, now),
            Input::Compared(result) => self.compared(result, now),
            Input::Repaired(result) => self.repaired(result, now),
            Input::TablesChanged => self.tables_changed(now),
            Input::Tick => self.tick(now),
            Input::Shutdown => self.shut_down(),
        });
        effects
    }

    /// What stands in the kernel; None is lockdown.
    pub fn standing(&self) -> Option<Number> {
        match &self.stands {
            Stands::Generation(standing) => Some(standing.number),
            Stands::Lockdown | Stands::SafeMode | Stands::Unknown => None,
        }
    }

    pub fn confirmed(&self) -> Option<Number> {
        self.confirmed
    }

    fn start(&mut self, found: Found) -> Vec<Effect> {
        if self.work != Work::Waking {
            return vec![];
        }
        self.confirmed = found.confirmed;
        self.next = found.next;
        self.safe = found.safe_mode;
        self.recorded = found.trial.is_some();
        // A pointer that was written names the generation on trial when only the note was left to remove.
        let note = found.trial.filter(|trial| trial.number.is_none() || trial.number != found.confirmed).map(|trial| {
            let number = trial.number.map_or("a change".to_owned(), |number| format!("generation {number} by {}", trial.by));
            format!("{number} was on trial when the applier ended; it was taken back")
        });
        let notes: Vec<String> = note.into_iter().chain(found.remarks).collect();
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        self.work = Work::Restoring { note, answer: None };
        vec![Effect::Guard, self.home()]
    }

    fn request(&mut self, caller: Caller, request: ApplierRequest, now: Now) -> Vec<Effect> {
        match request {
            ApplierRequest::Apply { sources, digest, confirm_within, by } => {
                let asked = change::Asked { caller, confirm_within, by };
                self.apply(asked, Judged::These(sources), Some(digest))
            }
            ApplierRequest::GoBack { generation: Some(number), by } => {
                self.apply(change::Asked { caller, confirm_within: None, by }, Judged::Kept(number), None)
            }
            ApplierRequest::GoBack { generation: None, by } => self.end_trial(caller, &by),
            ApplierRequest::SafeMode { by } => self.enter_safe_mode(caller, &by),
            ApplierRequest::Ports => vec![Effect::Answer(caller, Question::Ports)],
            ApplierRequest::Confirm { generation, by } => self.confirm(caller, generation, by, now),
            ApplierRequest::CheckDrift => self.check_drift(caller, now),
            ApplierRequest::Status => vec![Effect::Answer(caller, Question::Status)],
            ApplierRequest::Sources { generation } => vec![Effect::Answer(caller, Question::Sources(generation))],
            ApplierRequest::Counters => vec![Effect::Answer(caller, Question::Counters)],
            ApplierRequest::KernelRuleset => vec![Effect::Answer(caller, Question::KernelRuleset)],
            ApplierRequest::Proxy => vec![Effect::Answer(caller, Question::Proxy)],
            ApplierRequest::ProbeUpstreams { upstreams } => vec![Effect::ProbeUpstreams(caller, upstreams)],
            ApplierRequest::SetSecret { name, value, by } => {
                let text = format!("the secret {name} was {} by {}", if value.is_empty() { "removed" } else { "set" }, by.name);
                vec![Effect::SetSecret { caller, name, value: Secret::new(value), text }]
            }
        }
    }

    /// An installation ended: of a change, of what a change went back to, or of what was confirmed before a restart.
    fn installed(&mut self, result: Result<Installed, String>, now: Now) -> Vec<Effect> {
        match std::mem::replace(&mut self.work, Work::Nothing) {
            Work::Installing(candidate) => self.candidate_installed(candidate, result, now),
            Work::GoingBack(way) => self.back_installed(way, result, now),
            Work::Restoring { note, answer } => match (result, self.confirmed) {
                (Ok(installed), _) if self.safe.is_some() => {
                    self.stand_safe(now);
                    let texts = [Some("safe mode: nothing is forwarded".to_owned()), note].into_iter().flatten().chain(installed.remarks);
                    self.settle_and_answer(texts.collect::<Vec<_>>().join("; "), Ok(()), answer, now)
                }
                (Ok(installed), Some(number)) => {
                    let remarks: Vec<String> = note.into_iter().chain(installed.remarks.iter().cloned()).collect();
                    let said = format!("generation {number} stands again");
                    self.stand(number, installed, now);
                    let text = remarks.iter().fold(said, |said, remark| format!("{said}; {remark}"));
                    self.settle_and_answer(text, Ok(()), answer, now)
                }
                (result, _) => {
                    let why = result.err().unwrap_or_default();
                    let what = if self.safe.is_some() {
                        "safe mode could not be installed"
                    } else {
                        "the confirmed generation could not be restored"
                    };
                    let failed = format!("{what}: {why}");
                    self.work = Work::Restoring { note: Some(note.map_or(failed.clone(), |note| format!("{failed}; {note}"))), answer };
                    vec![Effect::LockDown]
                }
            },
            other => {
                self.work = other;
                vec![]
            }
        }
    }

    fn locked_down(&mut self, result: Result<(), String>, now: Now) -> Vec<Effect> {
        self.retry_at = now.boot + RETRY;
        self.watch.forget();
        self.stands = if result.is_ok() { Stands::Lockdown } else { Stands::Unknown };
        let failed = result.err().map(|why| format!("NOT EVEN LOCKDOWN COULD BE INSTALLED: {why}"));
        match std::mem::replace(&mut self.work, Work::Nothing) {
            Work::GoingBack(mut way) => {
                way.failure = match (way.failure.take(), failed) {
                    (Some(first), Some(second)) => Some(format!("{first}; {second}")),
                    (first, second) => first.or(second),
                };
                self.unrecord(way, now)
            }
            Work::Restoring { note, answer } => {
                let is_home = failed.is_none() && self.confirmed.is_none() && self.safe.is_none();
                let because = failed.or(note).unwrap_or_else(|| "there is no confirmed policy".into());
                let text = format!("the box is locked down: {because}");
                self.settle_and_answer(text.clone(), if is_home { Ok(()) } else { Err(text) }, answer, now)
            }
            other => {
                self.work = other;
                failed.map(Effect::Warn).into_iter().collect()
            }
        }
    }

    fn tick(&mut self, now: Now) -> Vec<Effect> {
        if matches!(self.work, Work::Nothing) && now.boot >= self.retry_at {
            match (&self.stands, self.confirmed) {
                (Stands::Unknown, _) => {
                    self.work = Work::Restoring { note: None, answer: None };
                    return vec![Effect::LockDown];
                }
                (Stands::Lockdown, confirmed) if confirmed.is_some() || self.safe.is_some() => {
                    self.retry_at = now.boot + RETRY;
                    self.work = Work::Restoring { note: None, answer: None };
                    return vec![self.home()];
                }
                _ if self.recorded => {
                    self.retry_at = now.boot + RETRY;
                    return vec![Effect::Unrecord];
                }
                _ if self.pointer_in_doubt => {
                    self.retry_at = now.boot + RETRY;
                    return vec![self.point_again()];
                }
                _ => {}
            }
        }
        let mut effects = vec![];
        if self.standing().is_some() {
            effects.push(Effect::Schedules);
        }
        effects.extend(self.watch_round(now));
        effects
    }

    /// Whoever stops us finds the box as confirmed: a trial is ended first, nothing else is touched.
    fn shut_down(&mut self) -> Vec<Effect> {
        match &mut self.work {
            Work::Trial(_) | Work::Proving(_) => self.go_back("the applier was stopped during the trial".into(), None, true),
            Work::GoingBack(way) | Work::Unrecording(way) => {
                way.then_exit = true;
                vec![]
            }
            Work::Keeping { .. } | Work::Saving(_) | Work::Recording(_) | Work::Installing(_) | Work::Restoring { .. } => {
                // Never seen by `hands`, which carries these out in one go; a restart would go back in any case.
                vec![Effect::Exit]
            }
            Work::Waking | Work::Nothing | Work::Judging(_) | Work::Leaving => {
                self.work = Work::Leaving;
                vec![Effect::Exit]
            }
        }
    }

    fn stand(&mut self, number: Number, installed: Installed, now: Now) {
        self.watch.forget();
        self.watch.put_off(now, self.settings.drift_every);
        self.stands =
            Stands::Generation(Standing { number, digest: installed.digest, by: installed.by, installed: now, repair: installed.repair });
    }

    fn stand_safe(&mut self, now: Now) {
        self.watch.forget();
        self.watch.put_off(now, self.settings.drift_every);
        self.stands = Stands::SafeMode;
    }

    /// The same as `settle`, and tells whoever switched safe mode.
    fn settle_and_answer(&mut self, text: String, result: Result<(), String>, answer: Option<Caller>, now: Now) -> Vec<Effect> {
        let generation = self.standing().unwrap_or(0);
        let response = match result {
            Ok(()) => ApplierResponse::WentBack { generation },
            Err(reason) => ApplierResponse::Failed { reason, generation },
        };
        let mut effects = self.settle(text, now);
        effects.extend(answer.map(|caller| Effect::Reply(caller, response)));
        effects
    }

    /// Nothing is under way any more.
    fn settle(&mut self, text: String, now: Now) -> Vec<Effect> {
        self.work = Work::Nothing;
        let mut effects = vec![self.event(text, now)];
        if self.recorded && self.stands != Stands::Unknown {
            effects.push(Effect::Unrecord);
        }
        effects
    }

    fn event(&mut self, text: String, now: Now) -> Effect {
        self.last_event = Some(Event { at: now.wall, text: text.clone() });
        Effect::Say(text)
    }
}

fn refuse(caller: Caller, reason: impl Into<String>) -> Vec<Effect> {
    vec![Effect::Reply(caller, ApplierResponse::Refused { reason: reason.into(), problems: Problems::default() })]
}
