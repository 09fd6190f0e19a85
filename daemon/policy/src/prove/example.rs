//! A counter-example that people can picture: usual hosts and services wherever the set allows them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Counterexample, terms, week};
use crate::explain::{SOMEWHERE4, SOMEWHERE6, USUAL_SOURCE_PORT, told, usual_host, week_time};
use crate::model::{Assertion, ZoneTerm};
use crate::name::IfName;
use crate::plan::Plan;
use crate::simulate::World;
use crate::simulate::packet::{ICMP, ICMPV6, TCP, UDP};
use crate::space::{DESTINATION, Free, OWN, PORT, SOURCE, SOURCE_PORT, Set, Space, TCP_FLAGS};

/// Ports that everyone knows, the best known first.
const USUAL_PORTS: [u16; 12] = [443, 80, 22, 53, 25, 123, 8080, 993, 3389, 445, 8443, 1194];

/// One member of `set`, and what the simulator says of it. None when there is none.
pub fn of(space: &mut Space, plan: &Plan, assertion: &Assertion, set: Set) -> Option<Counterexample> {
    if set.is_empty() {
        return None;
    }
    let mut set = set;
    for wish in wishes(space, plan, assertion) {
        let closer = space.bdd.and(set, wish);
        if !closer.is_empty() {
            set = closer;
        }
    }
    let example = space.packet(set)?;
    let mut world = World::of(plan, None);
    let mut needed = Vec::new();
    for (free, value) in &example.free {
        if let Free::Schedule(name) = free
            && let Some((set, open)) = world.schedules.iter_mut().find(|(set, _)| **set == name.as_str())
        {
            *open = *value;
            needed.push((*set, *value));
        }
    }
    let outcome = world.run(&example.packet);
    let at = if needed.is_empty() { None } else { week::minute(plan, &needed).map(week_time) };
    Some(Counterexample { explanation: told(plan, &example.packet, &outcome), at })
}

/// The most important first; a wish that cannot be granted together with those before it is dropped.
fn wishes(space: &mut Space, plan: &Plan, assertion: &Assertion) -> Vec<Set> {
    let syn = space.numbers(TCP_FLAGS, 8, &[(2, 2)]);
    let own = space.bdd.var(OWN);
    let mut wishes = vec![syn, space.bdd.not(own), space.ipv4()];
    for protocol in [TCP, UDP, ICMP, ICMPV6] {
        wishes.push(space.protocols(&[protocol]));
    }
    for port in USUAL_PORTS {
        wishes.push(space.numbers(PORT, 16, &[(u128::from(port), u128::from(port))]));
    }
    let any_port = space.numbers(PORT, 16, &[(1, 65535)]);
    wishes.push(any_port);
    let from = terms::ports(plan, &assertion.from);
    for (at, zones) in [(SOURCE, &assertion.from), (DESTINATION, &assertion.to)] {
        for host in hosts(plan, zones, &from) {
            wishes.push(space.hosts(at, [&host]));
        }
    }
    wishes.push(space.numbers(SOURCE_PORT, 16, &[(u128::from(USUAL_SOURCE_PORT), u128::from(USUAL_SOURCE_PORT))]));
    wishes
}

/// Someone in each of these zones. The box is best known by its address on the port that it is asked through.
fn hosts(plan: &Plan, zones: &[ZoneTerm], through: &BTreeSet<IfName>) -> Vec<IpAddr> {
    let ports = terms::ports(plan, zones);
    let neighbours = [false, true].into_iter().flat_map(|ipv6| ports.iter().filter_map(move |port| usual_host(plan, port, ipv6)));
    let addresses = |near: bool| {
        let links = plan.links.iter().filter(move |(name, _)| through.contains(*name) == near);
        links.flat_map(|(_, link)| &link.addresses).map(|net| net.addr())
    };
    let own = addresses(true).chain(addresses(false)).filter(|_| terms::holds_box(zones));
    neighbours.chain(own).chain([SOMEWHERE4, SOMEWHERE6]).collect()
}
