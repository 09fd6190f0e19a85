//! Interfaces: up, MTU and addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use policy::messages::LinkCounters;
use policy::name::IfName;
use policy::plan::Link;

use crate::netlink::{OURS, RouteTalk};
use crate::{Difference, Error};

/// A link as the kernel has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    pub index: u32,
    pub mtu: u32,
    pub admin_up: bool,
    pub addresses: BTreeMap<IpNet, Origin>,
    pub counters: LinkCounters,
}

/// Who put an address there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Ours,
    /// By hand, or by a DHCP client: the kernel cannot tell them apart.
    Unknown,
    /// The kernel itself (link-local, router advertisements), or a daemon that signs its addresses.
    Other,
}

/// Brings every named link up with its MTU and addresses. Addresses that are not wanted go; what the kernel put there
/// stays, and so does, on a leased port, what a DHCP client put there. Nothing is touched when one of the interfaces does
/// not exist.
pub fn reconcile(wanted: &BTreeMap<IfName, Link>) -> Result<(), Error> {
    let mut talk = RouteTalk::open()?;
    all_exist(wanted, &read(&mut talk)?)?;
    // Twice: with its primary address Linux also removes the secondary ones of the same prefix, which then are missing.
    for _ in 0..2 {
        let held = read(&mut talk)?;
        for (name, link) in wanted {
            if let Some(held) = held.get(name.as_str()) {
                bring(&mut talk, name, link, held)?;
            }
        }
    }
    Ok(())
}

/// Where the links differ from the plan.
pub fn differences(wanted: &BTreeMap<IfName, Link>) -> Result<Vec<Difference>, Error> {
    let held = read(&mut RouteTalk::open()?)?;
    let mut out = Vec::new();
    for (name, link) in wanted {
        let what = format!("link {name}");
        let Some(held) = held.get(name.as_str()) else {
            out.push(Difference { what, expected: "present".into(), found: "absent".into() });
            continue;
        };
        if !held.admin_up {
            out.push(Difference { what: what.clone(), expected: "up".into(), found: "down".into() });
        }
        if let Some(mtu) = link.mtu.filter(|mtu| *mtu != held.mtu) {
            out.push(Difference { what: format!("{what}, mtu"), expected: mtu.to_string(), found: held.mtu.to_string() });
        }
        for address in link.addresses.iter().filter(|address| !held.addresses.contains_key(address)) {
            out.push(Difference { what: format!("{what}, address {address}"), expected: "present".into(), found: "absent".into() });
        }
        for address in unwanted(link, held) {
            out.push(Difference { what: format!("{what}, address {address}"), expected: "absent".into(), found: "present".into() });
        }
    }
    Ok(out)
}

fn bring(talk: &mut RouteTalk, name: &IfName, link: &Link, held: &Held) -> Result<(), Error> {
    let present: BTreeSet<IpNet> = held.addresses.keys().copied().collect();
    for address in link.addresses.difference(&present) {
        let message = RouteNetlinkMessage::NewAddress(address_message(held.index, address));
        talk.change(&format!("address {address} on {name}"), message, libc::NLM_F_CREATE | libc::NLM_F_REPLACE)?;
    }
    for address in unwanted(link, held) {
        let message = RouteNetlinkMessage::DelAddress(address_message(held.index, &address));
        match talk.change(&format!("removal of address {address} from {name}"), message, 0) {
            // It went with the primary address of its prefix.
            Err(error) if error.errno() == Some(libc::EADDRNOTAVAIL) => {}
            other => other?,
        }
    }
    let mtu = link.mtu.filter(|mtu| *mtu != held.mtu);
    if mtu.is_none() && held.admin_up {
        return Ok(());
    }
    let mut message = LinkMessage::default();
    message.header.index = held.index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    let what = mtu.map_or_else(|| format!("link {name} up"), |mtu| format!("link {name} up with mtu {mtu}"));
    talk.change(&what, RouteNetlinkMessage::SetLink(message), 0)
}

/// Addresses that are there and should not be.
fn unwanted(link: &Link, held: &Held) -> Vec<IpNet> {
    let goes = |(address, origin): (&IpNet, &Origin)| {
        let leased = if address.addr().is_ipv4() { link.dhcp4 } else { link.dhcp6 };
        let foreign = *origin == Origin::Other || (*origin == Origin::Unknown && leased);
        (!foreign && !link.addresses.contains(address)).then_some(*address)
    };
    held.addresses.iter().filter_map(goes).collect()
}

