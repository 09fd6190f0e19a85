//! Which sources can live behind which port.
//!
//! An address belongs to the port that the longest prefix leads to, whether that is the port's own subnet or a static
//! route. A port without a default route may only send what belongs to it; one with a default route (or a lease) may
//! send everything that does not belong elsewhere. This is rp_filter's question, asked of IPv6 too and visible in the plan.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::check::ranges::{Family, Interval, merge, number, of_net};
use crate::model::{Config, DhcpFamily, Interface, RouteType};
use crate::name::IfName;
use crate::ruleset::{Chain, Datum, Element, Field, Maps, Part, Rule, Set, Span, Target, Verdict};

use super::{Context, Fragment, addresses, matches};

/// The map from a port to the chain that checks its sources.
pub const PORTS: &str = "ports";
/// Where a packet goes that has passed every check.
pub const LET_IN_CHAIN: &str = "let_in";

pub fn chains(context: &Context<'_>) -> Fragment {
    let mut fragment = Fragment::default();
    let mut elements = Vec::new();
    for (port, interface) in &context.config.interfaces {
        let checked = context.config.zones.get(&interface.spec.zone).is_none_or(|zone| zone.spec.anti_spoofing);
        let chain = if checked { format!("from_{port}") } else { LET_IN_CHAIN.to_owned() };
        if checked {
            let mut rules = Vec::new();
            for family in Family::BOTH {
                let (name, set, negate) = sources(context.config, &context.territory, port, &interface.spec, family);
                let part = Part::InSet { fields: vec![family.source()], negate, set: name.clone() };
                rules.push(context.drop("spoofed", [matches::is_family(family), part]));
                fragment.sets.insert(name, set);
            }
            rules.push(Rule::of([Part::Verdict(Verdict::Goto(LET_IN_CHAIN.to_owned()))]));
            fragment.chains.insert(chain.clone(), Chain { base: None, rules });
        }
        let key = vec![Span::One(Datum::Interface(port.into()))];
        elements.push(Element { key, to: Some(Target::Verdict(Verdict::Goto(chain))), source: None });
    }
    fragment.sets.insert(PORTS.to_owned(), dispatch(vec![Field::IifName], elements));
    fragment
}

/// A verdict map from ports to chains.
pub fn dispatch(key: Vec<Field>, elements: Vec<Element>) -> Set {
    Set { key, maps_to: Some(Maps::Verdict), interval: false, timeout: false, counters: false, elements, comment: None }
}

/// The set to compare sources with, and whether being absent from it is the offence.
fn sources(config: &Config, territory: &Territory<'_>, port: &IfName, interface: &Interface, family: Family) -> (String, Set, bool) {
    let digit = family.digit();
    if is_uplink(config, port, interface, family) {
        let mut never = territory.elsewhere(port, family);
        never.extend(never_a_source(family).iter().map(|net| of_net(net).1));
        let comment = format!("no source behind {port}");
        (format!("never{digit}_{port}"), addresses::interval_set(family, &merge(never), Some(comment)), false)
    } else {
        let mut behind = territory.behind(port, family);
        behind.extend(without_an_address(family).iter().map(|net| of_net(net).1));
        let comment = format!("the only sources behind {port}");
        (format!("behind{digit}_{port}"), addresses::interval_set(family, &merge(behind), Some(comment)), true)
    }
}

/// Loopback, multicast and reserved addresses (RFC 6890, RFC 4291): no packet on a wire comes from them.
fn never_a_source(family: Family) -> Vec<IpNet> {
    let v4 = |a, length| net(IpAddr::V4(Ipv4Addr::new(a, 0, 0, 0)), length);
    let v6 = |address: Ipv6Addr, length| net(IpAddr::V6(address), length);
    match family {
        Family::V4 => vec![v4(127, 8), v4(224, 4), v4(240, 4)],
        Family::V6 => vec![v6(Ipv6Addr::LOCALHOST, 128), v6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)],
    }
}

/// What a host sends before it has an address (DHCP, duplicate address detection), and link-local IPv6.
fn without_an_address(family: Family) -> Vec<IpNet> {
    match family {
        Family::V4 => vec![net(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 32)],
        Family::V6 => vec![net(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128), LINK_LOCAL],
    }
}

pub const LINK_LOCAL: IpNet = net(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10);

const fn net(address: IpAddr, length: u8) -> IpNet {
    IpNet::new_assert(address, length)
}

/// A port through which everything without a better way goes.
fn is_uplink(config: &Config, port: &IfName, interface: &Interface, family: Family) -> bool {
    interface.dhcp.contains(&if family == Family::V4 { DhcpFamily::Ipv4 } else { DhcpFamily::Ipv6 })
        || config.routes.values().any(|route| {
            let destination = route.spec.destination;
            destination.prefix_len() == 0 && of_net(&destination).0 == family && port_of(config, &route.spec.kind) == Some(port)
        })
}

/// The port that a route leads out of; a gateway is behind the port in whose subnet it lies.
pub fn port_of<'a>(config: &'a Config, route: &'a RouteType) -> Option<&'a IfName> {
    match route {
        RouteType::Via { interface: Some(interface), .. } | RouteType::Direct { interface } => Some(interface),
        RouteType::Via { gateway, interface: None } => connected(config, *gateway),
        RouteType::Blackhole | RouteType::Unreachable => None,
    }
}

/// The port whose own subnets hold the address; the longest prefix wins.
pub fn connected(config: &Config, address: IpAddr) -> Option<&IfName> {
    let subnets = config.interfaces.iter().flat_map(|(port, interface)| interface.spec.addresses.iter().map(move |net| (port, net)));
    let (port, _) = subnets.filter(|(_, net)| net.contains(&address)).max_by_key(|(_, net)| net.prefix_len())?;
    Some(port)
}

