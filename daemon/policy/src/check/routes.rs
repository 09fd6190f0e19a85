//! Static routes: a gateway is a neighbour, and no two routes are the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Whole;
use super::ranges::Family;
use super::report::{Report, Spot};
use crate::model::{DhcpFamily, Route, RouteType};
use crate::name::IfName;
use crate::problem::nearest;

pub(super) fn check(whole: &Whole, report: &mut Report) {
    let mut places = BTreeMap::new();
    for (name, resource) in &whole.config.routes {
        let (route, mut spot) = (&resource.spec, report.resource("Route", name, resource));
        if let Some((other, origin)) = places.insert((route.destination, route.metric), (name, &resource.origin)) {
            spot.say(format!(
                "Route {other} ({origin}) has the same destination and metric; give one of them another metric, or remove it"
            ));
        }
        if route.metric == 0 {
            // Linux turns it into 1024 for IPv6 (IP6_RT_PRIO_USER), so the route would never look as it was written.
            spot.field("metric").say("0 has a meaning of its own in the kernel; write 1 or more");
        }
        match &route.kind {
            RouteType::Via { gateway, interface } => via(whole, &mut spot, route, *gateway, interface.as_ref()),
            RouteType::Direct { interface } => _ = known(whole, &mut spot, interface),
            RouteType::Blackhole | RouteType::Unreachable => (),
        }
    }
}

fn known(whole: &Whole, spot: &mut Spot, interface: &IfName) -> bool {
    let known = whole.config.interfaces.contains_key(interface);
    if !known && !whole.config.gaps.may_hide("Interface", interface.as_str()) {
        let names = whole.config.interfaces.keys().map(IfName::as_str);
        spot.field("interface")
            .say(format!("there is no Interface {interface}; add it or name another{}", nearest(interface.as_str(), names)));
    }
    known
}

fn via(whole: &Whole, spot: &mut Spot, route: &Route, gateway: IpAddr, interface: Option<&IfName>) {
    let family = Family::of(gateway);
    if family != Family::of(route.destination.addr()) {
        spot.field("via").say(format!("{gateway} is {family} and {} is not; write a gateway of the same family", route.destination));
        return;
    }
    if gateway.is_unspecified() || gateway.is_multicast() || gateway.is_loopback() {
        spot.field("via").say(format!("{gateway} is no host's address; write the address of the neighbour that takes the packets"));
        return;
    }
    if interface.is_some_and(|interface| !known(whole, spot, interface)) || whole.config.gaps.may_hide_any("Interface") {
        return;
    }
    let link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
    if link_local {
        if interface.is_none() {
            spot.field("via").say(format!("{gateway} is link-local and could be behind any port; name the port in `interface`"));
        }
        return;
    }
    let ports = || whole.config.interfaces.iter().filter(|(name, _)| interface.is_none_or(|wanted| wanted == *name));
    if ports().any(|(_, port)| port.spec.addresses.iter().any(|net| net.addr() == gateway)) {
        spot.field("via").say(format!("{gateway} is the box itself; write the address of the neighbour that takes the packets"));
        return;
    }
    let leased = if family == Family::V4 { DhcpFamily::Ipv4 } else { DhcpFamily::Ipv6 };
    // What a lease will bring is not known here; with the port named, the kernel decides when it comes.
    let reached = ports().any(|(_, port)| {
        port.spec.addresses.iter().any(|net| net.contains(&gateway)) || interface.is_some() && port.spec.dhcp.contains(&leased)
    });
    if !reached {
        let place = interface.map_or("any interface".to_owned(), |interface| interface.to_string());
        spot.field("via").say(format!(
            "{gateway} lies in no network of {place}, so packets cannot be handed to it; write a neighbour's address, or add the network"
        ));
    }
}
