//! What a source has done lately: distinct things within a window, bounded in sources and in things.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// `T` is what is counted: a port, a flow.
pub struct Recent<T> {
    /// Microseconds.
    window: i64,
    /// Distinct things that make a finding.
    enough: usize,
    sources: BTreeMap<(IpAddr, Option<IpAddr>), Watched<T>>,
}

struct Watched<T> {
    begun: i64,
    things: Vec<T>,
}

/// Sources (with a destination, where it counts) that are watched at once.
const MOST: usize = 20_000;

impl<T: PartialEq> Recent<T> {
    pub fn new(window_seconds: i64, enough: usize) -> Self {
        Recent { window: window_seconds * 1_000_000, enough, sources: BTreeMap::new() }
    }

    /// True when this thing makes it enough; then counting begins anew.
    pub fn add(&mut self, source: IpAddr, destination: Option<IpAddr>, thing: T, now: i64) -> bool {
        if self.sources.len() >= MOST {
            self.forget(now);
        }
        let watched = self.sources.entry((source, destination)).or_insert_with(|| Watched { begun: now, things: Vec::new() });
        // A clock that went back begins a new window too.
        if !(0..=self.window).contains(&(now - watched.begun)) {
            *watched = Watched { begun: now, things: Vec::new() };
        }
        if !watched.things.contains(&thing) {
            watched.things.push(thing);
        }
        let enough = watched.things.len() >= self.enough;
        if enough {
            self.sources.remove(&(source, destination));
        }
        enough
    }

    /// Whose window is over; where that is not enough, who did least.
    fn forget(&mut self, now: i64) {
        let window = self.window;
        self.sources.retain(|_, watched| (0..=window).contains(&(now - watched.begun)));
        let mut fewer = 1;
        while self.sources.len() > MOST / 2 {
            self.sources.retain(|_, watched| watched.things.len() > fewer);
            fewer += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn enough_distinct_things_within_the_window_count_and_repeats_do_not() {
        let mut recent = Recent::new(10, 3);
        let source = "203.0.113.7".parse().unwrap();
        assert!(!recent.add(source, None, 1, 0));
        assert!(!recent.add(source, None, 1, SECOND));
        assert!(!recent.add(source, None, 2, 2 * SECOND));
        assert!(recent.add(source, None, 3, 3 * SECOND));
        assert!(!recent.add(source, None, 4, 4 * SECOND), "it begins anew");
        assert!(!recent.add(source, None, 5, 40 * SECOND), "the window is over");
        assert!(!recent.add(source, None, 6, 41 * SECOND));
        assert!(!recent.add(source, None, 7, 20 * SECOND), "a clock that goes back begins a new window");
    }

    #[test]
    fn a_flood_of_sources_does_not_grow_without_bound_nor_hide_the_busy_one() {
        let mut recent = Recent::new(60, 10);
        let busy: IpAddr = "203.0.113.7".parse().unwrap();
        let mut found = false;
        for n in 0..100_000_u32 {
            recent.add(IpAddr::from(n.to_be_bytes()), None, 0, i64::from(n));
            if n % 8_000 == 0 {
                found |= recent.add(busy, None, n, i64::from(n));
            }
        }
        assert!(recent.sources.len() <= MOST);
        assert!(found);
    }
}
