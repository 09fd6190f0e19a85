//! Many ports of one host, or one port of many hosts, knocked at by one source, with hardly an answer.

use policy::messages::observer::{EventKind, Severity};

use super::Finding;
use super::recent::Recent;
use crate::seen::Seen;

pub struct State {
    ports: Recent<u16>,
    hosts: Recent<(u16, std::net::IpAddr)>,
}

impl Default for State {
    fn default() -> Self {
        // A browser that meets a dead host tries two or three ports; a scanner's shortest list has a hundred.
        State { ports: Recent::new(60, 15), hosts: Recent::new(60, 30) }
    }
}

impl State {
    pub fn see(&mut self, seen: &Seen, now: i64) -> Option<Finding> {
        let knock = match seen.kind {
            EventKind::Flow => !seen.talked,
            EventKind::Drop => true,
            _ => false,
        };
        let (source, destination, port) = (seen.source?, seen.destination?, seen.destination_port?);
        if !knock {
            return None;
        }
        let scan = self.ports.add(source, Some(destination), port, now);
        let sweep = self.hosts.add(source, None, (port, destination), now);
        let title = match (scan, sweep) {
            (true, _) => format!("{source} tried many ports of {destination} within a minute"),
            (false, true) => format!("{source} knocked at many hosts within a minute, last at {destination} port {port}"),
            (false, false) => return None,
        };
        Some(Finding {
            rule: if scan { "port-scan" } else { "port-sweep" }.to_owned(),
            severity: Severity::Warning,
            title,
            source: Some(source),
            destination: scan.then_some(destination),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::flow;

    #[test]
    fn a_scan_is_found_and_browsing_is_not() {
        let mut state = State::default();
        let mut found: Vec<Finding> =
            (1..=100).filter_map(|port| state.see(&flow("203.0.113.7", "192.168.2.10", port, false), i64::from(port) * 1_000)).collect();
        assert_eq!(found.len(), 6, "{found:?}");
        assert_eq!(found.remove(0).rule, "port-scan");
        for n in 0..200 {
            assert_eq!(state.see(&flow("192.168.2.10", &format!("198.51.100.{n}"), 443, true), 0), None);
        }
    }

    #[test]
    fn a_sweep_over_hosts_is_found() {
        let mut state = State::default();
        let found: Vec<Finding> =
            (1..=40).filter_map(|n| state.see(&flow("203.0.113.7", &format!("192.168.2.{n}"), 23, false), 0)).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].rule.as_str(), found[0].destination), ("port-sweep", None));
    }

    #[test]
    fn a_slow_knock_now_and_then_is_none() {
        let mut state = State::default();
        for port in 1..=100 {
            assert_eq!(state.see(&flow("203.0.113.7", "192.168.2.10", port, false), i64::from(port) * 10_000_000), None);
        }
    }
}