/// The set of the box's own addresses.
pub fn own_set(family: Family) -> String {
    format!("own{}", family.digit())
}

/// Those that are written in the policy; leased ones are not known when a plan is made.
pub fn own_addresses(config: &Config, family: Family) -> Vec<Interval> {
    let addresses = config.interfaces.values().flat_map(|interface| &interface.spec.addresses).map(IpNet::addr);
    merge(addresses.filter(|address| Family::of(*address) == family).map(|address| (number(address), number(address))).collect())
}

/// Prefixes by first address, the longest interval first, and the ports that each leads to.
type Owners<'a> = BTreeMap<(u128, Reverse<u128>), BTreeSet<&'a IfName>>;

/// Every address that some prefix shorter than "everything" speaks of, and the ports that it belongs to.
pub struct Territory<'a>([Vec<(Interval, BTreeSet<&'a IfName>)>; 2]);

impl<'a> Territory<'a> {
    pub fn of(config: &'a Config) -> Self {
        let mut owners: [Owners<'_>; 2] = Default::default();
        let mut add = |net: &IpNet, port: Option<&'a IfName>| {
            let (family, (first, last)) = of_net(net);
            owners[family as usize].entry((first, Reverse(last))).or_default().extend(port);
        };
        for (port, interface) in &config.interfaces {
            interface.spec.addresses.iter().for_each(|net| add(net, Some(port)));
        }
        for route in config.routes.values().filter(|route| route.spec.destination.prefix_len() > 0) {
            add(&route.spec.destination, port_of(config, &route.spec.kind));
        }
        Territory(owners.map(divide))
    }

    fn behind(&self, port: &IfName, family: Family) -> Vec<Interval> {
        self.0[family as usize].iter().filter(|(_, owners)| owners.contains(port)).map(|(interval, _)| *interval).collect()
    }

    fn elsewhere(&self, port: &IfName, family: Family) -> Vec<Interval> {
        self.0[family as usize].iter().filter(|(_, owners)| !owners.contains(port)).map(|(interval, _)| *interval).collect()
    }

    /// The ports that the addresses of a prefix belong to; None where some belong to no port.
    pub fn ports_of(&self, net: &IpNet) -> Option<BTreeSet<&'a IfName>> {
        let (family, (first, last)) = of_net(net);
        let pieces = &self.0[family as usize];
        let (mut ports, mut next) = (BTreeSet::new(), first);
        for ((start, end), owners) in &pieces[pieces.partition_point(|((_, end), _)| *end < first)..] {
            if *start > next || owners.is_empty() {
                return None;
            }
            ports.extend(owners.iter().copied());
            if *end >= last {
                return Some(ports);
            }
            next = end + 1;
        }
        None
    }

    /// The ports that an address belongs to.
    pub fn ports(&self, address: IpAddr) -> impl Iterator<Item = &'a IfName> + '_ {
        let wanted = number(address);
        let pieces = &self.0[Family::of(address) as usize];
        let piece = pieces.get(pieces.partition_point(|((_, last), _)| *last < wanted));
        piece.filter(|((first, _), _)| *first <= wanted).into_iter().flat_map(|(_, owners)| owners.iter().copied())
    }
}

/// Prefixes nest or are apart, never cross: sorted by first address, longest last, the one on top of the stack owns
/// what no longer prefix inside it takes.
fn divide(owners: Owners<'_>) -> Vec<(Interval, BTreeSet<&IfName>)> {
    let mut pieces = Vec::new();
    let mut stack: Vec<(u128, BTreeSet<&IfName>)> = Vec::new();
    // The first address that nobody has been given yet; None beyond the last address there is.
    let mut next = Some(0);
    for ((first, Reverse(last)), owner) in owners {
        close(&mut stack, &mut next, &mut pieces, Some(first));
        if let (Some((_, outer)), Some(next)) = (stack.last(), next)
            && next < first
        {
            pieces.push(((next, first - 1), outer.clone()));
        }
        next = Some(first);
        stack.push((last, owner));
    }
    close(&mut stack, &mut next, &mut pieces, None);
    pieces
}

/// Ends every prefix that lies wholly before `until`.
fn close<'a>(
    stack: &mut Vec<(u128, BTreeSet<&'a IfName>)>,
    next: &mut Option<u128>,
    pieces: &mut Vec<(Interval, BTreeSet<&'a IfName>)>,
    until: Option<u128>,
) {
    while let Some((last, owner)) = stack.pop_if(|(last, _)| until.is_none_or(|until| *last < until)) {
        if let Some(first) = next.filter(|first| *first <= last) {
            pieces.push(((first, last), owner));
        }
        *next = last.checked_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_owns_the_address() {
        let (lan, dmz, wan) = (IfName::try_from("lan0").unwrap(), IfName::try_from("dmz0").unwrap(), IfName::try_from("wan0").unwrap());
        let owner = |first, last, port| ((first, Reverse(last)), BTreeSet::from([port]));
        let pieces = divide(BTreeMap::from([owner(0, 99, &lan), owner(10, 19, &dmz), owner(12, 15, &wan), owner(200, u128::MAX, &dmz)]));
        let told: Vec<_> = pieces.iter().map(|((first, last), owners)| (*first, *last, owners.first().unwrap().as_str())).collect();
        assert_eq!(
            told,
            [(0, 9, "lan0"), (10, 11, "dmz0"), (12, 15, "wan0"), (16, 19, "dmz0"), (20, 99, "lan0"), (200, u128::MAX, "dmz0")]
        );
    }
}
