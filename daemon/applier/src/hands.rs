//! Carries out what the machine decided: on the disk, on the kernel, on the socket. Decides nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use policy::messages::{ApplierResponse, Generation};
use policy::model::Drift;
use policy::{Digest, Plan, Problems, Sources, compile, load};
use tracing::{error, info, warn};

use crate::clock::now;
use crate::gate::{Gate, Manner, told};
use crate::judge::{Judge, Question as Case};
use crate::lockdown;
use crate::machine::{Effect, Input, Installed, Judged, Machine, Number, Question, Refusal, Verdict};
use crate::mapped::{Mapped, to_prove};
use crate::safe_mode;
use crate::server::Server;
use crate::store::{Folder, Store};

pub struct Hands {
    pub machine: Machine,
    pub gate: Gate,
    pub store: Store<Folder>,
    pub server: Server,
    pub judge: Judge,
    pub mapped: Mapped,
    /// What was judged and is not stored yet.
    candidate: Option<Candidate>,
    /// Compiled: what stands, what is confirmed, and what is on its way in. Going back needs no disk.
    compiled: BTreeMap<Number, Rc<Compiled>>,
    /// What the gate was last told to install; None is lockdown.
    stands: Option<Number>,
    kept: Vec<Generation>,
    done: bool,
}

/// Generations count from 1.
const SAFE_MODE: Number = 0;

struct Candidate {
    sources: Sources,
    compiled: Rc<Compiled>,
    judging: Duration,
}

struct Compiled {
    plan: Plan,
    digest: Digest,
    by: String,
    repair: bool,
    /// The box's own.
    timezone: String,
    judging: Option<Duration>,
}

impl Hands {
    pub fn new(machine: Machine, gate: Gate, store: Store<Folder>, server: Server, judge: Judge, mapped: Mapped) -> Self {
        let kept = store.kept();
        Hands { machine, gate, store, server, judge, mapped, candidate: None, compiled: BTreeMap::new(), stands: None, kept, done: false }
    }

