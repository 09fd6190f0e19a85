//! How the box routes: the plan's routes, prefixes and addresses as the kernel will look them up.
//!
//! What a DHCP server will hand out is not known. A leased address is [`Packet::own`](super::Packet), and whatever no
//! static route claims may leave through a leased port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::name::IfName;
use crate::plan::{Plan, RouteAction, RouteKind, RouteSelector};

pub struct Fib {
    /// The ports that the plan knows; the order numbers them for the symbolic side.
    pub interfaces: Vec<IfName>,
    pub local: BTreeSet<IpAddr>,
    /// Subnet-router anycast (RFC 4291 section 2.6.1): a forwarding box answers for the first address of each of its IPv6 prefixes.
    pub anycast: BTreeSet<IpAddr>,
    pub broadcast: BTreeSet<IpAddr>,
    pub leased4: BTreeSet<IfName>,
    pub leased6: BTreeSet<IfName>,
    /// Longest prefix wins. Several hops only where the plan cannot know which of them will hold.
    pub hops: BTreeMap<IpNet, Vec<Hop>>,
    pub rules: Vec<(RouteSelector, RouteAction)>,
    /// Ports that refuse IPv4 packets whose answer would leave elsewhere (RFC 3704 strict mode).
    pub strict_reverse_path: BTreeSet<IfName>,
    /// Ports on which that test follows the packet's mark through the routing rules; without it the mark counts as 0.
    pub reverse_path_by_mark: BTreeSet<IfName>,
    pub forwarding4: bool,
    pub forwarding6: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    Out(IfName),
    Blackhole,
    Unreachable,
}

/// `fib daddr type` (RTN_* in include/uapi/linux/rtnetlink.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressType {
    Unicast = 1,
    Local = 2,
    Broadcast = 3,
    Anycast = 4,
    Multicast = 5,
}

/// Metric of the prefix route that the kernel adds for an IPv6 address (IP6_RT_PRIO_ADDRCONF); for IPv4 it is 0.
const CONNECTED6_METRIC: u32 = 256;

impl Fib {
    pub fn of(plan: &Plan) -> Self {
        let addresses = || plan.links.values().flat_map(|link| &link.addresses);
        let setting = |key: String| plan.sysctls.get(&key).and_then(|value| value.parse::<u32>().ok()).unwrap_or(0);
        let per_port = |key: &str, port: &IfName| {
            let own = plan.sysctls.contains_key(&format!("net/ipv4/conf/{port}/{key}"));
            let scope = if own { port.as_str() } else { "default" };
            setting(format!("net/ipv4/conf/all/{key}")).max(setting(format!("net/ipv4/conf/{scope}/{key}")))
        };
        let ports_with = |key: &str, value: u32| plan.links.keys().filter(|port| per_port(key, port) == value).cloned().collect();
        Fib {
            interfaces: plan.links.keys().cloned().collect(),
            local: addresses().map(IpNet::addr).collect(),
            anycast: addresses().filter(|net| net.addr().is_ipv6() && net.prefix_len() < 127).map(IpNet::network).collect(),
            broadcast: addresses().filter(|net| net.addr().is_ipv4() && net.prefix_len() < 31).map(IpNet::broadcast).collect(),
            leased4: plan.links.iter().filter(|(_, link)| link.dhcp4).map(|(name, _)| name.clone()).collect(),
            leased6: plan.links.iter().filter(|(_, link)| link.dhcp6).map(|(name, _)| name.clone()).collect(),
            hops: hops(plan),
            rules: plan.route_rules.iter().map(|rule| (rule.selector.clone(), rule.action.clone())).collect(),
            strict_reverse_path: ports_with("rp_filter", 1),
            reverse_path_by_mark: ports_with("src_valid_mark", 1),
            forwarding4: setting("net/ipv4/ip_forward".into()) == 1,
            forwarding6: setting("net/ipv6/conf/all/forwarding".into()) == 1,
        }
    }

    pub fn kind(&self, address: IpAddr, own: bool) -> AddressType {
        match address {
            _ if own => AddressType::Local,
            IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0 || self.broadcast.contains(&address) => AddressType::Broadcast,
            _ if address.is_multicast() => AddressType::Multicast,
            _ if address.is_loopback() || self.local.contains(&address) => AddressType::Local,
            _ if self.anycast.contains(&address) => AddressType::Anycast,
            _ => AddressType::Unicast,
        }
    }

    /// The hops of the longest prefix that holds `address`; none means no route. `on` is the port of arrival: link-local destinations stay on their link.
    pub fn hops(&self, address: IpAddr, on: Option<&IfName>) -> Vec<Hop> {
        if let (IpAddr::V6(v6), Some(on)) = (address, on)
            && v6.is_unicast_link_local()
        {
            return vec![Hop::Out(on.clone())];
        }
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let covering = |length| IpNet::new(address, length).ok().and_then(|net| self.hops.get(&net.trunc()));
        (0..=longest).rev().find_map(covering).cloned().unwrap_or_default()
    }

    /// Where the routing rules lead a packet with this mark, after the local table had nothing for it.
    pub fn action(&self, mark: u32, from_box: bool) -> RouteAction {
        let matches = |selector: &RouteSelector| match selector {
            RouteSelector::FromBox => from_box,
            RouteSelector::WithoutMark { mask, value } => mark & mask != *value,
            RouteSelector::Mark { mask, value } => mark & mask == *value,
        };
        self.rules.iter().find(|(selector, _)| matches(selector)).map_or(RouteAction::Main, |(_, action)| action.clone())
    }

    /// Whether the reverse-path test of a forwarded packet ends in a routing rule that refuses it.
    pub fn reverse_rules_permit(&self, port: &IfName, mark: u32, forwarded: bool) -> bool {
        let mark = if self.reverse_path_by_mark.contains(port) { mark } else { 0 };
        // fib_validate_source looks up as if from loopback, unless the packet is to be forwarded.
        self.action(mark, !forwarded) == RouteAction::Main
    }

    pub fn leased(&self, ipv6: bool) -> &BTreeSet<IfName> {
        if ipv6 { &self.leased6 } else { &self.leased4 }
    }
}

fn hops(plan: &Plan) -> BTreeMap<IpNet, Vec<Hop>> {
    let mut found: BTreeMap<IpNet, (u32, Vec<Hop>)> = BTreeMap::new();
    let mut offer = |net: IpNet, metric: u32, hop: Hop| {
        let best = found.entry(net).or_insert_with(|| (metric, vec![hop.clone()]));
        if metric < best.0 {
            *best = (metric, vec![hop]);
        }
    };
    for (name, link) in &plan.links {
        for net in &link.addresses {
            let metric = if net.addr().is_ipv4() { 0 } else { CONNECTED6_METRIC };
            offer(net.trunc(), metric, Hop::Out(name.clone()));
        }
    }
    for route in &plan.routes {
        let hop = match &route.kind {
            RouteKind::Via { interface, .. } | RouteKind::Direct { interface } => Hop::Out(interface.clone()),
            RouteKind::Blackhole => Hop::Blackhole,
            RouteKind::Unreachable => Hop::Unreachable,
        };
        offer(route.destination.trunc(), route.metric, hop);
    }
    let mut hops: BTreeMap<IpNet, Vec<Hop>> = found.into_iter().map(|(net, (_, hops))| (net, hops)).collect();
    for (name, link) in &plan.links {
        let default4 = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
        let default6 = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));
        for (leased, default) in [(link.dhcp4, default4), (link.dhcp6, default6)] {
            if leased {
                hops.entry(default).or_default().push(Hop::Out(name.clone()));
            }
        }
    }
    hops
}
