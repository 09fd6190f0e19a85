//! A box of which only the machine is real.

use super::*;

#[derive(Debug, Default)]
pub struct Disk {
    pub confirmed: Option<Number>,
    pub trial: Option<Number>,
    pub safe_mode: Option<String>,
    pub saved: Vec<Number>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    Empty,
    Lockdown,
    SafeMode,
    Generation(Number),
}

/// A box of which only the machine is real.
pub struct World {
    pub machine: Machine,
    pub now: Now,
    pub disk: Disk,
    kernel: Kernel,
    pub failures: Vec<&'static str>,
    pub crash_after: Option<usize>,
    pub installs: usize,
    pub compared: usize,
    pub drifted: bool,
    pub repair: bool,
    pub exited: bool,
    /// The last confirmation that became durable.
    pub acknowledged: Option<Number>,
    /// The disk failed twice while a pointer was written: no promise is possible.
    pub doubt: bool,
    /// A confirmation failed halfway: nobody was told of it, but after a crash it may stand.
    halfway: Option<Number>,
    replies: Vec<(u64, ApplierResponse)>,
    /// Whose change is being probed, and who is answered later.
    pub asked: Vec<u64>,
    callers: u64,
    good: bool,
    pub maps: bool,
    /// Generations that were probed and can be carried, or need not be.
    proven: Vec<Number>,
}

impl World {
    pub fn new() -> World {
        let now = Now { boot: Duration::from_secs(100), wall: 1_800_000_000_000 };
        let mut world = World {
            machine: machine(),
            now,
            disk: Disk::default(),
            kernel: Kernel::Empty,
            failures: vec![],
            crash_after: None,
            installs: 0,
            compared: 0,
            drifted: false,
            repair: true,
            exited: false,
            acknowledged: None,
            doubt: false,
            halfway: None,
            replies: vec![],
            asked: vec![],
            callers: 0,
            good: true,
            maps: false,
            proven: vec![],
        };
        world.restart();
        world
    }

    pub fn kernel(&self) -> Option<Number> {
        match self.kernel {
            Kernel::Generation(number) => Some(number),
            Kernel::Lockdown | Kernel::SafeMode => None,
            Kernel::Empty => panic!("the kernel stands open"),
        }
    }

    /// What holds whenever the box is at rest.
    pub fn check(&self) {
        let on_trial = matches!(self.machine.work, Work::Trial(_));
        let proving = matches!(self.machine.work, Work::Proving(_));
        let at_rest = matches!(self.machine.work, Work::Nothing);
        assert_eq!(self.asked.len(), usize::from(proving), "asked and not answered in {:?}", self.machine.work);
        assert!(on_trial || proving || at_rest, "left in {:?}", self.machine.work);
        match self.kernel {
            // Lockdown failed; it is tried again with every tick, and the status says so in capitals.
            _ if self.machine.stands == Stands::Unknown => {}
            Kernel::Generation(number) if proving => assert_eq!(self.disk.trial, Some(number)),
            Kernel::Generation(number) if on_trial => {
                assert_eq!(self.disk.trial, Some(number));
                assert!(self.proven.contains(&number), "on trial without proof");
            }
            Kernel::Generation(number) => {
                assert_eq!(self.machine.safe, None, "a generation stands in safe mode");
                assert_eq!(Some(number), self.machine.confirmed, "an unconfirmed generation stands");
                assert_eq!(self.machine.standing(), Some(number));
            }
            Kernel::SafeMode | Kernel::Lockdown | Kernel::Empty => assert_eq!(self.machine.standing(), None),
        }
        if !self.doubt {
            assert_eq!(self.machine.confirmed, self.acknowledged, "what was acknowledged is not what is confirmed");
        }
    }

    pub(super) fn act(&mut self, deed: &Deed) {
        match deed {
            Deed::Apply => drop(self.apply("anna")),
            Deed::ApplyBad => {
                self.good = false;
                // A crash on the way restores, which installs, and a disk that fails then keeps the note of a trial for a while.
                let (before, may_crash) = (self.installs, self.crash_after.is_some());
                self.apply("anna");
                self.good = true;
                assert!(may_crash || self.installs == before || self.disk.trial.is_none());
            }
            Deed::Confirm { old_connection, stranger } => {
                let number = self.machine.next - 1;
                let before = self.acknowledged;
                let connected_at = if *old_connection { 1 } else { self.now.wall };
                let by = Principal { name: if *stranger { "ben" } else { "anna" }.into(), address: None, connected_at: Some(connected_at) };
                self.request(ApplierRequest::Confirm { generation: number, by });
                assert!(self.acknowledged == before || !(*old_connection || *stranger), "confirmed by a stranger");
            }
            Deed::GoBack => drop(self.request(ApplierRequest::GoBack { generation: None, by: someone() })),
            Deed::SafeMode => drop(self.request(ApplierRequest::SafeMode { by: someone() })),
            Deed::Earlier => drop(self.request(ApplierRequest::GoBack { generation: Some(1), by: someone() })),
            Deed::Pass(seconds) => self.pass(*seconds),
            Deed::Jump(by) => self.jump(*by),
            Deed::Drift => self.drifted = true,
            Deed::CheckDrift => drop(self.request(ApplierRequest::CheckDrift)),
            Deed::FailNext(what) => self.fail_next(what),
            Deed::CrashAfter(effects) => self.crash_after = Some(*effects),
            Deed::Restart => self.restart(),
            Deed::Map(maps) => self.maps = *maps,
            Deed::Probed(good) => self.probed(*good),
        }
    }

