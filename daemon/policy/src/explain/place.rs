//! From a question to one packet: the port it arrives on, and the addresses that were left open.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::query::{BadQuery, Query};
use crate::name::IfName;
use crate::plan::Plan;
use crate::simulate::packet::{ICMP, ICMPV6, TCP, address, bits};
use crate::simulate::{Hop, Ingress, Packet, Transport, World};

/// Where a port shows no network of its own, a host somewhere in the world: reserved for examples (RFC 5737, RFC 3849).
pub const SOMEWHERE4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10));
pub const SOMEWHERE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x10));

/// The source port of an example.
pub const USUAL_SOURCE_PORT: u16 = 40000;

pub fn packet(world: &World, query: &Query) -> Result<Packet, BadQuery> {
    let ipv6 = family(query)?;
    let from = ingress(world, query, ipv6)?;
    let (destination, own) = match query.destination {
        Some(destination) => (destination, false),
        None => the_box(world, &from, ipv6)?,
    };
    let source = query.source.unwrap_or_else(|| some_source(world, &from, destination));
    let protocol = query.protocol;
    let echo = if protocol == ICMP { 8 } else { 128 };
    let port = query.port.unwrap_or(if matches!(protocol, ICMP | ICMPV6) { echo } else { 0 });
    let mut transport = Transport { protocol, source_port: 0, port, tcp_flags: 0 };
    if transport.has_ports() {
        if query.port.is_none() {
            return Err(BadQuery("name a port, as in tcp/443".to_owned()));
        }
        transport.source_port = query.source_port.unwrap_or(USUAL_SOURCE_PORT);
    }
    if protocol == TCP {
        transport.tcp_flags = query.tcp_flags.unwrap_or(2);
    }
    Ok(Packet { from, source, destination, own, mac: None, transport })
}

fn family(query: &Query) -> Result<bool, BadQuery> {
    match (query.source, query.destination) {
        (Some(source), Some(destination)) if source.is_ipv6() != destination.is_ipv6() => {
            Err(BadQuery(format!("{source} and {destination} are of different families; a packet has one")))
        }
        (Some(address), _) | (None, Some(address)) => Ok(address.is_ipv6()),
        (None, None) => Ok(query.protocol == ICMPV6),
    }
}

fn ingress(world: &World, query: &Query, ipv6: bool) -> Result<Ingress, BadQuery> {
    let plan = world.plan;
    if query.from == "box" {
        return Ok(Ingress::Box);
    }
    if let Some((_, ports)) = plan.zones.iter().find(|(zone, _)| zone.as_str() == query.from) {
        let lives_there =
            |port: &&IfName| query.source.is_some_and(|source| world.fib.hops(source, None).contains(&Hop::Out((*port).clone())));
        let has_family = |port: &&IfName| world.first_address(port, ipv6).is_some() || world.fib.leased(ipv6).contains(*port);
        let port = ports.iter().find(lives_there).or_else(|| ports.iter().find(has_family)).or_else(|| ports.first());
        return port.cloned().map(Ingress::Interface).ok_or_else(|| BadQuery(format!("zone {} has no interface", query.from)));
    }
    if let Some(port) = plan.links.keys().find(|port| port.as_str() == query.from) {
        return Ok(Ingress::Interface(port.clone()));
    }
    let zones: Vec<&str> = plan.zones.keys().map(|zone| zone.as_str()).collect();
    let near = crate::problem::nearest(&query.from, zones.iter().copied());
    let known = zones.join(", ");
    Err(BadQuery(format!("{:?} is neither a zone nor an interface; the zones are {known}, and `box` is the box itself{near}", query.from)))
}

/// The box's address as the sender would use it: the one on the port of arrival.
fn the_box(world: &World, from: &Ingress, ipv6: bool) -> Result<(IpAddr, bool), BadQuery> {
    if let Ingress::Interface(port) = from {
        if let Some(address) = world.first_address(port, ipv6) {
            return Ok((address, false));
        }
        if world.fib.leased(ipv6).contains(port) {
            return Ok((unknown(ipv6), true));
        }
    }
    match world.fib.local.iter().copied().find(|address| address.is_ipv6() == ipv6) {
        Some(address) => Ok((address, false)),
        None if !world.fib.leased(ipv6).is_empty() => Ok((unknown(ipv6), true)),
        None => Err(BadQuery("the box has no address of that family".to_owned())),
    }
}

/// Stands for an address that only the DHCP server knows.
fn unknown(ipv6: bool) -> IpAddr {
    if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

fn some_source(world: &World, from: &Ingress, destination: IpAddr) -> IpAddr {
    let ipv6 = destination.is_ipv6();
    match from {
        Ingress::Interface(port) => usual_host(world.plan, port, ipv6).unwrap_or(if ipv6 { SOMEWHERE6 } else { SOMEWHERE4 }),
        Ingress::Box => {
            let hops = world.fib.hops(destination, None);
            let out = hops.iter().find_map(|hop| if let Hop::Out(port) = hop { Some(port) } else { None });
            out.and_then(|port| world.first_address(port, ipv6)).unwrap_or(unknown(ipv6))
        }
    }
}

/// A host on this port's own network that is not the box.
pub fn usual_host(plan: &Plan, port: &IfName, ipv6: bool) -> Option<IpAddr> {
    let net = plan.links.get(port)?.addresses.iter().find(|net| net.addr().is_ipv6() == ipv6)?;
    let shift = if ipv6 { 0 } else { 96 };
    let at = |number: u128| address(ipv6, bits(net.network()) + (number << shift));
    [10, 11, 1, 2].into_iter().map(at).find(|host| net.contains(host) && *host != net.addr() && *host != net.broadcast())
}
