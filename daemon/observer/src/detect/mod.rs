//! Decisions over what was seen: state, event and time in, findings out. Each detector is one file, and none of them opens anything.
//!
//! All are bounded in memory: what is known of the quietest sources is forgotten first.

mod denials;
mod port_scan;
mod recent;
mod signature;
mod ssh_brute_force;

use std::net::IpAddr;

use policy::messages::observer::Severity;

use crate::seen::Seen;

/// Something that people should know of. What has the same rule, source and destination belongs to one alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub rule: String,
    pub severity: Severity,
    /// One sentence.
    pub title: String,
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
}

#[derive(Default)]
pub struct Detectors {
    port_scan: port_scan::State,
    ssh_brute_force: ssh_brute_force::State,
    denials: denials::State,
}

impl Detectors {
    /// `now`: microseconds since the epoch, by the event's own clock.
    pub fn see(&mut self, seen: &Seen, now: i64) -> impl Iterator<Item = Finding> {
        [signature::see(seen), self.port_scan.see(seen, now), self.ssh_brute_force.see(seen, now), self.denials.see(seen, now)]
            .into_iter()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::messages::observer::EventKind;

    pub(super) fn flow(source: &str, destination: &str, port: u16, talked: bool) -> Seen {
        Seen {
            at: 0,
            kind: EventKind::Flow,
            source: source.parse().ok(),
            source_port: Some(50_000),
            destination: destination.parse().ok(),
            destination_port: Some(port),
            protocol: Some(6),
            severity: Severity::Info,
            flow: None,
            signature: None,
            message: "".into(),
            blocked: false,
            talked,
            line: 0..0,
        }
    }
}
