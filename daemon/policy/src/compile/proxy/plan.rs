//! What the forwarder and the applier are told.

use std::collections::BTreeSet;

use crate::check::ranges::Family;
use crate::compile::antispoof::is_uplink;
use crate::compile::{Context, schedules};
use crate::model::{self, CaptureMode, ClientTerm, DnsMode, GroupStrategy, ProxyMapping, UpstreamType};
use crate::name::{IfName, Name};
use crate::plan::proxy::{Dns, Group, Mapping, MappingSchedule, Proxy, Quota, Strategy, TcpCapture, Upstream, UpstreamKind, Via};

use super::ids;

const BITS_OF_A_MEGABIT: u64 = 1_000_000;
const BYTES_OF_A_MEGABYTE: u64 = 1_000_000;

pub(in crate::compile) fn plan(context: &Context<'_>) -> Proxy {
    let config = context.config;
    let ids = ids::ids(config.proxy_mappings.keys());
    let mappings = config.proxy_mappings.iter().filter_map(|(name, resource)| {
        let mapping = mapping(context, *ids.get(name)?, &resource.spec)?;
        Some((name.clone(), mapping))
    });
    Proxy {
        upstreams: config.upstreams.iter().map(|(name, resource)| (name.clone(), upstream(&resource.spec))).collect(),
        groups: config.upstream_groups.iter().map(|(name, resource)| (name.clone(), group(&resource.spec))).collect(),
        mappings: mappings.collect(),
    }
}

fn upstream(upstream: &model::Upstream) -> Upstream {
    let text = |pem: &Option<model::Pem>| pem.as_ref().map(|pem| pem.0.clone());
    let (kind, udp, server_name, authority) = match &upstream.kind {
        UpstreamType::Socks5 { udp } => (UpstreamKind::Socks5, *udp, None, None),
        UpstreamType::Socks5Tls { server_name, authority } => (UpstreamKind::Socks5Tls, false, server_name.clone(), text(authority)),
        UpstreamType::HttpConnect {} => (UpstreamKind::HttpConnect, false, None, None),
        UpstreamType::HttpsConnect { server_name, authority } => (UpstreamKind::HttpsConnect, false, server_name.clone(), text(authority)),
    };
    Upstream {
        kind,
        address: upstream.address,
        port: upstream.port,
        username: upstream.username.clone(),
        password: upstream.password_secret.as_ref().map(Name::to_string),
        server_name,
        authority,
        udp,
        probe: upstream.probe.clone(),
        expect_exit: upstream.expect_exit.iter().map(|prefix| prefix.0).collect(),
    }
}

fn group(group: &model::UpstreamGroup) -> Group {
    Group {
        strategy: match group.strategy {
            GroupStrategy::Priority => Strategy::Priority,
            GroupStrategy::RoundRobin => Strategy::RoundRobin,
            GroupStrategy::Latency => Strategy::Latency,
        },
        members: group.members.clone(),
        fail_after: group.fail_after,
        recover_after: group.recover_after,
    }
}

/// None for a mapping without a way out, which `check` does not let through.
fn mapping(context: &Context<'_>, id: u16, mapping: &ProxyMapping) -> Option<Mapping> {
    let via = match (&mapping.upstream, &mapping.group) {
        (Some(upstream), _) => Via::Upstream(upstream.clone()),
        (None, group) => Via::Group(group.clone()?),
    };
    let bits = |mbit: Option<u32>| mbit.map(|mbit| u64::from(mbit) * BITS_OF_A_MEGABIT);
    let bytes = |mb: Option<u64>| mb.map(|mb| mb.saturating_mul(BYTES_OF_A_MEGABYTE));
    Some(Mapping {
        id,
        enabled: mapping.enabled,
        clients: nets(mapping).collect(),
        macs: mapping
            .clients
            .iter()
            .filter_map(|client| if let ClientTerm::Mac(mac) = client { Some(mac.to_string()) } else { None })
            .collect(),
        interfaces: ports(context, mapping),
        via,
        tcp: match mapping.tcp {
            CaptureMode::Redirect => TcpCapture::Redirect,
            CaptureMode::Tproxy => TcpCapture::Tproxy,
        },
        udp: mapping.udp,
        dns: match &mapping.dns {
            DnsMode::Drop {} => Dns::Drop,
            DnsMode::Proxied {} => Dns::Proxied,
            DnsMode::DohStub { doh_url, doh_server, doh_authority } => {
                Dns::DohStub { url: doh_url.clone(), server: *doh_server, authority: doh_authority.as_ref().map(|pem| pem.0.clone()) }
            }
        },
        quota: Quota {
            down: bits(mapping.down_mbit),
            up: bits(mapping.up_mbit),
            daily: bytes(mapping.daily_mb),
            monthly: bytes(mapping.monthly_mb),
        },
        schedule: mapping
            .schedule
            .as_ref()
            .map(|schedule| MappingSchedule { timezone: context.system.timezone.clone(), open: schedules::windows(schedule) }),
    })
}

fn nets(mapping: &ProxyMapping) -> impl Iterator<Item = ipnet::IpNet> + '_ {
    mapping.clients.iter().filter_map(|client| if let ClientTerm::Net(prefix) = client { Some(prefix.0) } else { None })
}

/// Where the clients are. One that is known by its hardware address alone can be behind every port but those that lead away.
fn ports(context: &Context<'_>, mapping: &ProxyMapping) -> BTreeSet<IfName> {
    let mut found: BTreeSet<IfName> = nets(mapping).flat_map(|net| context.territory.ports_of(&net).unwrap_or_default()).cloned().collect();
    if mapping.clients.iter().any(|client| matches!(client, ClientTerm::Mac(_))) {
        let interfaces = &context.config.interfaces;
        let inner = interfaces
            .iter()
            .filter(|(port, interface)| !Family::BOTH.into_iter().any(|family| is_uplink(context.config, port, &interface.spec, family)));
        found.extend(inner.map(|(port, _)| port.clone()));
    }
    found
}

/// `02:00:00:00:00:01`
pub fn octets(mac: &str) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> = mac.split(':').map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
    octets?.try_into().ok()
}

/// Upstreams that may carry this mapping.
pub fn upstreams<'p>(proxy: &'p Proxy, via: &'p Via) -> impl Iterator<Item = &'p Upstream> {
    let names = match via {
        Via::Upstream(name) => std::slice::from_ref(name),
        Via::Group(name) => proxy.groups.get(name).map_or(&[][..], |group| &group.members),
    };
    names.iter().filter_map(|name| proxy.upstreams.get(name))
}
