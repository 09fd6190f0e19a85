//! One source that opens SSH sessions to one host again and again: each guess at a password is one session.

use policy::messages::observer::{EventKind, Severity};

use super::Finding;
use super::recent::Recent;
use crate::seen::Seen;

pub struct State(Recent<u16>);

impl Default for State {
    fn default() -> Self {
        // Eight sessions within a minute from eight ports: more than a person types, fewer than the slowest guesser.
        State(Recent::new(60, 8))
    }
}

impl State {
    pub fn see(&mut self, seen: &Seen, now: i64) -> Option<Finding> {
        let (source, destination, port) = (seen.source?, seen.destination?, seen.source_port?);
        if seen.kind != EventKind::Ssh || !self.0.add(source, Some(destination), port, now) {
            return None;
        }
        Some(Finding {
            rule: "ssh-brute-force".to_owned(),
            severity: Severity::Critical,
            title: format!("{source} opened many SSH sessions to {destination} within a minute"),
            source: Some(source),
            destination: Some(destination),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::flow;

    #[test]
    fn guessing_is_found_and_working_is_not() {
        let mut state = State::default();
        let session = |port| Seen { kind: EventKind::Ssh, source_port: Some(port), ..flow("203.0.113.7", "192.168.2.10", 22, true) };
        let mut find =
            |ports: std::ops::Range<u16>, pause: i64| ports.filter_map(|port| state.see(&session(port), i64::from(port) * pause)).count();
        assert_eq!(find(50_000..50_008, 1_000_000), 1);
        assert_eq!(find(51_000..51_020, 20_000_000), 0, "three sessions a minute are a person");
    }
}
