use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use policy::messages::forwarder::{Health, HealthStatus};
use policy::name::Name;
use policy::plan::proxy::{Upstream, UpstreamKind};

use super::breaker::{Breaker, Limits};
use super::{Bad, Good, Job, Moment, PROBE_LIMIT, Probe};

/// One upstream and what is known of it.
#[derive(Debug)]
pub struct Entry {
    pub upstream: Upstream,
    epoch: u64,
    breakers: BTreeMap<Limits, Breaker>,
    pub health: Health,
    pub history: VecDeque<Health>,
    written: Option<Instant>,
    /// In a row, of probes and of flows.
    pub failures: u32,
    failed_at: Option<Instant>,
    /// Since when somebody is not carried.
    down_since: Option<Instant>,
    /// A probe is wanted because of what happened to flows, and when the last such probe began.
    asked: bool,
    looked: Option<Instant>,
    /// Good probes in a row.
    goods: u32,
    good_at: Option<Instant>,
    last_good: Option<Good>,
    /// Smoothed.
    pub latency: Option<u64>,
    pipelining: Pipelining,
    pub next: Instant,
    in_flight: Option<Instant>,
    pub probes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pipelining {
    Unknown,
    Learning,
    May,
    MayNot,
}

/// Two hours of rounds.
const HISTORY: usize = 240;
/// What happens more often is shown, but makes no history of its own.
const WRITTEN_EVERY: Duration = Duration::from_secs(25);
/// A failed upstream is probed this often, and more often at first: most that die are restarted at once.
const FAILED_EVERY: Duration = Duration::from_secs(1);
const JUST_FAILED_EVERY: Duration = Duration::from_millis(250);
const JUST_FAILED: Duration = Duration::from_secs(10);
/// One that is coming back, or has failed less often than its group allows.
const UNSURE_EVERY: Duration = Duration::from_millis(200);
/// The first failure of a flow is looked into at once. If the probe is good, it answers for the next ones for so long: flows that
/// fail although probes are good must not lead to one probe after the other. A probe that nobody asked for answers for nothing.
const ANSWERED_FOR: Duration = Duration::from_millis(200);
/// What is no failure is looked into at once too, and this often at most.
const DOUBTED_EVERY: Duration = Duration::from_secs(1);
/// The service that tells the exit is somebody else's, and answers each time.
const WRONG_EXIT_EVERY: Duration = Duration::from_secs(5);
/// "Some recent attempts failed."
const RECENT: Duration = Duration::from_secs(60);

impl Entry {
    pub fn new(upstream: Upstream, epoch: u64, now: Moment) -> Entry {
        Entry {
            upstream,
            epoch,
            breakers: BTreeMap::new(),
            health: Health { at: now.clock, status: HealthStatus::Unknown, latency_us: None, exit: None, why: None },
            history: VecDeque::new(),
            written: None,
            failures: 0,
            failed_at: None,
            down_since: None,
            asked: false,
            looked: None,
            goods: 0,
            good_at: None,
            last_good: None,
            latency: None,
            pipelining: Pipelining::Unknown,
            next: now.instant,
            in_flight: None,
            probes: 0,
        }
    }

    /// Limits that are new begin where the others are: what is up somewhere is up.
    pub fn judge_by(&mut self, limits: BTreeSet<Limits>) {
        let stands = match self.health.status {
            HealthStatus::Unknown => Breaker::Unknown,
            HealthStatus::Healthy | HealthStatus::Degraded => Breaker::Up,
            HealthStatus::Failed => Breaker::Down,
        };
        self.breakers = limits.into_iter().map(|limits| (limits, self.breakers.get(&limits).copied().unwrap_or(stands))).collect();
    }

    pub fn probed(&mut self, probe: Probe, own: &BTreeSet<IpAddr>, next_round: Instant, now: Moment) -> bool {
        if probe.epoch != self.epoch {
            return false;
        }
        self.in_flight = None;
        self.probes += 1;
        let before = self.breakers.clone();
        match probe.outcome {
            Ok(good) => match self.unacceptable(good.exit, own) {
                None => self.good(good, probe.began, now),
                Some(why) => self.wrong_exit(good, why, now),
            },
            Err(Bad { why, confirmed }) => self.bad(if confirmed { 2 } else { 1 }, why, now),
        }
        self.look_who_is_down(now);
        self.next = self.next_probe(probe.began, next_round, now);
        self.breakers != before
    }

