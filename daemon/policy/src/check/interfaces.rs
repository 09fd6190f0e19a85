//! Ports: their zone, and addresses that can be a host's and belong to one port only.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Whole;
use super::ranges::of_net;
use super::report::{Report, Spot};
use crate::model::{Interface, Resource};
use crate::name::IfName;

const MOST_INTERFACES: usize = 1000;

pub(super) fn check(whole: &Whole, report: &mut Report) {
    let interfaces = &whole.config.interfaces;
    for (name, resource) in interfaces {
        let (interface, mut spot) = (&resource.spec, report.resource("Interface", name, resource));
        if name.as_str() == "lo" {
            spot.say("`lo` is the box's own loopback and always there; remove this resource");
        }
        whole.zone(&mut spot.field("zone"), &interface.zone);
        if let Some(mtu) = interface.mtu.filter(|mtu| !(1280..=9216).contains(mtu)) {
            spot.field("mtu")
                .say(format!("{mtu} is not possible; write 1280 to 9216 bytes: IPv6 needs 1280, no usual port carries more than 9216"));
        }
        for (at, family) in interface.dhcp.iter().enumerate() {
            if interface.dhcp[..at].contains(family) {
                spot.index("dhcp", at).say(format!("{family} stands here twice; keep one"));
            }
        }
        for (at, net) in interface.addresses.iter().enumerate() {
            host_address(&mut spot.index("addresses", at), net);
        }
    }
    if interfaces.len() > MOST_INTERFACES {
        report.0.general(format!("the policy has {} interfaces; at most {MOST_INTERFACES} are possible", interfaces.len()));
    } else {
        belong_to_one_port(interfaces, report);
    }
}

fn can_be_a_hosts(address: IpAddr) -> bool {
    let reserved = matches!(address, IpAddr::V4(address) if address.octets()[0] >= 240 || address.octets()[0] == 0);
    !(reserved || address.is_multicast() || address.is_unspecified() || address.is_loopback())
}

fn host_address(spot: &mut Spot, net: &IpNet) {
    let address = net.addr();
    if !can_be_a_hosts(address) {
        spot.say(format!("{address} cannot be the address of a port; write a unicast address"));
        return;
    }
    if net.prefix_len() == 0 {
        spot.say(format!("{net} claims every address for this port; write the prefix length of its network"));
        return;
    }
    // Two addresses are a whole point-to-point network (RFC 3021, RFC 6164); there every address is a host's.
    if net.max_prefix_len() - net.prefix_len() < 2 {
        return;
    }
    if address == net.network() {
        let what =
            if address.is_ipv4() { "the network's own address" } else { "the subnet's router anycast address (RFC 4291, section 2.6.1)" };
        spot.say(format!("{net} is {what}, not a host's; write one like {}/{}", next(address), net.prefix_len()));
    } else if address.is_ipv4() && address == net.broadcast() {
        spot.say(format!(
            "{net} is the broadcast address of its network, not a host's; write one like {}/{}",
            next(net.network()),
            net.prefix_len()
        ));
    }
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => std::net::Ipv4Addr::from_bits(address.to_bits().saturating_add(1)).into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits().saturating_add(1)).into(),
    }
}

/// Two ports in one network make routing, anti-spoofing and ARP ambiguous. Link-local networks are on every port by design.
fn belong_to_one_port(interfaces: &BTreeMap<IfName, Resource<Interface>>, report: &mut Report) {
    let mut networks: Vec<_> = interfaces
        .iter()
        .flat_map(|(name, resource)| resource.spec.addresses.iter().enumerate().map(move |(at, net)| (name, resource, at, net)))
        .filter(|(.., net)| !matches!(net.addr(), IpAddr::V6(address) if address.is_unicast_link_local()))
        .filter(|(.., net)| can_be_a_hosts(net.addr()) && net.prefix_len() > 0)
        .collect();
    networks.sort_by_key(|(name, _, at, net)| (of_net(net).0, of_net(net).1.0, std::cmp::Reverse(of_net(net).1.1), *name, *at));
    // Sorted by where they begin, a network overlaps an earlier one exactly if it begins before the farthest end so far.
    let mut farthest: Option<(&IfName, &IpNet)> = None;
    for (name, resource, at, net) in networks {
        let (family, (first, last)) = of_net(net);
        if let Some((other, wider)) = farthest.filter(|(_, wider)| of_net(wider).0 == family && of_net(wider).1.1 >= first) {
            let mut spot = report.resource("Interface", name, resource);
            if other != name {
                spot.index("addresses", at)
                    .say(format!("{net} lies in the same network as {wider} of {other}; give each port a network of its own"));
            } else if net.addr() == wider.addr() {
                spot.index("addresses", at).say(format!("{} stands here twice; keep one", net.addr()));
            }
        }
        if farthest.is_none_or(|(_, wider)| of_net(wider).0 != family || of_net(wider).1.1 < last) {
            farthest = Some((name, net));
        }
    }
}
