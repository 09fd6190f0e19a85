//! A heartbeat that threads can wait for: once a second, and at once when the state of the gate changed.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Ticks {
    beat: Mutex<Beat>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Beat {
    number: u64,
    stopped: bool,
}

impl Ticks {
    pub fn tick(&self) {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner).number += 1;
        self.changed.notify_all();
    }

    /// Ends every wait.
    pub fn stop(&self) {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.changed.notify_all();
    }

    pub fn stopped(&self) -> bool {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner).stopped
    }

    /// Waits for a beat after `seen`, at most so long; returns the number of the last one.
    pub fn wait(&self, seen: u64, at_most: Duration) -> u64 {
        let beat = self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(beat, at_most, |beat| beat.number <= seen && !beat.stopped);
        waited.map_or_else(|poisoned| poisoned.into_inner().0.number, |(beat, _)| beat.number)
    }
}
