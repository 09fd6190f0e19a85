//! Two mappings, one with a single upstream, one with a group of two.

use std::collections::{BTreeMap, BTreeSet};

use policy::messages::forwarder::{FromForwarder, Health, HealthStatus, MappingState};
use policy::name::Name;
use policy::plan::proxy::{Dns, Group, Mapping, Proxy, Quota, Strategy, TcpCapture, Upstream, UpstreamKind, Via};

pub const EXIT: &str = "198.51.100.7";

pub fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

pub fn proxy() -> Proxy {
    let upstream = |port| Upstream {
        kind: UpstreamKind::Socks5,
        address: "198.51.100.1".parse().unwrap(),
        port,
        username: None,
        password: None,
        server_name: None,
        authority: None,
        udp: false,
        probe: "http://198.51.100.2/".into(),
        expect_exit: vec![],
    };
    let group = Group { strategy: Strategy::Priority, members: vec![name("lon"), name("par")], fail_after: 2, recover_after: 2 };
    Proxy {
        upstreams: BTreeMap::from([(name("lon"), upstream(1080)), (name("par"), upstream(1081))]),
        groups: BTreeMap::from([(name("both"), group)]),
        mappings: BTreeMap::from([
            (name("one"), mapping(1, "192.168.2.10/32", Via::Upstream(name("lon")))),
            (name("many"), mapping(2, "192.168.2.64/26", Via::Group(name("both")))),
        ]),
    }
}

pub fn mapping(id: u16, clients: &str, via: Via) -> Mapping {
    Mapping {
        id,
        clients: BTreeSet::from([clients.parse().unwrap()]),
        macs: BTreeSet::new(),
        interfaces: BTreeSet::new(),
        via,
        tcp: TcpCapture::Redirect,
        udp: false,
        dns: Dns::Drop,
        quota: Quota::default(),
        schedule: None,
        enabled: true,
    }
}

pub fn up(generation: u64, mapping: &str, upstream: &str) -> FromForwarder {
    FromForwarder::Mappings { generation, states: BTreeMap::from([(name(mapping), MappingState::Up { upstream: name(upstream) })]) }
}

pub fn down(generation: u64, mapping: &str) -> FromForwarder {
    FromForwarder::Mappings { generation, states: BTreeMap::from([(name(mapping), MappingState::Down { why: "refused".into() })]) }
}

pub fn probe(generation: u64, upstream: &str, exit: Option<&str>) -> FromForwarder {
    probe_at(1, generation, upstream, exit)
}

pub fn probe_at(at: u64, generation: u64, upstream: &str, exit: Option<&str>) -> FromForwarder {
    let health = Health {
        at,
        status: if exit.is_some() { HealthStatus::Healthy } else { HealthStatus::Failed },
        latency_us: None,
        exit: exit.map(|exit| exit.parse().unwrap()),
        why: exit.is_none().then(|| "refused".into()),
    };
    FromForwarder::Health { generation, upstream: name(upstream), health }
}
