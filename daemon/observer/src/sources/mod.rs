//! Where events come from. Each source is one file, runs in a thread of its own, and hands batches to the queue.

pub mod file;
pub mod lines;
pub mod stream;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use policy::messages::observer::SourceStatus;

/// How a source fares, for the page.
#[derive(Debug)]
pub struct Gauge {
    name: &'static str,
    open: AtomicBool,
    events: AtomicU64,
    garbled: AtomicU64,
    last: AtomicI64,
}

impl Gauge {
    pub const fn new(name: &'static str) -> Self {
        Gauge { name, open: AtomicBool::new(false), events: AtomicU64::new(0), garbled: AtomicU64::new(0), last: AtomicI64::new(0) }
    }

    pub fn is_open(&self, open: bool) {
        self.open.store(open, Relaxed);
    }

    pub fn read(&self, events: u64, garbled: u64, now: i64) {
        self.events.fetch_add(events, Relaxed);
        self.garbled.fetch_add(garbled, Relaxed);
        if events > 0 {
            self.last.store(now, Relaxed);
        }
    }

    pub fn garbled(&self) -> u64 {
        self.garbled.load(Relaxed)
    }

    pub fn status(&self) -> SourceStatus {
        let last = Some(self.last.load(Relaxed)).filter(|last| *last > 0);
        SourceStatus { name: self.name.to_owned(), open: self.open.load(Relaxed), events: self.events.load(Relaxed), last }
    }
}
