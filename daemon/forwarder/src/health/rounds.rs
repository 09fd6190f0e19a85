//! The thread that probes: it opens a connection to the upstream's own address, lets a [`super::probe::Conversation`] happen, and tells the board.
//!
//! One thread for all, by poll: a round of 256 upstreams that all hang ends 5 seconds after it began, like a round of one.
//! Pieces that drip extend nothing. A probe that has not ended after 2 seconds gets a second attempt beside it, within the same
//! 5 seconds: when both fail, that is two failures, and a server that hangs is known within the first round.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use policy::messages::forwarder::Health;
use policy::name::Name;
use tracing::{debug, warn};

use super::attempt::{End, Running};
use super::{Board, Job, Moment, Probe};

/// The handle to the thread. Whoever calls [`Board::failed`] or [`Board::become_`] wakes it, so that what is due begins now.
#[derive(Clone)]
pub struct Rounds {
    shared: Arc<Shared>,
}

struct Shared {
    board: Arc<Mutex<Board>>,
    probed: Condvar,
    wake: EventFd,
}

/// The value of a secret by its name.
pub type Secret = Box<dyn Fn(&str) -> Option<String> + Send>;
/// Called after each probe, without the board being held. `true`: what [`Board::state`] says may be different.
pub type Told = Box<dyn Fn(&Name, &Health, bool) + Send>;

/// Jobs at once. Each takes one descriptor, or two when it is late.
const AT_ONCE: usize = 512;
impl Rounds {
    pub fn begin(board: Arc<Mutex<Board>>, secret: Secret, told: Told) -> io::Result<Rounds> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let shared = Arc::new(Shared { board, probed: Condvar::new(), wake });
        let rounds = Rounds { shared: shared.clone() };
        thread::Builder::new()
            .name("health".into())
            .spawn(move || Prober { shared, secret, told, waiting: VecDeque::new(), running: Vec::new() }.run())?;
        Ok(rounds)
    }

    pub fn wake(&self) {
        // It can only fail when it is already full of wakes.
        let _ = self.shared.wake.write(1);
    }

    /// Probes these now; `told` hears of each.
    pub fn demand(&self, names: &[Name]) {
        self.shared.board().demand(names, Moment::now());
        self.wake();
    }

    /// Probes these now and waits, at most for `limit`, until each is settled: a first failure is looked into again.
    pub fn ask(&self, names: &[Name], limit: Duration) -> BTreeMap<Name, Health> {
        let mut board = self.shared.board();
        let before: Vec<_> = names.iter().map(|name| (name, board.probes(name))).collect();
        board.demand(names, Moment::now());
        self.wake();
        let pending = |board: &mut Board| before.iter().any(|(name, probes)| board.probes(name) <= *probes || !board.settled(name));
        let result = self.shared.probed.wait_timeout_while(board, limit, pending);
        board = result.unwrap_or_else(PoisonError::into_inner).0;
        names.iter().filter_map(|name| Some((name.clone(), board.health(name)?.clone()))).collect()
    }
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Prober {
    shared: Arc<Shared>,
    secret: Secret,
    told: Told,
    waiting: VecDeque<Job>,
    running: Vec<Running>,
}

impl Prober {
    fn run(mut self) {
        loop {
            let due = self.shared.board().due(Moment::now());
            self.waiting.extend(due);
            while self.running.len() < AT_ONCE
                && let Some(job) = self.waiting.pop_front()
            {
                self.start(job);
            }
            if let Err(error) = self.wait() {
                warn!(%error, "could not wait for probes");
                thread::sleep(Duration::from_secs(1));
            }
            self.settle();
        }
    }

    fn start(&mut self, job: Job) {
        let password = job.upstream.password.as_deref().and_then(|name| (self.secret)(name));
        self.running.push(Running::begin(job, password, Instant::now()));
    }

    /// Until something can be done: for an attempt, for the board, or because of the time.
    fn wait(&mut self) -> io::Result<()> {
        let next = self.running.iter().filter_map(Running::next).min();
        // What came to be due while all places were taken begins when one is free.
        let next = if self.running.len() < AT_ONCE { next.into_iter().chain([self.shared.board().next()]).min() } else { next };
        let limit = next.map_or(Duration::from_secs(1), |next| next.saturating_duration_since(Instant::now()));
        // Rounded up: one that is too early by half a millisecond would spin.
        let limit = PollTimeout::try_from(limit + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut polled = vec![PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN)];
        polled.extend(self.running.iter().flat_map(Running::polled));
        match poll(&mut polled, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<_> = polled.iter().map(|polled| polled.any().unwrap_or(true)).collect();
        if ready[0] {
            let _ = self.shared.wake.read();
        }
        let mut ready = ready[1..].iter().copied();
        let now = Instant::now();
        self.running.iter_mut().for_each(|running| running.advance(&mut ready, now));
        Ok(())
    }

    fn settle(&mut self) {
        for running in self.running.extract_if(.., |running| running.end.is_some()) {
            let (job, began) = (running.job, running.began);
            let now = Moment::now();
            let mut board = self.shared.board();
            let changed = match running.end {
                Some(End::Told(outcome)) if job.learning => {
                    debug!(upstream = %job.name, may = outcome.is_ok(), "tried to say everything at once");
                    board.learned(&job.name, job.epoch, outcome.is_ok());
                    continue;
                }
                Some(End::Told(outcome)) => board.probed(&job.name, Probe { epoch: job.epoch, began, outcome }, now),
                Some(End::NotTried(error)) => {
                    warn!(upstream = %job.name, %error, "could not probe");
                    board.postponed(&job.name, job.epoch, now);
                    continue;
                }
                None => continue,
            };
            let health = board.health(&job.name).cloned();
            drop(board);
            self.shared.probed.notify_all();
            if let Some(health) = health {
                debug!(upstream = %job.name, status = ?health.status, why = health.why, "probed");
                (self.told)(&job.name, &health, changed);
            }
        }
    }
}
