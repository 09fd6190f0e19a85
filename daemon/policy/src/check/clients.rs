//! Who is mapped: each client by one mapping only, behind a port of ours, and with no family left over in which it could leave by itself.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::Whole;
use super::ranges::{Family, number, of_net};
use super::report::{Report, Spot};
use super::upstreams::is_own;
use crate::compile::{Territory, port_of};
use crate::model::{ClientTerm, Config, DhcpFamily, Mac, ProxyMapping, Resource};
use crate::name::{IfName, Name};

const MOST_CLIENTS: usize = 100_000;

/// A prefix that some mapping names, and where.
#[derive(Clone, Copy)]
struct Named<'c> {
    mapping: &'c Name,
    resource: &'c Resource<ProxyMapping>,
    at: usize,
    net: IpNet,
}

pub(super) fn check(whole: &Whole, report: &mut Report) {
    let mappings = &whole.config.proxy_mappings;
    let terms: usize = mappings.values().map(|mapping| mapping.spec.clients.len()).sum();
    if terms > MOST_CLIENTS {
        report.0.general(format!("the mappings name {terms} clients; at most {MOST_CLIENTS} are possible: write prefixes"));
        return;
    }
    for (name, mapping) in mappings {
        if mapping.spec.clients.is_empty() {
            report
                .resource("ProxyMapping", name, mapping)
                .field("clients")
                .say("a mapping without clients carries nobody; name at least one");
        }
    }
    hardware_addresses(whole.config, report);
    let named = named(whole.config);
    overlaps(&named, report);
    upstreams_among_clients(whole.config, &named, report);
    let gaps = &whole.config.gaps;
    if ["Interface", "Route", "Zone"].iter().all(|kind| !gaps.may_hide_any(kind)) {
        let territory = Territory::of(whole.config);
        for (name, mapping) in mappings {
            places(whole, &territory, &mut report.resource("ProxyMapping", name, mapping), &mapping.spec);
        }
    }
}

/// Sorted by where they begin, the widest first.
fn named(config: &Config) -> Vec<Named<'_>> {
    let mut found = Vec::new();
    for (mapping, resource) in &config.proxy_mappings {
        for (at, client) in resource.spec.clients.iter().enumerate() {
            if let ClientTerm::Net(net) = client {
                found.push(Named { mapping, resource, at, net: net.0 });
            }
        }
    }
    found.sort_by_key(|named| {
        (of_net(&named.net).0, of_net(&named.net).1.0, std::cmp::Reverse(of_net(&named.net).1.1), named.mapping, named.at)
    });
    found
}

/// Prefixes nest or are apart: one that begins before the end of an earlier one lies in it.
fn overlaps(named: &[Named], report: &mut Report) {
    let mut around: Option<&Named> = None;
    for here in named {
        match around.filter(|wider| wider.net.contains(&here.net)) {
            Some(wider) => {
                let (client, other) = (shown(&here.net), shown(&wider.net));
                let (mut spot, mine) = (report.resource("ProxyMapping", here.mapping, here.resource), here.mapping == wider.mapping);
                let mut spot = spot.index("clients", here.at);
                match (mine, client == other) {
                    (true, true) => spot.say(format!("{client} stands here twice; keep one")),
                    (true, false) => spot.say(format!("{client} lies in {other}, which stands here too; remove it")),
                    (false, _) => spot.say(format!(
                        "{client} is a client of ProxyMapping {} already ({other}, {}); a client has one way out: remove it from one of them",
                        wider.mapping, wider.resource.origin
                    )),
                }
            }
            None => around = Some(here),
        }
    }
}

fn hardware_addresses(config: &Config, report: &mut Report) {
    let mut seen: BTreeMap<Mac, (&Name, &Resource<ProxyMapping>)> = BTreeMap::new();
    for (name, mapping) in &config.proxy_mappings {
        for (at, client) in mapping.spec.clients.iter().enumerate() {
            let ClientTerm::Mac(mac) = client else { continue };
            let message = match seen.get(mac) {
                None => {
                    seen.insert(*mac, (name, mapping));
                    continue;
                }
                Some((first, _)) if *first == name => format!("{mac} stands here twice; keep one"),
                Some((first, resource)) => format!(
                    "{mac} is a client of ProxyMapping {first} already ({}); a client has one way out: remove it from one of them",
                    resource.origin
                ),
            };
            report.resource("ProxyMapping", name, mapping).index("clients", at).say(message);
        }
    }
}