    pub fn failed(&mut self, why: &str, now: Moment) -> bool {
        let before = self.breakers.clone();
        self.bad(1, why.to_owned(), now);
        self.look_who_is_down(now);
        match self.failures {
            _ if self.all_down() => self.next = self.next.min(now.instant + FAILED_EVERY),
            1 => self.ask(ANSWERED_FOR, now),
            _ => self.next = self.next.min(now.instant),
        }
        self.breakers != before
    }

    pub fn succeeded(&mut self, now: Moment) {
        // What is down comes back by probes alone.
        if self.failures > 0 && !self.any_down() {
            self.failures = 0;
            self.tell(now, None, None);
        }
    }

    pub fn doubt(&mut self, now: Moment) {
        self.ask(DOUBTED_EVERY, now);
    }

    /// Wants a probe, so long after the last that was wanted.
    fn ask(&mut self, after: Duration, now: Moment) {
        self.asked = true;
        self.next = self.next.min(self.looked.map_or(now.instant, |looked| (looked + after).max(now.instant)));
    }

    pub fn job(&mut self, name: &Name, now: Moment) -> Option<Job> {
        let learning = if self.in_flight.is_none() && self.next <= now.instant {
            self.in_flight = Some(now.instant);
            if std::mem::take(&mut self.asked) {
                self.looked = Some(now.instant);
            }
            false
        } else if self.wants_to_learn() {
            self.pipelining = Pipelining::Learning;
            true
        } else {
            return None;
        };
        // Long enough for what an ordinary probe took, and short enough not to matter to a server that hangs.
        let patience = Duration::from_micros(self.latency.unwrap_or(0).saturating_mul(4)).clamp(Duration::from_secs(1), PROBE_LIMIT);
        Some(Job {
            name: name.clone(),
            upstream: self.upstream.clone(),
            epoch: self.epoch,
            pipelined: learning || self.pipelined(),
            learning,
            limit: if learning { patience } else { PROBE_LIMIT },
        })
    }

    pub fn due_at(&self) -> Option<Instant> {
        let probe = self.in_flight.is_none().then_some(self.next);
        let lesson = self.good_at.filter(|_| self.wants_to_learn());
        probe.into_iter().chain(lesson).min()
    }

    pub fn learned(&mut self, epoch: u64, may: bool) {
        if epoch == self.epoch && self.pipelining == Pipelining::Learning {
            self.pipelining = match (may, self.failures) {
                (true, _) => Pipelining::May,
                (false, 0) => Pipelining::MayNot,
                // It failed because everything does. Asked again when the upstream is back.
                (false, _) => Pipelining::Unknown,
            };
        }
    }

    pub fn postponed(&mut self, epoch: u64, now: Moment) {
        if epoch == self.epoch {
            self.in_flight = None;
            self.next = now.instant + FAILED_EVERY;
            if self.pipelining == Pipelining::Learning {
                self.pipelining = Pipelining::Unknown;
            }
        }
    }

    pub fn settled(&self) -> bool {
        self.failures == 0 || self.any_down()
    }

    pub fn pipelined(&self) -> bool {
        self.pipelining == Pipelining::May
    }

    pub fn is_up(&self, limits: Limits) -> bool {
        self.breakers.get(&limits) == Some(&Breaker::Up)
    }

    pub fn why_not(&self, name: &Name) -> String {
        match &self.health.why {
            Some(why) => format!("{name}: {why}"),
            None => format!("{name} has not been probed yet"),
        }
    }

    fn wants_to_learn(&self) -> bool {
        let socks = matches!(self.upstream.kind, UpstreamKind::Socks5 | UpstreamKind::Socks5Tls);
        socks && self.pipelining == Pipelining::Unknown && self.failures == 0 && self.goods > 0
    }

