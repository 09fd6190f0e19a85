//! A set of packets in words: services, and addresses where they are narrowed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::pieces::{Services, numbers, services};
use super::{Target, with_port};
use crate::explain::{protocol_words, service_words};
use crate::simulate::Nat;
use crate::simulate::packet::address;
use crate::space::flow::Destination;
use crate::space::{DESTINATION, IPV6, OWN, PROTOCOL, SOURCE, SOURCE_PORT, Set, Space};

/// How many services or address ranges one line shows.
const SHOWN: usize = 8;
/// How many address ranges are looked at before "many" has to do.
const PIECES: usize = 2_000;
/// How many combinations of sources and destinations get a line of their own.
const COMBINATIONS: usize = 4;

/// Services and narrowing words, one pair a line. `possible` is what "everything" would be.
pub fn told(space: &mut Space, set: Set, possible: Set) -> Vec<(Vec<String>, Vec<String>)> {
    if set.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<(bool, Vec<String>, Vec<String>)> = Vec::new();
    let families = [false, true].map(|ipv6| side(space, possible, ipv6));
    for ipv6 in [false, true] {
        let here = side(space, set, ipv6);
        let all = families[usize::from(ipv6)];
        let all_services: Services = services(&space.bdd, all).into_values().fold(Services::new(), joined);
        let all_addresses = space.forget(all, PROTOCOL, OWN);
        for (addresses, group) in services(&space.bdd, here) {
            let services = service_list(&group, &all_services);
            for narrowed in narrowed(space, addresses, all_addresses, ipv6) {
                lines.push((ipv6, services.clone(), narrowed));
            }
        }
    }
    let other_is_possible = |ipv6: bool| !families[usize::from(!ipv6)].is_empty();
    let twin = |line: &(bool, Vec<String>, Vec<String>)| lines.contains(&(!line.0, line.1.clone(), line.2.clone()));
    let mut told = Vec::new();
    for line in &lines {
        let (ipv6, services, narrowed) = line;
        let both = narrowed.is_empty() && twin(line);
        if both && *ipv6 {
            continue;
        }
        let mut narrowed = narrowed.clone();
        if !both && narrowed.is_empty() && other_is_possible(*ipv6) {
            narrowed.push(if *ipv6 { "IPv6" } else { "IPv4" }.to_owned());
        }
        told.push((services.clone(), narrowed));
    }
    told
}

fn side(space: &mut Space, set: Set, ipv6: bool) -> Set {
    space.bdd.restrict(set, &(IPV6..IPV6 + 1), &|_| Some(ipv6))
}

fn joined(mut left: Services, right: Services) -> Services {
    for (protocol, ranges) in right {
        left.entry(protocol).or_default().extend(ranges);
    }
    left.values_mut().for_each(|ranges| {
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::new();
        for (first, last) in ranges.drain(..) {
            match merged.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        *ranges = merged;
    });
    left
}

/// `everything`, `tcp/22, icmp`, or where that is shorter `everything but tcp/25`.
fn service_list(services: &Services, all: &Services) -> Vec<String> {
    if services == all {
        return vec!["everything".to_owned()];
    }
    let these = listed(services, all);
    let mut others = listed(&without(all, services), all);
    if others.len() < these.len() {
        others[0] = format!("everything but {}", others[0]);
        return shortened(others);
    }
    shortened(these)
}

fn without(all: &Services, services: &Services) -> Services {
    let mut rest = Services::new();
    for (protocol, ranges) in all {
        let taken = services.get(protocol).map_or(&[][..], Vec::as_slice);
        let mut left = Vec::new();
        for (first, last) in ranges {
            let mut next = *first;
            for (from, to) in taken.iter().filter(|(from, to)| to >= first && from <= last) {
                if *from > next {
                    left.push((next, from - 1));
                }
                next = to + 1;
            }
            if next <= *last {
                left.push((next, *last));
            }
        }
        if !left.is_empty() {
            rest.insert(*protocol, left);
        }
    }
    rest
}

fn listed(services: &Services, all: &Services) -> Vec<String> {
    let mut found = Vec::new();
    let mut whole: Vec<u8> = Vec::new();
    for (protocol, ranges) in services {
        if all.get(protocol) == Some(ranges) {
            whole.push(*protocol);
            continue;
        }
        found.extend(ranges.iter().map(|(first, last)| match first == last {
            true => service_words(*protocol, *first as u16),
            false => format!("{}-{last}", service_words(*protocol, *first as u16)),
        }));
    }
    // Runs of protocols that nobody knows by name are one entry.
    let mut protocols = Vec::new();
    for run in whole.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [first, .., last] if run.len() > 3 => protocols.push(format!("proto/{first}-{last}")),
            _ => protocols.extend(run.iter().map(|protocol| protocol_words(*protocol))),
        }
    }
    [protocols, found].concat()
}

fn shortened(mut list: Vec<String>) -> Vec<String> {
    if list.len() > SHOWN + 1 {
        let more = list.len() - SHOWN;
        list.truncate(SHOWN);
        list.push(format!("and {more} more"));
    }
    list
}