fn address_message(index: u32, address: &IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.family = if address.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.attributes = vec![
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
        AddressAttribute::Protocol(AddressProtocol::Other(OURS)),
    ];
    match address {
        IpNet::V4(net) if net.prefix_len() < 31 => message.attributes.push(AddressAttribute::Broadcast(net.broadcast())),
        IpNet::V4(_) => {}
        // Without duplicate address detection: a gateway's address must answer as soon as it is read back, and whoever answers
        // a detection probe (any host of the link can, RFC 4862 section 5.4) would take the gateway off the network.
        IpNet::V6(_) => message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad)),
    }
    message
}

fn all_exist(wanted: &BTreeMap<IfName, Link>, held: &BTreeMap<String, Held>) -> Result<(), Error> {
    let missing: Vec<String> = wanted.keys().filter(|name| !held.contains_key(name.as_str())).map(ToString::to_string).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::NoInterface(missing)) }
}

/// Every link of the namespace with its addresses and counters, by name.
pub(crate) fn read(talk: &mut RouteTalk) -> Result<BTreeMap<String, Held>, Error> {
    let mut links: BTreeMap<u32, (String, Held)> = BTreeMap::new();
    for message in talk.dump("the links", RouteNetlinkMessage::GetLink(LinkMessage::default()))? {
        if let RouteNetlinkMessage::NewLink(link) = message {
            let (name, held) = link_of(&link);
            links.insert(link.header.index, (name, held));
        }
    }
    for message in talk.dump("the addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
        let RouteNetlinkMessage::NewAddress(address) = message else { continue };
        if let (Some((_, held)), Some((net, origin))) = (links.get_mut(&address.header.index), address_of(&address)) {
            held.addresses.insert(net, origin);
            held.counters.addresses.push(net.to_string());
        }
    }
    Ok(links.into_values().collect())
}

fn link_of(link: &LinkMessage) -> (String, Held) {
    let admin_up = link.header.flags.contains(LinkFlags::Up);
    let mut held = Held { index: link.header.index, admin_up, ..Held::default() };
    held.counters.up = admin_up && link.header.flags.contains(LinkFlags::LowerUp);
    let mut name = String::new();
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name.clone_from(text),
            LinkAttribute::Mtu(mtu) => held.mtu = *mtu,
            LinkAttribute::Stats64(stats) => {
                held.counters.rx_bytes = stats.rx_bytes;
                held.counters.tx_bytes = stats.tx_bytes;
                held.counters.rx_packets = stats.rx_packets;
                held.counters.tx_packets = stats.tx_packets;
            }
            _ => {}
        }
    }
    (name, held)
}

fn address_of(message: &AddressMessage) -> Option<(IpNet, Origin)> {
    let (mut local, mut address, mut protocol, mut flags) = (None, None, 0, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Protocol(number) => protocol = u8::from(*number),
            AddressAttribute::Flags(bits) => flags = *bits,
            _ => {}
        }
    }
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    let link_local = match net.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let dynamic_v6 = net.addr().is_ipv6() && !flags.contains(AddressFlags::Permanent);
    let origin = match protocol {
        OURS => Origin::Ours,
        0 if !link_local && !dynamic_v6 && net.addr() != IpAddr::V4(Ipv4Addr::LOCALHOST) => Origin::Unknown,
        _ => Origin::Other,
    };
    Some((net, origin))
}

/// Index by name and name by index, for routes.
pub(crate) struct Names(Vec<(u32, String)>);

impl Names {
    pub fn read(talk: &mut RouteTalk) -> Result<Names, Error> {
        Ok(Names(read(talk)?.into_iter().map(|(name, held)| (held.index, name)).collect()))
    }

    pub fn index(&self, name: &IfName) -> Option<u32> {
        self.0.iter().find(|(_, found)| found == name.as_str()).map(|(index, _)| *index)
    }

    pub fn name(&self, index: u32) -> Option<IfName> {
        self.0.iter().find(|(found, _)| *found == index).and_then(|(_, name)| IfName::try_from(name.as_str()).ok())
    }
}
