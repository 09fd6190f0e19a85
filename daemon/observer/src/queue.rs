//! What was read and not yet stored: bounded in bytes, so that a flood costs history and never memory.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::seen::Batch;

pub struct Queue {
    inner: Mutex<Inner>,
    came: Condvar,
    most: usize,
}

#[derive(Default)]
struct Inner {
    batches: VecDeque<Batch>,
    bytes: usize,
    dropped: u64,
    closed: bool,
}

impl Queue {
    /// `most`: bytes that may wait.
    pub fn new(most: usize) -> Self {
        Queue { inner: Mutex::default(), came: Condvar::new(), most }
    }

    /// Takes the batch, or counts its events as dropped where there is no room. A source never waits for the disk.
    pub fn push(&self, batch: Batch) {
        let weight = batch.weight();
        let mut inner = self.lock();
        if inner.bytes + weight > self.most {
            inner.dropped += batch.seen.len() as u64;
            return;
        }
        inner.bytes += weight;
        inner.batches.push_back(batch);
        drop(inner);
        self.came.notify_one();
    }

    /// Everything that waits, up to about `events`; empty when nothing came within `patience`. None: closed, and nothing is left.
    pub fn take(&self, events: usize, patience: Duration) -> Option<Vec<Batch>> {
        let mut inner = self.lock();
        if inner.batches.is_empty() && !inner.closed {
            inner = self.came.wait_timeout(inner, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut taken = Vec::new();
        let mut count = 0;
        while count < events {
            let Some(batch) = inner.batches.pop_front() else { break };
            inner.bytes -= batch.weight();
            count += batch.seen.len();
            taken.push(batch);
        }
        (!taken.is_empty() || !inner.closed).then_some(taken)
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.came.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: usize) -> Batch {
        let seen = crate::eve::read(br#"{"timestamp":"2026-11-28T06:33:01.123456+0000","event_type":"flow"}"#).unwrap();
        Batch { lines: vec![0; bytes], seen: vec![seen], ..Batch::default() }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_what_fits_is_kept() {
        let queue = Queue::new(10_000);
        for _ in 0..20 {
            queue.push(batch(1_000));
        }
        let kept = queue.take(100, Duration::ZERO).unwrap().len() as u64;
        assert!((5..10).contains(&kept), "{kept}");
        assert_eq!(queue.dropped(), 20 - kept);
        queue.push(batch(1_000));
        assert_eq!(queue.take(100, Duration::ZERO).unwrap().len(), 1, "there is room again");
    }

    #[test]
    fn a_closed_queue_gives_what_it_holds_and_then_ends() {
        let queue = Queue::new(10_000);
        queue.push(batch(10));
        queue.close();
        assert_eq!(queue.take(100, Duration::from_secs(10)).unwrap().len(), 1);
        assert!(queue.take(100, Duration::from_secs(10)).is_none());
    }
}
