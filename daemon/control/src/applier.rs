//! The other end of the applier's socket, and what it last said of itself.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::Sources;
use policy::messages::proxy::ProxyStatus;
use policy::messages::{ApplierRequest, ApplierResponse, Counters, Port, Principal, Status};

use crate::peer;
use crate::traffic::Traffic;
use crate::trouble::Trouble;

/// Requests go each over a connection of their own; status and counters are polled once a second and kept.
pub struct Applier {
    socket: PathBuf,
    seen: Mutex<Arc<Seen>>,
    traffic: Mutex<Traffic>,
}

/// What the last poll brought.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// None while the applier does not answer.
    pub status: Option<Status>,
    pub counters: Option<Counters>,
    /// Why it does not answer, in the system's words.
    pub away: Option<String>,
    /// Milliseconds since the epoch.
    pub at: u64,
    /// Policy of the running generation as text, read when the generation changed.
    pub running: Option<Arc<Running>>,
}

/// The policy that the kernel has now, on trial or confirmed.
#[derive(Debug)]
pub struct Running {
    pub generation: u64,
    pub sources: Sources,
    /// None if this binary finds problems in it, which the applier's did not.
    pub judged: Option<policy::Judged>,
}

impl Applier {
    pub fn new(socket: PathBuf) -> Self {
        let away = Some("not asked yet".to_owned());
        Applier { socket, seen: Mutex::new(Arc::new(Seen { away, ..Seen::default() })), traffic: Mutex::default() }
    }

    /// What it last said; never waits.
    pub fn seen(&self) -> Arc<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last status, or that there is none.
    pub fn status(&self) -> Result<Status, Trouble> {
        let seen = self.seen();
        seen.status.clone().ok_or_else(|| Trouble::ApplierAway(seen.away.clone().unwrap_or_default()))
    }

    pub fn running(&self) -> Option<Arc<Running>> {
        self.seen().running.clone()
    }

    /// Rates of the last minutes.
    pub fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks anew, now. Returns whether the state of the gate (not its figures) changed.
    pub fn poll(&self, now: u64) -> bool {
        let before = self.seen();
        let next = match self.ask(&ApplierRequest::Status) {
            Ok(ApplierResponse::Status(status)) => {
                let counters = match self.ask(&ApplierRequest::Counters) {
                    Ok(ApplierResponse::Counters(counters)) => {
                        self.traffic().remember(&counters);
                        Some(counters)
                    }
                    _ => None,
                };
                let running = self.read_running(&before, &status);
                Seen { status: Some(status), counters, away: None, at: now, running }
            }
            Ok(other) => Seen { away: Some(unexpected(&other).to_string()), at: now, running: before.running.clone(), ..Seen::default() },
            Err(Trouble::ApplierAway(why)) => Seen { away: Some(why), at: now, running: before.running.clone(), ..Seen::default() },
            Err(trouble) => Seen { away: Some(trouble.to_string()), at: now, running: before.running.clone(), ..Seen::default() },
        };
        let changed = before.gate() != next.gate();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        changed
    }

    fn read_running(&self, before: &Seen, status: &Status) -> Option<Arc<Running>> {
        let generation = status.running.as_ref()?;
        if let Some(known) = before.running.as_ref().filter(|known| known.generation == generation.number) {
            return Some(known.clone());
        }
        match self.ask(&ApplierRequest::Sources { generation: Some(generation.number) }) {
            Ok(ApplierResponse::Sources { generation, sources }) => {
                let judged = policy::judge(&sources).ok();
                Some(Arc::new(Running { generation, sources, judged }))
            }
            _ => None,
        }
    }

    /// One request and its answer. `Refused` and `Failed` come back as trouble.
    pub fn ask(&self, request: &ApplierRequest) -> Result<ApplierResponse, Trouble> {
        // An apply of 50,000 rules compiles, installs, reads back and probes in seconds.
        self.ask_within(request, Duration::from_secs(60))
    }

    fn ask_within(&self, request: &ApplierRequest, patience: Duration) -> Result<ApplierResponse, Trouble> {
        match peer::exchange(&self.socket, request, patience).map_err(|error: io::Error| Trouble::ApplierAway(error.to_string()))? {
            ApplierResponse::Refused { reason, problems } if problems.is_empty() => Err(Trouble::Refused(reason)),
            ApplierResponse::Refused { problems, .. } => Err(Trouble::Policy(problems)),
            ApplierResponse::Failed { reason, generation } => {
                let back = if generation == 0 { "in lockdown".to_owned() } else { format!("back at generation {generation}") };
                Err(Trouble::WentBack(format!("{reason}; the box is {back}")))
            }
            answer => Ok(answer),
        }
    }

    pub fn kernel_ruleset(&self) -> Result<String, Trouble> {
        match self.ask(&ApplierRequest::KernelRuleset)? {
            ApplierResponse::KernelRuleset { text } => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    pub fn sources(&self, generation: Option<u64>) -> Result<(u64, Sources), Trouble> {
        match self.ask(&ApplierRequest::Sources { generation })? {
            ApplierResponse::Sources { generation, sources } => Ok((generation, sources)),
            other => Err(unexpected(&other)),
        }
    }

    pub fn confirm(&self, generation: u64, by: Principal) -> Result<u64, Trouble> {
        match self.ask(&ApplierRequest::Confirm { generation, by })? {
            ApplierResponse::Confirmed { generation } => Ok(generation),
            other => Err(unexpected(&other)),
        }
    }

    /// The machine's network ports.
    pub fn ports(&self) -> Result<Vec<Port>, Trouble> {
        match self.ask_within(&ApplierRequest::Ports, Duration::from_secs(2))? {
            ApplierResponse::Ports { ports } => Ok(ports),
            other => Err(unexpected(&other)),
        }
    }

    /// Mapped clients, as the kernel treats them.
    pub fn proxy(&self) -> Result<ProxyStatus, Trouble> {
        // A page must not hang on an applier that does.
        match self.ask_within(&ApplierRequest::Proxy, Duration::from_secs(2))? {
            ApplierResponse::Proxy(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }
}

impl Seen {
    /// What decides how the gate stands: pages reload when it changes.
    pub fn gate(&self) -> (Option<u64>, Option<u64>, Option<u64>, bool, usize) {
        let status = self.status.as_ref();
        (
            status.and_then(|status| status.running.as_ref()).map(|generation| generation.number),
            status.and_then(|status| status.trial.as_ref()).map(|trial| trial.generation),
            status.and_then(|status| status.last_confirmed),
            self.away.is_some(),
            status.map_or(0, |status| status.drift.len()),
        )
    }
}

pub fn unexpected(answer: &ApplierResponse) -> Trouble {
    let text: String = format!("{answer:?}").chars().take(200).collect();
    Trouble::Internal(format!("the applier gave an answer to another question: {text}"))
}
