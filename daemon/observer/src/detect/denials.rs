//! One source that is refused again and again.

use policy::messages::observer::{EventKind, Severity};

use super::Finding;
use super::recent::Recent;
use crate::seen::Seen;

pub struct State(Recent<(Option<u16>, Option<u16>)>);

impl Default for State {
    fn default() -> Self {
        // Retries of one connection have the same ports and count once.
        State(Recent::new(60, 50))
    }
}

impl State {
    pub fn see(&mut self, seen: &Seen, now: i64) -> Option<Finding> {
        let source = seen.source?;
        if seen.kind != EventKind::Drop || !self.0.add(source, None, (seen.source_port, seen.destination_port), now) {
            return None;
        }
        Some(Finding {
            rule: "repeated-denials".to_owned(),
            severity: Severity::Warning,
            title: format!("{source} was refused by the policy more than fifty times within a minute"),
            source: Some(source),
            destination: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::flow;

    #[test]
    fn many_refused_connections_are_found_and_retries_of_one_are_not() {
        let drop = |port| Seen { kind: EventKind::Drop, source_port: Some(port), ..flow("203.0.113.7", "192.168.2.10", 22, false) };
        let mut state = State::default();
        assert_eq!((0..1_000).filter_map(|_| state.see(&drop(50_000), 0)).count(), 0);
        assert_eq!((50_001..50_060).filter_map(|port| state.see(&drop(port), 0)).count(), 1);
    }
}
