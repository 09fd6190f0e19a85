//! A small box for tests: values that could have come from an applier.

use std::collections::BTreeMap;

use policy::messages::{Counters, DriftFinding, Event, Generation, LinkCounters, Status, Tally, Trial};
use policy::{Digest, Sources};

use super::format::Clock;

/// Three zones with a port each, for policies that a test writes itself.
pub const ZONES: &str = include_str!("sample-zones.yaml");

pub const NOW: u64 = 1_795_000_000_000;

pub fn clock() -> Clock {
    Clock::new(NOW, "Europe/Berlin")
}

pub fn sources() -> Sources {
    Sources::single("office.yaml", include_str!("sample.yaml"))
}

pub fn status() -> Status {
    let generation = |number: u64, confirmed| Generation {
        number,
        digest: Digest(format!("{number:064x}")),
        by: "anna".to_owned(),
        installed_at: NOW - 86_400_000 * (15 - number),
        confirmed,
    };
    Status {
        now: NOW - 400,
        running: Some(generation(12, true)),
        trial: None,
        last_confirmed: Some(12),
        last_event: Some(Event { at: NOW - 3_600_000, text: "anna confirmed generation 12".to_owned() }),
        drift: vec![DriftFinding {
            what: "table inet portcullis, chain forward".to_owned(),
            expected: "policy drop".to_owned(),
            found: "policy accept".to_owned(),
            who: Some("nft (4711)".to_owned()),
            at: NOW - 60_000,
            repaired: true,
        }],
        kept: vec![generation(10, true), generation(11, true), generation(12, true)],
        features: vec!["table-owner".to_owned(), "table-persist".to_owned()],
    }
}

pub fn on_trial() -> Status {
    let trial = Trial { generation: 13, by: "anna".to_owned(), installed_at: NOW - 17_000, deadline: NOW + 43_000, back_to: Some(12) };
    Status { trial: Some(trial), ..status() }
}

pub fn counters(at: u64) -> Counters {
    let seconds = (at + 600_000 - NOW) / 1000;
    let link = |address: &str, speed: u64| LinkCounters {
        up: true,
        addresses: vec![address.to_owned()],
        rx_bytes: seconds * speed + (seconds % 17) * speed,
        tx_bytes: seconds * speed / 7 + (seconds % 11) * speed / 3,
        rx_packets: seconds,
        tx_packets: seconds,
    };
    let rules = [
        ("lan-out/web", 81_234, 91_000_000),
        ("lan-out/dns", 5_120, 410_000),
        ("posture/invalid", 311, 20_000),
        ("guest/web", 9_023, 8_100_000),
    ];
    Counters {
        at,
        rules: rules.into_iter().map(|(id, packets, bytes)| (id.to_owned(), Tally { packets, bytes })).collect(),
        links: BTreeMap::from([
            ("wan0".to_owned(), link("203.0.113.2/24", 1_250_000)),
            ("lan0".to_owned(), link("192.168.2.1/24", 900_000)),
        ]),
        connections: 312,
        connections_max: 262_144,
    }
}