    fn good(&mut self, good: Good, began: Instant, now: Moment) {
        self.goods = self.goods.saturating_add(1);
        self.last_good = Some(good);
        self.good_at = Some(now.instant);
        self.latency =
            Some(self.latency.map_or(good.latency_us, |before| (before / 4).saturating_mul(3).saturating_add(good.latency_us / 4)));
        // One that began before the last failure does not disprove it.
        if self.failed_at.is_none_or(|failed| failed <= began) {
            self.failures = 0;
            self.breakers.iter_mut().for_each(|(limits, breaker)| breaker.good(self.goods, *limits));
        }
        self.tell(now, None, None);
    }

    fn bad(&mut self, times: u32, why: String, now: Moment) {
        self.count(times, now);
        self.tell(now, Some(why), None);
    }

    fn count(&mut self, times: u32, now: Moment) {
        self.goods = 0;
        self.failures = self.failures.saturating_add(times);
        self.failed_at = Some(now.instant);
        // Perhaps it is another server by now, one that hangs when it is sent everything at once.
        if self.pipelining != Pipelining::Learning && self.pipelining != Pipelining::MayNot {
            self.pipelining = Pipelining::Unknown;
        }
        self.breakers.iter_mut().for_each(|(limits, breaker)| breaker.failed(self.failures, *limits));
    }

    /// No accident that a second look would explain: nothing is carried there any more.
    fn wrong_exit(&mut self, good: Good, why: String, now: Moment) {
        self.count(1, now);
        self.breakers.values_mut().for_each(|breaker| *breaker = Breaker::Down);
        self.tell(now, Some(why), Some(good.exit));
    }

    fn unacceptable(&self, exit: IpAddr, own: &BTreeSet<IpAddr>) -> Option<String> {
        let expected = &self.upstream.expect_exit;
        if own.contains(&exit.to_canonical()) {
            Some(format!("it comes out at {exit}, which is an address of this box"))
        } else if !expected.is_empty() && !expected.iter().any(|net| net.contains(&exit)) {
            Some(format!("it comes out at {exit}, which is not where it is expected"))
        } else {
            None
        }
    }

    fn next_probe(&self, began: Instant, next_round: Instant, now: Moment) -> Instant {
        if self.any_down() {
            let every = match self.health.exit {
                _ if self.goods > 0 => UNSURE_EVERY,
                Some(_) if self.all_down() => WRONG_EXIT_EVERY,
                _ if self.down_since.is_some_and(|since| now.instant < since + JUST_FAILED) => JUST_FAILED_EVERY,
                _ => FAILED_EVERY,
            };
            return (began + every).max(now.instant);
        }
        match self.failures {
            0 => next_round,
            1 => now.instant,
            _ => now.instant + UNSURE_EVERY,
        }
    }

    fn look_who_is_down(&mut self, now: Moment) {
        if self.any_down() {
            self.down_since.get_or_insert(now.instant);
        } else if self.down_since.take().is_some() {
            // What was found before its death answers for nothing after it.
            self.looked = None;
        }
    }

    fn any_down(&self) -> bool {
        self.breakers.values().any(|breaker| *breaker == Breaker::Down)
    }

    fn all_down(&self) -> bool {
        self.breakers.values().all(|breaker| *breaker == Breaker::Down)
    }

    /// What is shown of it. `why` and a wrong exit are of what was just seen.
    fn tell(&mut self, now: Moment, why: Option<String>, wrong_exit: Option<IpAddr>) {
        let recent = self.failed_at.is_some_and(|failed| now.instant.duration_since(failed) < RECENT);
        let status = match () {
            () if self.all_down() => HealthStatus::Failed,
            () if self.any_down() || self.failures > 0 || recent => HealthStatus::Degraded,
            () => HealthStatus::Healthy,
        };
        // What still carries still comes out where it did.
        let last = self.last_good.filter(|_| status != HealthStatus::Failed);
        let why = if status == HealthStatus::Healthy { None } else { why.or_else(|| self.health.why.take()) };
        let exit = wrong_exit.or(last.map(|good| good.exit));
        self.health = Health { at: now.clock, status, latency_us: last.map(|good| good.latency_us), exit, why };
        let changed = self.history.back().is_none_or(|last| last.status != status);
        if changed || self.written.is_none_or(|written| now.instant.duration_since(written) >= WRITTEN_EVERY) {
            self.history.push_back(self.health.clone());
            self.written = Some(now.instant);
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
    }
}
