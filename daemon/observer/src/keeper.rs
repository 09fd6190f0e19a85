//! One thread that takes what was read, stores it, looks for what people should know of, and tells those who follow.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use policy::messages::observer::Alert;
use tracing::error;

use crate::alerts::{Alerts, Raised};
use crate::detect::Detectors;
use crate::eve;
use crate::queue::Queue;
use crate::seen::Batch;
use crate::store::Store;

/// What the keeper and those who ask have in common.
pub struct Shared {
    pub alerts: Mutex<Alerts>,
    pub stored: AtomicU64,
    /// Events that could not be stored, beside those for which there was no memory.
    pub lost: AtomicU64,
    pub lag_us: AtomicU64,
    followers: Mutex<Vec<mpsc::SyncSender<Alert>>>,
}

/// Events in one commit, about.
const EVENTS: usize = 5_000;
const PATIENCE: Duration = Duration::from_millis(200);
/// Alerts that a follower may be behind; one who is further behind is cut off and asks for the list.
const BEHIND: usize = 256;

impl Shared {
    pub fn new(alerts: Alerts) -> Self {
        Shared {
            alerts: Mutex::new(alerts),
            stored: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            lag_us: AtomicU64::new(0),
            followers: Mutex::default(),
        }
    }

    pub fn alerts(&self) -> MutexGuard<'_, Alerts> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every alert that is opened or grows from now on.
    pub fn follow(&self) -> mpsc::Receiver<Alert> {
        let (sender, receiver) = mpsc::sync_channel(BEHIND);
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    fn tell(&self, alerts: &[Alert]) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.retain(|follower| alerts.iter().all(|alert| follower.try_send(alert.clone()).is_ok()));
    }
}

/// Until the queue is closed and empty.
pub fn run(queue: &Queue, store: &mut Store, shared: &Shared) {
    let mut detectors = Detectors::default();
    let mut told = Instant::now();
    while let Some(batches) = queue.take(EVENTS, PATIENCE) {
        if !batches.is_empty() {
            keep(&batches, store, shared, &mut detectors);
        }
        // The supervisor hears from the thread that does the work, so that one that hangs is missed.
        if told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

fn keep(batches: &[Batch], store: &mut Store, shared: &Shared, detectors: &mut Detectors) {
    let count = batches.iter().map(|batch| batch.seen.len() as u64).sum();
    let first = match store.append(batches) {
        Ok(first) => {
            shared.stored.fetch_add(count, Relaxed);
            Some(first)
        }
        Err(error) => {
            shared.lost.fetch_add(count, Relaxed);
            store.troubles.tell(format!("{count} events were lost: {}", crate::store::said(&error)));
            None
        }
    };
    // An alert is raised also for what could not be stored.
    raise(found(batches, detectors, first.unwrap_or(0)), store, shared);
    if let Some(arrived) = batches.first().map(|batch| batch.arrived) {
        shared.lag_us.store((eve::now() - arrived).max(0).cast_unsigned(), Relaxed);
    }
}

type Key = (String, Option<IpAddr>, Option<IpAddr>);

/// What the detectors make of it, counted by kind.
fn found(batches: &[Batch], detectors: &mut Detectors, first: u64) -> BTreeMap<Key, Raised> {
    let mut found: BTreeMap<Key, Raised> = BTreeMap::new();
    for (seen, event) in batches.iter().flat_map(|batch| &batch.seen).zip(first..) {
        for finding in detectors.see(seen, seen.at) {
            let key = (finding.rule.clone(), finding.source, finding.destination);
            let raised = found.entry(key).or_insert(Raised { finding, count: 0, at: seen.at, event });
            raised.count += 1;
            raised.at = raised.at.max(seen.at);
        }
    }
    found
}

fn raise(found: BTreeMap<Key, Raised>, store: &Store, shared: &Shared) {
    if found.is_empty() {
        return;
    }
    let raised = shared.alerts().raise(found.into_values().collect());
    match raised {
        Ok(alerts) => shared.tell(&alerts),
        Err(error) => {
            error!(%error, "alerts could not be kept");
            store.troubles.tell(format!("alerts could not be kept: {error}"));
        }
    }
}
