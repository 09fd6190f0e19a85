//! Deadlines of a worker's flows: a ring of quarter seconds.
//!
//! Every flow has one entry that counts. Bytes only move the flow's own deadline; when its entry comes up too early, it is put back
//! in, and a deadline that comes before its entry gets a new one. So no packet costs anything here. A flow that ended leaves an entry
//! whose key opens nothing.

use std::time::{Duration, Instant};

use super::slots::Key;

pub struct Wheel {
    began: Instant,
    /// Quarter seconds since `began` that have been looked at.
    at: u32,
    ring: Vec<Vec<Key>>,
}

/// In quarter seconds since the worker began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u32);

const TICK: Duration = Duration::from_millis(250);
const SLOTS: u32 = 256;

impl Wheel {
    pub fn new(now: Instant) -> Wheel {
        Wheel { began: now, at: 0, ring: vec![vec![]; SLOTS as usize] }
    }

    /// Says when it comes up: a deadline beyond the ring's end is put at its end, and from there on again.
    pub fn insert(&mut self, key: Key, due: Tick) -> Tick {
        let at = due.0.clamp(self.at + 1, self.at + SLOTS - 1);
        if let Some(slot) = self.ring.get_mut((at % SLOTS) as usize) {
            slot.push(key);
        }
        Tick(at)
    }

    /// What has come up, to be looked at; afterwards each is inserted again or gone.
    pub fn due(&mut self, now: Instant, due: &mut Vec<Key>) {
        let until = (now.saturating_duration_since(self.began).as_nanos() / TICK.as_nanos()) as u32;
        while self.at < until {
            self.at += 1;
            if let Some(slot) = self.ring.get_mut((self.at % SLOTS) as usize) {
                due.append(slot);
                // After a burst the memory is given back.
                slot.shrink_to(1024);
            }
        }
    }

    pub fn now(&self) -> Tick {
        Tick(self.at)
    }

    /// Rounded up: never too early.
    pub fn after(&self, time: Duration) -> Tick {
        Tick(self.at.saturating_add(1).saturating_add((time.as_millis() / TICK.as_millis()).min(u128::from(u32::MAX / 2)) as u32))
    }

    /// When to look again.
    pub fn next(&self, now: Instant) -> Duration {
        (self.began + TICK * (self.at + 1)).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots::Slots;
    use super::*;

    #[test]
    fn what_is_due_comes_up_in_time_and_never_early() {
        let began = Instant::now();
        let mut wheel = Wheel::new(began);
        let mut slots = Slots::new();
        for seconds in [1, 5, 63, 200] {
            let key = slots.insert(seconds);
            wheel.insert(key, wheel.after(Duration::from_secs(seconds)));
        }
        let deadline = |seconds: u64| Tick(seconds as u32 * 4 + 1);
        let mut came = vec![];
        for quarter in 0..1000 {
            let now = began + TICK * quarter;
            let mut due = vec![];
            wheel.due(now, &mut due);
            for key in due {
                let seconds = *slots.get(key).unwrap();
                let deadline = deadline(seconds);
                if deadline > wheel.now() {
                    wheel.insert(key, deadline);
                } else {
                    let late = now - (began + Duration::from_secs(seconds));
                    assert!(late <= TICK * 2, "{seconds} s came {late:?} late");
                    came.push(seconds);
                }
            }
        }
        assert_eq!(came, [1, 5, 63, 200]);
    }
}