    /// Whether the process should end.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// One input and everything that follows from it.
    pub fn take(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            for effect in self.machine.handle(input, now()) {
                next = self.carry_out(effect).or(next);
            }
        }
    }

    /// What the judge has decided, if it has.
    pub fn take_verdict(&mut self) {
        while let Some(answer) = self.judge.answer() {
            let verdict = match answer.result {
                Ok(judged) => {
                    let system = judged.checked.config().system.as_ref().map(|(_, system)| &system.spec);
                    let confirm_within = system.map_or(Duration::from_secs(60), |system| system.confirm_within);
                    let repair = system.is_none_or(|system| system.drift == Drift::Repair);
                    let timezone = system.map_or("UTC".into(), |system| system.timezone.clone());
                    let compiled =
                        Compiled { plan: judged.plan, digest: judged.digest, by: String::new(), repair, timezone, judging: None };
                    self.candidate = Some(Candidate { sources: answer.sources, compiled: Rc::new(compiled), judging: answer.took });
                    Ok(Verdict { confirm_within })
                }
                Err(refusal) => Err(refusal),
            };
            self.take(Input::Judged(verdict));
        }
    }

    /// Whether what a change maps anew can be carried, if that is known.
    pub fn take_proof(&mut self) {
        if let Some(verdict) = self.mapped.verdict() {
            self.take(Input::Probed(verdict));
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Judge { sources, digest } => self.begin_judging(sources, digest),
            Effect::Save { number, by, at } => Some(Input::Saved(self.save(number, by, at))),
            Effect::Record { number, back_to, by } => {
                Some(Input::Recorded(self.store.record(number, back_to, &by).map_err(|error| error.to_string())))
            }
            Effect::Install(number) => Some(Input::Installed(self.install(number))),
            Effect::InstallSafeMode(number) => Some(Input::Installed(self.install_safe_mode(number))),
            Effect::KeepSafeMode(by) => {
                if let Err(error) = self.store.keep_safe_mode(by.as_deref()) {
                    error!(%error, "a restart will not find safe mode as it is now");
                }
                None
            }
            Effect::Point { to, by } => {
                let result = self.store.point(to, &by).map_err(|error| error.to_string());
                self.kept = self.store.kept();
                Some(Input::Pointed(result))
            }
            Effect::Unrecord => {
                self.tidy();
                Some(Input::Unrecorded(self.store.unrecord().map_err(|error| error.to_string())))
            }
            Effect::LockDown => {
                self.stands = None;
                let result = self.gate.lock_down();
                self.mapped.stand(None, BTreeSet::new(), &mut self.gate);
                Some(Input::LockedDown(result))
            }
            Effect::Guard => {
                if let Err(why) = self.gate.guard() {
                    error!(why, "lockdown could not be installed");
                }
                None
            }
            Effect::Compare => {
                let plan = self.standing();
                Some(Input::Compared(self.gate.drift(plan.as_deref().map_or(&lockdown::plan(), |compiled| &compiled.plan))))
            }
            Effect::Repair => Some(Input::Repaired(self.repair())),
            Effect::Schedules => {
                let standing = self.standing();
                if let Some(Err(why)) = standing.map(|compiled| self.gate.keep_time(&compiled.plan, now())) {
                    warn!(why, "the time of day could not be followed");
                }
                None
            }
            Effect::Discard(number) => {
                self.store.discard(number);
                self.compiled.remove(&number);
                self.kept = self.store.kept();
                None
            }
            Effect::Prune => {
                self.store.prune(&[self.machine.confirmed(), self.machine.standing()]);
                self.kept = self.store.kept();
                None
            }
            Effect::Reply(caller, response) => {
                self.server.reply(caller, &response, now().boot);
                None
            }
            Effect::Answer(caller, question) => {
                let response = self.answer(question).unwrap_or_else(refused);
                self.server.reply(caller, &response, now().boot);
                None
            }
            Effect::Probe(mappings) => {
                self.mapped.prove(&mappings, &mut self.gate);
                None
            }
            Effect::SetSecret { caller, name, value, text } => {
                let done = self.mapped.set_secret(&name, value, &mut self.gate);
                if done.is_ok() {
                    info!("{text}");
                }
                let response = done.map_or_else(refused, |()| ApplierResponse::Done);
                self.server.reply(caller, &response, now().boot);
                None
            }
            Effect::ProbeUpstreams(caller, upstreams) => {
                let response = self.mapped.probe(upstreams, &mut self.gate).map_or_else(refused, |()| ApplierResponse::Done);
                self.server.reply(caller, &response, now().boot);
                None
            }
            Effect::Say(text) => {
                info!("{text}");
                None
            }
            Effect::Warn(text) => {
                warn!("{text}");
                None
            }
            Effect::Exit => {
                self.done = true;
                None
            }
        }
    }

    fn begin_judging(&mut self, sources: Judged, digest: Option<Digest>) -> Option<Input> {
        let refuse = |reason: String| Some(Input::Judged(Err(Refusal { reason, problems: Problems::default() })));
        let sources = match sources {
            Judged::These(sources) => sources,
            Judged::Kept(number) if !self.kept.iter().any(|kept| kept.number == number && kept.confirmed) => {
                return refuse(format!("generation {number} is not kept, or never was confirmed"));
            }
            Judged::Kept(number) => match self.store.load(number) {
                Ok((sources, _)) => sources,
                Err(why) => return refuse(why),
            },
        };
        match self.judge.ask(Case { sources, digest }) {
            Ok(()) => None,
            Err(why) => refuse(why),
        }
    }

    fn save(&mut self, number: Number, by: String, at: u64) -> Result<(), String> {
        let Some(candidate) = self.candidate.take() else { return Err("there is no candidate".into()) };
        let mut compiled = Rc::try_unwrap(candidate.compiled).map_err(|_| "the candidate is in use")?;
        compiled.judging = Some(candidate.judging);
        self.store.save(number, &candidate.sources, &compiled.digest, &by, at).map_err(|error| error.to_string())?;
        compiled.by = by;
        self.compiled.insert(number, Rc::new(compiled));
        self.kept = self.store.kept();
        Ok(())
    }

    fn install(&mut self, number: Number) -> Result<Installed, String> {
        let begun = Instant::now();
        // Only what was never confirmed is a change that has to prove itself.
        let manner = if self.machine.confirmed() == Some(number) { Manner::Lenient } else { Manner::Strict };
        let mut remarks = vec![];
        let compiled = match self.compiled.get(&number) {
            Some(compiled) => compiled.clone(),
            None => Rc::new(self.recompile(number, &mut remarks)?),
        };
        self.compiled.insert(number, compiled.clone());
        let before = self.standing();
        // From here on the kernel may hold any of it.
        self.stands = Some(number);
        let done = self.gate.install(&compiled.plan, before.as_deref().map(|before| &before.plan), manner, now())?;
        // What was confirmed once need not prove itself again.
        let before = before.as_deref().map(|before| &before.plan.proxy);
        let to_prove = if manner == Manner::Strict { to_prove(before, &compiled.plan.proxy) } else { BTreeSet::new() };
        let carried = (number, &compiled.plan.proxy, compiled.timezone.as_str());
        self.mapped.stand(Some(carried), to_prove.clone(), &mut self.gate);
        let mut phases = done.phases;
        phases.extend(compiled.judging.map(|judging| ("judge".to_owned(), judging.as_micros() as u64)));
        phases.insert("install".into(), begun.elapsed().as_micros() as u64);
        info!(generation = number, digest = %compiled.digest, ?phases, "installed and read back");
        remarks.extend(done.remarks);
        Ok(Installed { digest: compiled.digest.clone(), by: compiled.by.clone(), repair: compiled.repair, to_prove, phases, remarks })
    }

    /// Whatever of it cannot be done, nothing is forwarded: then it is lockdown that stands.
    fn install_safe_mode(&mut self, number: Option<Number>) -> Result<Installed, String> {
        let plan = match number {
            Some(number) => safe_mode::plan(&self.store.load(number)?.0)?,
            None => lockdown::plan(),
        };
        let compiled = Compiled { digest: plan.digest(), plan, by: String::new(), repair: true, timezone: "UTC".into(), judging: None };
        let compiled = Rc::new(compiled);
        let before = self.standing();
        self.compiled.insert(SAFE_MODE, compiled.clone());
        self.stands = Some(SAFE_MODE);
        let done = self.gate.install(&compiled.plan, before.as_deref().map(|before| &before.plan), Manner::Lenient, now())?;
        self.mapped.stand(None, BTreeSet::new(), &mut self.gate);
        let mut remarks = done.remarks;
        if number.is_none() {
            remarks.push("there is no confirmed policy, so nobody but the console reaches the box".into());
        }
        Ok(Installed {
            digest: compiled.digest.clone(),
            by: String::new(),
            repair: true,
            to_prove: BTreeSet::new(),
            phases: done.phases,
            remarks,
        })
    }

    /// From the disk: it was judged when it was stored, and is not proved again.
    fn recompile(&self, number: Number, remarks: &mut Vec<String>) -> Result<Compiled, String> {
        let (sources, meta) = self.store.load(number)?;
        let checked = load(&sources).map_err(|problems| format!("generation {number} is no longer a valid policy: {problems}"))?;
        let plan = compile(&checked);
        let digest = plan.digest();
        if digest != meta.digest {
            remarks
                .push(format!("generation {number} compiles to {digest} with this version, and to {} when it was confirmed", meta.digest));
        }
        let system = checked.config().system.as_ref().map(|(_, system)| &system.spec);
        let repair = system.is_none_or(|system| system.drift == Drift::Repair);
        let timezone = system.map_or("UTC".into(), |system| system.timezone.clone());
        Ok(Compiled { plan, digest, by: meta.by, repair, timezone, judging: None })
    }

    fn repair(&mut self) -> Result<(), String> {
        match self.standing() {
            Some(compiled) => {
                let result = self.gate.repair(&compiled.plan, now());
                if self.gate.was_emptied() {
                    self.mapped.emptied(&mut self.gate);
                }
                result
            }
            None => self.gate.lock_down(),
        }
    }

    fn standing(&self) -> Option<Rc<Compiled>> {
        self.compiled.get(&self.stands?).cloned()
    }

    /// Plans that neither stand nor may have to come back take memory for nothing.
    fn tidy(&mut self) {
        let (standing, confirmed) = (self.stands, self.machine.confirmed());
        self.compiled.retain(|number, _| Some(*number) == standing || Some(*number) == confirmed);
    }

    fn answer(&mut self, question: Question) -> Result<ApplierResponse, String> {
        Ok(match question {
            Question::Status => ApplierResponse::Status(self.machine.status(now(), self.kept.clone(), self.gate.features())),
            Question::Sources(number) => {
                let number = number.or(self.machine.standing()).ok_or("the box is locked down; it runs no policy")?;
                let (sources, _) = self.store.load(number)?;
                ApplierResponse::Sources { generation: number, sources }
            }
            Question::Counters => {
                let standing = self.standing();
                let lockdown = lockdown::plan();
                let plan = standing.as_deref().map_or(&lockdown, |compiled| &compiled.plan);
                ApplierResponse::Counters(self.gate.counters(plan, now())?)
            }
            Question::Proxy => ApplierResponse::Proxy(self.mapped.status(now())),
            Question::Ports => ApplierResponse::Ports { ports: kernel::stats::ports().map_err(|error| told(&error))? },
            Question::KernelRuleset => ApplierResponse::KernelRuleset { text: self.gate.ruleset_text()? },
        })
    }
}

fn refused(reason: String) -> ApplierResponse {
    ApplierResponse::Refused { reason, problems: Problems::default() }
}
