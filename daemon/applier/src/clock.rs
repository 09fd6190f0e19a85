//! The two clocks, read in one place and passed in everywhere else.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the machine started, sleep included (CLOCK_BOOTTIME). Deadlines are kept by it: nobody can set it.
    pub boot: Duration,
    /// Milliseconds since the epoch, for people and records. May jump.
    pub wall: u64,
}

pub fn now() -> Now {
    let read = |clock| clock_gettime(clock).map(Duration::from).unwrap_or_default();
    Now { boot: read(ClockId::CLOCK_BOOTTIME), wall: read(ClockId::CLOCK_REALTIME).as_millis() as u64 }
}

/// `2026-11-21 10:15:00 UTC`
pub fn shown(wall: u64) -> String {
    jiff::Timestamp::from_millisecond(wall as i64).map_or_else(|_| format!("{wall} ms"), |at| at.strftime("%F %T UTC").to_string())
}