    pub fn probed(&mut self, good: bool) {
        if let Work::Proving(proving) = &self.machine.work
            && good
        {
            self.proven.push(proving.number);
        }
        self.input(Input::Probed(if good { Ok(()) } else { Err("mapping kids cannot be carried: upstream lon: refused".into()) }));
        self.settle_asked();
    }

    /// The answers of those who waited for a probe.
    pub fn settle_asked(&mut self) -> Option<ApplierResponse> {
        let asked = self.asked.clone();
        let answered: Vec<_> = self.replies.extract_if(.., |(id, _)| asked.contains(id)).collect();
        assert!(answered.len() <= 1, "more answers than questions");
        self.asked.retain(|id| !answered.iter().any(|(answered, _)| answered == id));
        answered.into_iter().next().map(|(_, response)| response)
    }

    pub fn apply(&mut self, by: &str) -> ApplierResponse {
        let by = Principal { name: by.into(), address: None, connected_at: None };
        let request = ApplierRequest::Apply { sources: Sources::default(), digest: Digest(String::new()), confirm_within: None, by };
        self.request(request).unwrap_or(ApplierResponse::Done)
    }

    pub fn confirm_new_connection(&mut self, by: &str, generation: Number) {
        let by = Principal { name: by.into(), address: None, connected_at: Some(self.now.wall) };
        let reply = self.request(ApplierRequest::Confirm { generation, by });
        assert_eq!(reply, Some(ApplierResponse::Confirmed { generation }));
    }

    pub fn caller_opened(&mut self, opened: Duration) -> Caller {
        self.callers += 1;
        Caller { id: self.callers, opened }
    }

    pub fn request(&mut self, request: ApplierRequest) -> Option<ApplierResponse> {
        let caller = self.caller_opened(self.now.boot);
        self.request_from(caller, request)
    }

    /// None when the process died over it, or while a change is probed: otherwise there is exactly one answer.
    pub fn request_from(&mut self, caller: Caller, request: ApplierRequest) -> Option<ApplierResponse> {
        let crashed = self.input(Input::Request(caller, request));
        let mut answers: Vec<_> = self.replies.extract_if(.., |(id, _)| *id == caller.id).map(|(_, reply)| reply).collect();
        self.settle_asked();
        if !crashed && answers.is_empty() && matches!(self.machine.work, Work::Proving(_)) && self.asked.is_empty() {
            self.asked.push(caller.id);
            return None;
        }
        assert!(crashed || answers.len() == 1, "{} answers in {:?}", answers.len(), self.machine.work);
        answers.pop()
    }

