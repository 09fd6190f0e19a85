//! The words of an assertion as sets of packets.

use std::collections::BTreeSet;

use crate::check::Checked;
use crate::check::ranges::Family;
use crate::model::{AddressTerm, Protocol, ServiceTerm, ZoneTerm};
use crate::name::IfName;
use crate::plan::Plan;
use crate::simulate::AddressType;
use crate::simulate::packet::{ICMP, ICMPV6};
use crate::space::{DESTINATION, IIF, IPV6, OIF, PORT, SOURCE, Set, Space, Var};

/// The ports of these zones; none named means every zone.
pub fn ports(plan: &Plan, terms: &[ZoneTerm]) -> BTreeSet<IfName> {
    let every = terms.is_empty() || terms.contains(&ZoneTerm::Any);
    let meant = |zone: &crate::name::Name| every || terms.iter().any(|term| matches!(term, ZoneTerm::Zone(name) if name == zone));
    plan.zones.iter().filter(|(zone, _)| meant(zone)).flat_map(|(_, ports)| ports.iter().cloned()).collect()
}

pub fn holds_box(terms: &[ZoneTerm]) -> bool {
    terms.contains(&ZoneTerm::Box)
}

pub fn zones(space: &mut Space, plan: &Plan, at: Var, terms: &[ZoneTerm]) -> Set {
    let ports = ports(plan, terms);
    let ports = space.ports(at, &ports);
    let the_box = if holds_box(terms) { space.the_box(at) } else { Set::EMPTY };
    space.bdd.or(ports, the_box)
}

pub fn addresses(space: &mut Space, checked: &Checked, at: Var, terms: &[AddressTerm]) -> Set {
    if terms.is_empty() {
        return Set::ALL;
    }
    let v4 = checked.addresses().of_terms(terms, Family::V4);
    let v6 = checked.addresses().of_terms(terms, Family::V6);
    let (v4, v6) = (space.numbers(at, 32, &v4), space.numbers(at, 128, &v6));
    space.bdd.node(IPV6, v4, v6)
}

pub fn services(space: &mut Space, checked: &Checked, terms: &[ServiceTerm]) -> Set {
    let Some(traffic) = checked.traffic(terms) else { return Set::ALL };
    let whole: Vec<u8> = traffic.whole.iter().map(|protocol| protocol.0).collect();
    let mut any = vec![space.protocols(&whole)];
    let mut add = |space: &mut Space, protocol: Protocol, ranges: &[(u128, u128)]| {
        let ports = space.numbers(PORT, 16, ranges);
        let protocol = space.protocols(&[protocol.0]);
        any.push(space.bdd.and(protocol, ports));
    };
    for (protocol, ranges) in &traffic.ports {
        add(space, *protocol, ranges);
    }
    let one = |number: u8| (u128::from(number), u128::from(number));
    let icmp: Vec<_> = traffic.icmp.iter().map(|kind| one(kind.0)).collect();
    let icmpv6: Vec<_> = traffic.icmpv6.iter().map(|kind| one(kind.0)).collect();
    add(space, Protocol(ICMP), &icmp);
    add(space, Protocol(ICMPV6), &icmpv6);
    space.bdd.any(&any)
}

/// What a well-behaved host sends: to one host, from an address that can be answered, and to the box by an address of the box's.
pub fn honest(space: &mut Space, plan: &Plan, facts: &crate::space::Facts) -> Set {
    let local = facts.kind(space, &[AddressType::Local]);
    let unicast = facts.kind(space, &[AddressType::Unicast]);
    let to_one = space.bdd.or(local, unicast);
    let link_local = space.addresses(SOURCE, &[crate::space::link_local()]);
    let unspecified = space.addresses(SOURCE, &[crate::space::unspecified()]);
    let abroad = space.bdd.and(link_local, unicast);
    let unanswerable = space.bdd.or(unspecified, abroad);
    // What comes from the box has one of its addresses; link-local destinations need a link to be named.
    let from_box = space.the_box(IIF);
    let own: Vec<_> = plan.links.values().flat_map(|link| &link.addresses).map(|net| net.addr()).collect();
    let own = space.hosts(SOURCE, &own);
    let foreign = space.bdd.minus(from_box, own);
    let leased = plan.links.values().any(|link| link.dhcp4 || link.dhcp6);
    let foreign = if leased { Set::EMPTY } else { foreign };
    let local_link = space.addresses(DESTINATION, &[crate::space::link_local()]);
    let to_ports = space.the_box(OIF);
    let on_link = space.bdd.minus(local_link, to_ports);
    let not = space.bdd.any(&[unanswerable, foreign, on_link]);
    space.bdd.minus(to_one, not)
}
