//! A small box for tests: values that could have come from an applier.

use std::collections::BTreeMap;

use policy::messages::forwarder::{Datagrams, Flow, ForwarderStatus, Health, HealthStatus, MappingState, MappingTraffic, UpstreamStatus};
use policy::messages::proxy::{Blocked, Effect, ProxyStatus};
use policy::messages::{Counters, DriftFinding, Event, Generation, LinkCounters, Status, Tally, Trial};
use policy::name::Name;
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
        safe_mode: None,
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

/// Clients of which some are carried and some blocked, each for another reason.
pub fn carried_policy() -> Sources {
    Sources::single("carried.yaml", include_str!("sample-carried.yaml"))
}

pub fn name(text: &str) -> Name {
    Name::try_from(text).expect("a name")
}

pub fn health(seconds_ago: u64, status: HealthStatus, latency_ms: u64) -> Health {
    let good = status != HealthStatus::Failed;
    Health {
        at: NOW - seconds_ago * 1000,
        status,
        latency_us: good.then_some(latency_ms * 1000),
        exit: good.then(|| "198.51.100.77".parse().expect("an address")),
        why: (!good).then(|| "the connection was refused".to_owned()),
    }
}

pub fn proxy_status() -> ProxyStatus {
    let up = |upstream: &str| Some(MappingState::Up { upstream: name(upstream) });
    let effect = |blocked: Option<Blocked>, state| Effect {
        permitted: blocked.is_none(),
        blocked,
        since: NOW - 7_200_000,
        state,
        today: 650_000_000,
        this_month: 12_400_000_000,
        daily: Some(1_000_000_000),
        monthly: None,
    };
    let why = "the connection was refused".to_owned();
    ProxyStatus {
        now: NOW,
        forwarder_connected: true,
        mappings: BTreeMap::from([
            (name("anna"), effect(None, up("berlin"))),
            (name("printer"), effect(Some(Blocked::UpstreamDown { why: why.clone() }), Some(MappingState::Down { why }))),
            (name("tv"), effect(Some(Blocked::DailyQuota), up("berlin"))),
        ]),
        upstreams: BTreeMap::from([
            (name("berlin"), health(12, HealthStatus::Healthy, 34)),
            (name("oslo"), health(9, HealthStatus::Failed, 0)),
        ]),
        secrets: vec![],
        secrets_missing: vec!["berlin-password".to_owned()],
    }
}

pub fn forwarder_status() -> ForwarderStatus {
    let history = |status: fn(u64) -> HealthStatus| (0..60).map(|n| health((60 - n) * 30, status(n), 30 + n % 7)).collect();
    let traffic = |state, flows| MappingTraffic {
        state,
        flows,
        up_bytes: 1_200_000,
        down_bytes: 64_000_000,
        connections: 120,
        failed_connections: 3,
    };
    let down = || MappingState::Down { why: "the connection was refused".to_owned() };
    ForwarderStatus {
        now: NOW,
        started_at: NOW - 3_600_000,
        generation: Some(1),
        upstreams: BTreeMap::from([
            (
                name("berlin"),
                UpstreamStatus { health: health(12, HealthStatus::Healthy, 34), history: history(|_| HealthStatus::Healthy), flows: 2 },
            ),
            (
                name("oslo"),
                UpstreamStatus {
                    health: health(9, HealthStatus::Failed, 0),
                    history: history(|n| if n < 40 { HealthStatus::Healthy } else { HealthStatus::Failed }),
                    flows: 0,
                },
            ),
        ]),
        mappings: BTreeMap::from([
            (name("anna"), traffic(MappingState::Up { upstream: name("berlin") }, 2)),
            (name("printer"), traffic(down(), 0)),
            (name("tv"), traffic(MappingState::Up { upstream: name("berlin") }, 0)),
        ]),
        flows: 2,
        descriptors: 41,
        descriptors_max: 20_000,
        pipes: 1,
        health_rounds: 120,
        refused_flows: 0,
        protocols: [("tcp".to_owned(), 2)].into(),
        datagrams: Datagrams {
            up: 310,
            down: 305,
            questions: 42,
            failed_questions: 1,
            dropped: [("upstream-without-udp".to_owned(), 4_200), ("limit".to_owned(), 0)].into(),
        },
    }
}

pub fn flows() -> Vec<Flow> {
    let flow = |id, client: &str, destination: &str, down_bytes| Flow {
        id,
        mapping: name("anna"),
        upstream: name("berlin"),
        protocol: "tcp".to_owned(),
        client: client.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
        began: NOW - 60_000,
        up_bytes: 12_000,
        down_bytes,
    };
    vec![flow(7, "192.168.2.10:50122", "203.0.113.80:443", 60_000_000), flow(9, "[fd00:2::10]:50123", "[2001:db8:80::1]:443", 4_000_000)]
}