    pub fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now.boot += Duration::from_secs(1);
            self.now.wall += 1000;
            self.input(Input::Tick);
            self.settle_asked();
        }
    }

    pub fn jump(&mut self, by: i64) {
        self.now.wall = self.now.wall.saturating_add_signed(by);
    }

    pub fn fail_next(&mut self, what: &'static str) {
        self.failures.push(what);
    }

    pub fn restart(&mut self) {
        self.crash_after = None;
        // Whoever waited has lost the connection.
        self.asked.clear();
        self.replies.clear();
        if self.halfway.take().is_some() {
            self.acknowledged = self.disk.confirmed;
        }
        self.machine = machine();
        let found = Found {
            confirmed: self.disk.confirmed,
            trial: self.disk.trial.map(|number| Interrupted { number: Some(number), by: "anna".into() }),
            next: self.disk.saved.iter().max().map_or(1, |last| last + 1),
            safe_mode: self.disk.safe_mode.clone(),
            remarks: vec![],
        };
        self.input(Input::Started(found));
    }

    /// Whether the process died over it (and was started again).
    pub fn input(&mut self, input: Input) -> bool {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let effects = self.machine.handle(input, self.now);
            for effect in effects {
                if self.crash_after == Some(0) {
                    self.replies.clear();
                    self.restart();
                    return true;
                }
                self.crash_after = self.crash_after.map(|left| left - 1);
                let result = self.carry_out(effect);
                assert!(result.is_none() || inputs.is_empty(), "two results at once");
                inputs.extend(result);
                self.never_unrecorded();
            }
        }
        false
    }

    /// Between any two effects: what stands and is not what a restart restores has its note on disk.
    fn never_unrecorded(&self) {
        if let Kernel::Generation(number) = self.kernel {
            let known = self.disk.confirmed == Some(number) || self.disk.trial.is_some() || self.machine.confirmed == Some(number);
            assert!(known, "generation {number} stands without a note");
        }
    }

    fn fails(&mut self, what: &str) -> Result<(), String> {
        match self.failures.iter().position(|failure| *failure == what) {
            Some(place) => Err(format!("{} is broken", self.failures.remove(place))),
            None => Ok(()),
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Judge { .. } if self.good => Some(Input::Judged(Ok(Verdict { confirm_within: Duration::from_secs(60) }))),
            Effect::Judge { .. } => Some(Input::Judged(Err(Refusal { reason: "bad".into(), problems: Problems::default() }))),
            Effect::Save { number, .. } => {
                let result = self.fails("save");
                assert!(!self.disk.saved.contains(&number), "number {number} used twice");
                self.disk.saved.push(number);
                Some(Input::Saved(result))
            }
            Effect::Record { number, .. } => {
                let result = self.fails("record");
                if result.is_ok() {
                    self.disk.trial = Some(number);
                }
                Some(Input::Recorded(result))
            }
            Effect::Install(number) => {
                self.installs += 1;
                let result = self.fails("install");
                // A failure may come after the batch was in the kernel.
                self.kernel = Kernel::Generation(number);
                self.drifted = false;
                let to_prove = if self.maps { BTreeSet::from(["kids".try_into().unwrap()]) } else { BTreeSet::new() };
                if !self.maps {
                    self.proven.push(number);
                }
                let installed = Installed {
                    to_prove,
                    digest: Digest(number.to_string()),
                    by: "anna".into(),
                    repair: self.repair,
                    phases: BTreeMap::new(),
                    remarks: vec![],
                };
                Some(Input::Installed(result.map(|()| installed)))
            }
            Effect::Point { to, .. } => {
                let result = self.fails("point");
                self.doubt |= result.is_err() && self.machine.pointer_in_doubt;
                // The rename may have been done although its fsync failed.
                self.disk.confirmed = to;
                if result.is_ok() {
                    // From here on it is durable, whether or not there is time left to say so.
                    self.acknowledged = to;
                }
                self.halfway = result.is_err().then_some(to).flatten();
                if result.is_err() && self.machine.pointer_in_doubt {
                    self.disk.confirmed = self.acknowledged;
                }
                Some(Input::Pointed(result))
            }
            Effect::Unrecord => {
                let result = self.fails("unrecord");
                if result.is_ok() {
                    self.disk.trial = None;
                }
                Some(Input::Unrecorded(result))
            }
            Effect::LockDown => {
                let result = self.fails("lockdown");
                if result.is_ok() {
                    self.kernel = Kernel::Lockdown;
                }
                self.drifted = false;
                Some(Input::LockedDown(result))
            }
            Effect::InstallSafeMode(_) => {
                let result = self.fails("install");
                self.kernel = Kernel::SafeMode;
                self.drifted = false;
                let installed = Installed {
                    to_prove: BTreeSet::new(),
                    digest: Digest(String::new()),
                    by: String::new(),
                    repair: true,
                    phases: BTreeMap::new(),
                    remarks: vec![],
                };
                Some(Input::Installed(result.map(|()| installed)))
            }
            Effect::KeepSafeMode(by) => {
                self.disk.safe_mode = by;
                None
            }
            Effect::Guard => {
                if self.kernel == Kernel::Empty {
                    self.kernel = Kernel::Lockdown;
                }
                None
            }
            Effect::Compare => {
                self.compared += 1;
                let finding = DriftFinding {
                    what: "chain forward".into(),
                    expected: "a".into(),
                    found: "b".into(),
                    who: None,
                    at: 0,
                    repaired: false,
                };
                Some(Input::Compared(Ok(self.drifted.then_some(finding).into_iter().collect())))
            }
            Effect::Repair => {
                let result = self.fails("repair");
                self.drifted &= result.is_err();
                Some(Input::Repaired(result))
            }
            Effect::Reply(caller, response) => {
                if let ApplierResponse::Confirmed { generation } = &response {
                    assert_eq!(self.disk.confirmed, Some(*generation), "acknowledged before it was durable");
                }
                self.replies.push((caller.id, response));
                None
            }
            Effect::Answer(caller, _) => {
                self.replies.push((caller.id, ApplierResponse::KernelRuleset { text: String::new() }));
                None
            }
            Effect::Exit => {
                self.exited = true;
                None
            }
            Effect::SetSecret { caller, .. } | Effect::ProbeUpstreams(caller, _) => {
                self.replies.push((caller.id, ApplierResponse::Done));
                None
            }
            Effect::Probe(mappings) => {
                assert!(!mappings.is_empty());
                None
            }
            Effect::Schedules | Effect::Discard(_) | Effect::Prune | Effect::Say(_) | Effect::Warn(_) => None,
        }
    }
}

fn machine() -> Machine {
    Machine::new(Settings { drift_every: Duration::from_secs(30) })
}

fn someone() -> Principal {
    Principal { name: "anna".into(), address: None, connected_at: None }
}
