//! Static routes of the main table.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use policy::plan::{Route, RouteKind};

use crate::links::Names;
use crate::netlink::{OURS, RouteTalk};
use crate::{Difference, Error};

/// Adds what is missing and removes what we installed earlier and is no longer wanted. Routes of others (kernel, DHCP)
/// are never touched, except one that stands in the very place of ours: ours carry their own protocol number.
pub fn reconcile(wanted: &BTreeSet<Route>) -> Result<(), Error> {
    let mut talk = RouteTalk::open()?;
    let names = Names::read(&mut talk)?;
    let interface = |route: &Route| match &route.kind {
        RouteKind::Via { interface, .. } | RouteKind::Direct { interface } => Some(interface.clone()),
        RouteKind::Blackhole | RouteKind::Unreachable => None,
    };
    let unknown: BTreeSet<String> =
        wanted.iter().filter_map(interface).filter(|name| names.index(name).is_none()).map(|name| name.to_string()).collect();
    if !unknown.is_empty() {
        return Err(Error::NoInterface(unknown.into_iter().collect()));
    }
    let held = read(&mut talk, &names)?;
    // Missing ones first: where a route changes its gateway, the new one replaces the old one in its place.
    for route in wanted.difference(&held) {
        let message = RouteNetlinkMessage::NewRoute(message(route, &names));
        talk.change(&words(route), message, libc::NLM_F_CREATE | libc::NLM_F_REPLACE)?;
    }
    let held = read(&mut talk, &names)?;
    for route in held.difference(wanted) {
        match talk.change(&format!("removal of {}", words(route)), RouteNetlinkMessage::DelRoute(message(route, &names)), 0) {
            Err(error) if error.errno() == Some(libc::ESRCH) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Routes of the plan that are missing, and routes of ours that the plan does not know.
pub fn differences(wanted: &BTreeSet<Route>) -> Result<Vec<Difference>, Error> {
    let mut talk = RouteTalk::open()?;
    let names = Names::read(&mut talk)?;
    let held = read(&mut talk, &names)?;
    let told =
        |route: &Route, expected: &str, found: &str| Difference { what: words(route), expected: expected.into(), found: found.into() };
    let missing = wanted.difference(&held).map(|route| told(route, "present", "absent"));
    let extra = held.difference(wanted).map(|route| told(route, "absent", "present"));
    Ok(missing.chain(extra).collect())
}

/// `route 10.1.0.0/16 via 192.168.2.3 on lan0, metric 100`
fn words(route: &Route) -> String {
    let kind = match &route.kind {
        RouteKind::Via { gateway, interface } => format!("via {gateway} on {interface}"),
        RouteKind::Direct { interface } => format!("on {interface}"),
        RouteKind::Blackhole => "blackhole".to_owned(),
        RouteKind::Unreachable => "unreachable".to_owned(),
    };
    format!("route {} {kind}, metric {}", route.destination, route.metric)
}

fn message(route: &Route, names: &Names) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (kind, scope) = match &route.kind {
        RouteKind::Via { .. } => (RouteType::Unicast, RouteScope::Universe),
        RouteKind::Direct { .. } => (RouteType::Unicast, RouteScope::Link),
        RouteKind::Blackhole => (RouteType::BlackHole, RouteScope::Universe),
        RouteKind::Unreachable => (RouteType::Unreachable, RouteScope::Universe),
    };
    message.header = RouteHeader {
        address_family: if route.destination.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        destination_prefix_length: route.destination.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(OURS),
        scope,
        kind,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(route.destination.network().into()));
    message.attributes.push(RouteAttribute::Priority(route.metric));
    if let RouteKind::Via { gateway, .. } = &route.kind {
        message.attributes.push(RouteAttribute::Gateway((*gateway).into()));
    }
    if let RouteKind::Via { interface, .. } | RouteKind::Direct { interface } = &route.kind {
        message.attributes.extend(names.index(interface).map(RouteAttribute::Oif));
    }
    message
}

/// Our routes in the main table, both families.
fn read(talk: &mut RouteTalk, names: &Names) -> Result<BTreeSet<Route>, Error> {
    let mut held = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        for message in talk.dump("the routes", RouteNetlinkMessage::GetRoute(request))? {
            if let RouteNetlinkMessage::NewRoute(route) = message {
                held.extend(route_of(&route, names));
            }
        }
    }
    Ok(held)
}

fn route_of(message: &RouteMessage, names: &Names) -> Option<Route> {
    let header = &message.header;
    if header.protocol != RouteProtocol::Other(OURS) || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let (mut destination, mut gateway, mut interface, mut metric) = (None, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => interface = names.name(*index),
            RouteAttribute::Priority(number) => metric = *number,
            _ => {}
        }
    }
    let any: IpAddr = if header.address_family == AddressFamily::Inet { [0; 4].into() } else { [0; 16].into() };
    let kind = match (header.kind, gateway, interface) {
        (RouteType::BlackHole, ..) => RouteKind::Blackhole,
        (RouteType::Unreachable, ..) => RouteKind::Unreachable,
        (RouteType::Unicast, Some(gateway), Some(interface)) => RouteKind::Via { gateway, interface },
        (RouteType::Unicast, None, Some(interface)) => RouteKind::Direct { interface },
        _ => return None,
    };
    Some(Route { destination: IpNet::new(destination.unwrap_or(any), header.destination_prefix_length).ok()?, kind, metric })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