/// Its own traffic would be carried to itself.
fn upstreams_among_clients(config: &Config, named: &[Named], report: &mut Report) {
    let mut widest: Vec<&Named> = Vec::new();
    for here in named {
        if widest.last().is_none_or(|wider| !wider.net.contains(&here.net)) {
            widest.push(here);
        }
    }
    for (name, upstream) in &config.upstreams {
        let address = upstream.spec.address;
        let key = (Family::of(address), number(address));
        let before = widest.partition_point(|client| (of_net(&client.net).0, of_net(&client.net).1.0) <= key);
        let Some(client) = widest[..before].last().filter(|client| client.net.contains(&address)) else { continue };
        let (mapping, prefix) = (client.mapping, shown(&client.net));
        let message = format!(
            "{address} is itself a client of ProxyMapping {mapping} ({prefix}); what carries clients cannot be carried: take it out of the clients"
        );
        report.resource("Upstream", name, upstream).field("address").say(message);
    }
}

/// How the clients behind one port are named.
#[derive(Default)]
struct Counted {
    hosts: [usize; 2],
    prefixes: [usize; 2],
    /// The first entry of the family.
    first: [Option<usize>; 2],
}

fn places(whole: &Whole, territory: &Territory, spot: &mut Spot, mapping: &ProxyMapping) {
    let mut behind: BTreeMap<&IfName, Counted> = BTreeMap::new();
    for (at, client) in mapping.clients.iter().enumerate() {
        let ClientTerm::Net(net) = client else { continue };
        let Some(ports) = territory.ports_of(&net.0) else {
            spot.index("clients", at).say(format!(
                "{net} lies in no network behind a port of the box, so nobody could come from there; write addresses of such a network, or add an \
                 Interface or Route for it"
            ));
            continue;
        };
        let host = net.0.prefix_len() == net.0.max_prefix_len();
        if host && is_own(whole, net.0.addr()) {
            spot.index("clients", at).say(format!("{net} is the box itself; write the address of a client"));
            continue;
        }
        let family = Family::of(net.0.addr()) as usize;
        for port in ports {
            let counted = behind.entry(port).or_default();
            let count = if host { &mut counted.hosts } else { &mut counted.prefixes };
            count[family] += 1;
            counted.first[family].get_or_insert(at);
        }
    }
    let hardware = mapping.clients.iter().filter(|client| matches!(client, ClientTerm::Mac(_))).count();
    let mut told = BTreeSet::new();
    for (port, counted) in behind {
        for family in Family::BOTH {
            let Some(at) = counted.first[family as usize] else { continue };
            if let Some(what) = left_over(whole.config, port, &counted, hardware, family)
                && told.insert(at)
            {
                spot.index("clients", at).say(what);
            }
        }
    }
}

/// What is wrong where clients that are named in this family could leave in the other.
fn left_over(config: &Config, port: &IfName, counted: &Counted, hardware: usize, family: Family) -> Option<String> {
    let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
    let interface = &config.interfaces.get(port)?.spec;
    let zone = &config.zones.get(&interface.zone)?.spec;
    if zone.proxied || !may_come_from(port, config, other) && zone.anti_spoofing {
        return None;
    }
    let (here, there) = (family as usize, other as usize);
    let covered = match (counted.prefixes[here], counted.prefixes[there]) {
        (_, 1..) => true,
        (1.., 0) => false,
        // A client has one IPv4 address, and often several of IPv6.
        (0, 0) if family == Family::V4 => counted.hosts[there] + hardware >= counted.hosts[here],
        (0, 0) => counted.hosts[there] + hardware > 0,
    };
    if covered {
        return None;
    }
    let by_hand = match counted.prefixes[here] {
        0 => format!("add the {other} address of each, name it by its hardware address"),
        _ => format!("add their {other} prefix"),
    };
    Some(format!(
        "clients behind {port} are named here by {family} and not all by {other}, in which they could leave without the upstream; {by_hand}, or set \
         `proxied: true` on Zone {}",
        interface.zone
    ))
}

/// Whether the port has a network of the family, or may lease one, or a route leads to one.
fn may_come_from(port: &IfName, config: &Config, family: Family) -> bool {
    let Some(interface) = config.interfaces.get(port) else { return false };
    let leased = if family == Family::V4 { DhcpFamily::Ipv4 } else { DhcpFamily::Ipv6 };
    let own = interface.spec.addresses.iter().any(|net| Family::of(net.addr()) == family);
    let routed =
        config.routes.values().any(|route| of_net(&route.spec.destination).0 == family && port_of(config, &route.spec.kind) == Some(port));
    own || routed || interface.spec.dhcp.contains(&leased)
}

fn shown(net: &IpNet) -> String {
    crate::model::Prefix(*net).to_string()
}
