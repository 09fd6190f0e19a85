//! Translations: families, ports, and that none of them takes the administration away.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Whole;
use super::ranges::{Family, number, overlap};
use super::report::{Report, Spot};
use super::services::Traffic;
use super::terms::TheBox;
use crate::model::{Admin, NatKind, NatRule, Protocol, ZoneTerm};

const MOST_RULES: usize = 20_000;
const SSH: u16 = 22;

pub(super) fn check(whole: &Whole, report: &mut Report) {
    let mut rules = 0;
    for (name, policy) in &whole.config.nat_policies {
        let mut spot = report.resource("NatPolicy", name, policy);
        let mut lines = BTreeMap::new();
        for (at, rule) in policy.spec.rules.iter().enumerate() {
            let mut spot = spot.rule(at, rule);
            if let Some(first) = lines.insert(&rule.value.name, rule.line) {
                spot.field("name")
                    .say(format!("a rule named {} stands on line {first} already; give one of them another name", rule.value.name));
            }
            check_rule(whole, &mut spot, &rule.value);
        }
        rules += policy.spec.rules.len();
    }
    if rules > MOST_RULES {
        report.0.general(format!("the policy has {rules} NAT rules; at most {MOST_RULES} are possible"));
    }
}

fn check_rule(whole: &Whole, spot: &mut Spot, rule: &NatRule) {
    let source_nat = matches!(rule.kind, NatKind::Masquerade { .. } | NatKind::Snat { .. });
    let the_box = match source_nat {
        true => TheBox::Allowed,
        false => TheBox::Refused("what the box itself sends is not redirected; name a zone, or leave `from` out"),
    };
    whole.zone_terms(spot, "from", &rule.from, the_box);
    whole.address_terms(spot, "sources", &rule.sources);
    whole.address_terms(spot, "destinations", &rule.destinations);
    whole.service_terms(spot, "services", &rule.services);
    whole.families_meet(spot, &rule.sources, &rule.destinations, &rule.services);
    let traffic = Traffic::of(whole.config, &rule.services);
    let ports_known = !whole.config.gaps.may_hide_any("Service");
    match &rule.kind {
        NatKind::Masquerade { to } => leaving(whole, spot, to),
        NatKind::Snat { to, to_address, to_ports } => {
            leaving(whole, spot, to);
            target(whole, spot, rule, *to_address);
            if to_ports.is_some() && ports_known {
                needs_ports(spot, "toPorts", traffic.as_ref());
            }
        }
        NatKind::PortForward { to_address, to_port, .. } => {
            target(whole, spot, rule, *to_address);
            if to_port.is_some() && ports_known {
                needs_ports(spot, "toPort", traffic.as_ref());
            }
            if own_addresses(whole).any(|own| own == *to_address) {
                spot.field("toAddress").say(format!("{to_address} is the box itself; use `type: redirect` with toPort"));
            }
            keeps_administration(whole, spot, rule, traffic.as_ref(), None);
        }
        NatKind::Redirect { to_port } => {
            if ports_known {
                needs_ports(spot, "toPort", traffic.as_ref());
            }
            keeps_administration(whole, spot, rule, traffic.as_ref(), Some(*to_port));
        }
    }
}

fn leaving(whole: &Whole, spot: &mut Spot, to: &[ZoneTerm]) {
    whole.zone_terms(spot, "to", to, TheBox::Refused("sources change where packets leave the box; name the zone they leave to"));
}

/// The new address must be one that a host has, in a family that the rule's packets have.
fn target(whole: &Whole, spot: &mut Spot, rule: &NatRule, address: IpAddr) {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast() || address.octets()[0] == 0);
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast {
        spot.field("toAddress").say(format!("{address} is no host's address; write the address of one host"));
        return;
    }
    if whole.config.gaps.may_hide_any("AddressSet") || whole.config.gaps.may_hide_any("Service") {
        return;
    }
    let family = Family::of(address);
    let traffic = Traffic::of(whole.config, &rule.services);
    let other = |terms: &[_]| {
        !whole.addresses.has_any(terms, family) && Family::BOTH.into_iter().any(|family| whole.addresses.has_any(terms, family))
    };
    let against = if other(&rule.sources) {
        "sources"
    } else if other(&rule.destinations) {
        "destinations"
    } else if traffic.is_some_and(|traffic| !traffic.has_any(family) && Family::BOTH.into_iter().any(|family| traffic.has_any(family))) {
        "services"
    } else {
        return;
    };
    spot.field("toAddress").say(format!(
        "{address} is {family} and the rule's {against} are not: an address is only ever translated inside its family; write one of the same family"
    ));
}

fn needs_ports(spot: &mut Spot, field: &'static str, traffic: Option<&Traffic>) {
    if traffic.is_none_or(|traffic| !traffic.has_only_ports()) {
        spot.field(field).say(format!("`{field}` needs packets with ports; name only TCP, UDP or SCTP in `services`, as in tcp/8080"));
    }
}

/// A translation comes before the filter: one that catches the administrators' own connections locks them out.
fn keeps_administration(whole: &Whole, spot: &mut Spot, rule: &NatRule, traffic: Option<&Traffic>, to_port: Option<u16>) {
    let Some((_, system)) = &whole.config.system else { return };
    let admin = &system.spec.admin;
    let gaps = &whole.config.gaps;
    if !rule.enabled || gaps.may_hide_any("System") || gaps.may_hide_any("AddressSet") || !meets_administrators(whole, rule, admin) {
        return;
    }
    let ports = std::iter::once((admin.port, "the pages")).chain(admin.ssh.then_some((SSH, "ssh")));
    for (port, what) in ports {
        if to_port != Some(port) && traffic.is_none_or(|traffic| traffic.holds_port(Protocol::TCP, port)) {
            spot.say(format!(
                "this takes tcp/{port} of the box, which carries {what} for System.admin, and locks administrators out; \
                 name other ports, or keep the administrators' zones out of `from`"
            ));
        }
    }
}

fn meets_administrators(whole: &Whole, rule: &NatRule, admin: &Admin) -> bool {
    let zones = rule.from.is_empty() || rule.from.contains(&ZoneTerm::Any) || rule.from.iter().any(|zone| admin.zones.contains(zone));
    let sources = Family::BOTH
        .into_iter()
        .any(|family| overlap(&whole.addresses.of_terms(&rule.sources, family), &whole.addresses.of_terms(&admin.sources, family)));
    let destinations = rule.destinations.is_empty()
        || own_addresses(whole).any(|own| {
            let own_bits = number(own);
            overlap(&whole.addresses.of_terms(&rule.destinations, Family::of(own)), &[(own_bits, own_bits)])
        });
    zones && sources && destinations
}

fn own_addresses(whole: &Whole) -> impl Iterator<Item = IpAddr> {
    whole.config.interfaces.values().flat_map(|interface| interface.spec.addresses.iter().map(|net| net.addr()))
}