/// One list of words for each combination of sources and destinations that needs its own.
fn narrowed(space: &mut Space, set: Set, all: Set, ipv6: bool) -> Vec<Vec<String>> {
    let (sources, destinations) = (space.forget(set, OWN, SOURCE), space.forget(set, SOURCE, SOURCE_PORT));
    let (all_sources, all_destinations) = (space.forget(all, OWN, SOURCE), space.forget(all, SOURCE, SOURCE_PORT));
    let product = space.and(&[sources, destinations, all]);
    if set == product || all.is_empty() || space.bdd.and(sources, destinations) == set {
        let from = if sources == all_sources { None } else { Some(list(space, "from", sources, all_sources, ipv6)) };
        let to = if destinations == all_destinations { None } else { Some(list(space, "to", destinations, all_destinations, ipv6)) };
        return vec![from.into_iter().chain(to).collect()];
    }
    // Not every source with every destination: by sources, each with its own destinations.
    let mut by_sources: BTreeMap<Set, Vec<(u128, u128)>> = BTreeMap::new();
    let (known, own) = space.bdd.split(set, OWN);
    let mut counted = 0;
    for (first, last, sources) in numbers(&space.bdd, known, DESTINATION, if ipv6 { 128 } else { 32 }, PIECES) {
        by_sources.entry(sources).or_default().push((first, last));
        counted += 1;
    }
    let total = by_sources.len() + usize::from(own != known && !own.is_empty());
    let mut found: Vec<Vec<String>> = Vec::new();
    for (sources, ranges) in by_sources.into_iter().take(COMBINATIONS) {
        let from = if sources == all_sources { None } else { Some(list(space, "from", sources, all_sources, ipv6)) };
        let to = format!("to {}", ranges_words(&ranges, ipv6).join(", "));
        found.push(from.into_iter().chain([to]).collect());
    }
    if total > COMBINATIONS || counted > PIECES {
        let more = total.saturating_sub(COMBINATIONS).max(1);
        found.push(vec![format!("and {more} more combinations of sources and destinations")]);
    }
    found
}

/// `to 1.1.1.1, 9.9.9.0/24`, or where that is shorter `to all but 10.0.0.0/8`.
fn list(space: &mut Space, word: &str, set: Set, all: Set, ipv6: bool) -> String {
    let rest = space.bdd.minus(all, set);
    let (these, others) = (address_words(space, set, ipv6), address_words(space, rest, ipv6));
    let fits = space.bdd.minus(set, all).is_empty();
    if fits && !others.is_empty() && others.len() < these.len() {
        return format!("{word} all but {}", shortened(others).join(", "));
    }
    format!("{word} {}", shortened(these).join(", "))
}

fn address_words(space: &mut Space, set: Set, ipv6: bool) -> Vec<String> {
    let width = if ipv6 { 128 } else { 32 };
    let ranges = |space: &Space, set, at| -> Vec<(u128, u128)> {
        numbers(&space.bdd, set, at, width, PIECES).into_iter().map(|(first, last, _)| (first, last)).collect()
    };
    if space.bdd.top(set) >= SOURCE && !set.is_empty() && set != Set::ALL {
        let ranges = ranges(space, set, SOURCE);
        return ranges_words(&ranges, ipv6);
    }
    let (known, own) = space.bdd.split(set, OWN);
    let mut words = ranges_words(&ranges(space, known, DESTINATION), ipv6);
    if own != known && !own.is_empty() {
        words.push("the box's leased address".to_owned());
    }
    words
}

fn ranges_words(ranges: &[(u128, u128)], ipv6: bool) -> Vec<String> {
    let shift = if ipv6 { 0 } else { 96 };
    ranges.iter().map(|(first, last)| range_words(address(ipv6, first << shift), address(ipv6, last << shift))).collect()
}

fn range_words(first: IpAddr, last: IpAddr) -> String {
    if first == last {
        return first.to_string();
    }
    let longest = if first.is_ipv4() { 32 } else { 128 };
    let net =
        (0..longest).filter_map(|length| IpNet::new(first, length).ok()).find(|net| net.network() == first && net.broadcast() == last);
    net.map_or_else(|| format!("{first}-{last}"), |net| net.to_string())
}

pub fn target((destination, port): Target) -> Option<String> {
    match (destination, port) {
        (Destination::AsSent, None) => None,
        (Destination::AsSent, Some(port)) => Some(format!("port {port}")),
        (Destination::To(address), None) => Some(address.to_string()),
        (Destination::To(address), Some(port)) => Some(with_port(address, port)),
        (Destination::Own, None) => Some("the box".to_owned()),
        (Destination::Own, Some(port)) => Some(format!("port {port} of the box")),
    }
}

pub fn nat(nat: Nat) -> String {
    match nat {
        Nat::Snat(to) => match to.ports {
            Some((first, last)) => format!("leaving from {}, ports {first}-{last}", to.address),
            None => format!("leaving from {}", to.address),
        },
        Nat::Masquerade | Nat::Dnat(_) | Nat::Redirect(_) => "masqueraded".to_owned(),
    }
}
