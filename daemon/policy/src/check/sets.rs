//! Address sets and services: references, names, and whether they hold anything.

use super::Whole;
use super::report::Report;
use super::services::predefined;
use crate::model::Protocol;

pub(super) fn check(whole: &Whole, report: &mut Report) {
    address_sets(whole, report);
    services(whole, report);
}

/// An empty set is allowed: a block list may have nobody on it today.
fn address_sets(whole: &Whole, report: &mut Report) {
    for (name, set) in &whole.config.address_sets {
        let mut spot = report.resource("AddressSet", name, set);
        if matches!(name.as_str(), "any" | "all" | "box") {
            spot.say(format!("`{name}` reads as if it had a meaning of its own; choose another name for this set"));
        }
        for (at, include) in set.spec.include.iter().enumerate() {
            whole.address_set(&mut spot.index("include", at), include);
        }
    }
}

fn services(whole: &Whole, report: &mut Report) {
    for (name, resource) in &whole.config.services {
        let mut spot = report.resource("Service", name, resource);
        let service = &resource.spec;
        let protocol = Protocol::NAMES.iter().any(|(protocol, _)| *protocol == name.as_str());
        if protocol || matches!(name.as_str(), "any" | "all" | "proto") {
            spot.say(format!("`{name}` has a meaning of its own in rules; choose another name for this service"));
        }
        let ports = service.tcp.len() + service.udp.len() + service.sctp.len();
        let whole_service = !whole.config.gaps.may_hide("Service", name.as_str());
        if whole_service && ports + service.icmp.len() + service.icmpv6.len() + service.protocols.len() == 0 {
            let usual = if predefined().contains_key(name.as_str()) { ", or remove this resource to use the predefined one" } else { "" };
            spot.say(format!(
                "this service holds nothing, so rules with it can never match; write tcp, udp, sctp, icmp, icmpv6 or protocols{usual}"
            ));
        }
        let twice = [
            ("tcp", Protocol::TCP, service.tcp.len()),
            ("udp", Protocol::UDP, service.udp.len()),
            ("sctp", Protocol::SCTP, service.sctp.len()),
        ];
        for (field, protocol, ports) in twice {
            if ports > 0 && service.protocols.contains(&protocol) {
                spot.field("protocols")
                    .say(format!("`{field}` as a whole stands here beside single ports in `{field}:`; keep one of them"));
            }
        }
        for (field, protocol, types) in [("icmp", Protocol::ICMP, service.icmp.len()), ("icmpv6", Protocol::ICMPV6, service.icmpv6.len())] {
            if types > 0 && service.protocols.contains(&protocol) {
                spot.field("protocols")
                    .say(format!("`{field}` as a whole stands here beside single types in `{field}:`; keep one of them"));
            }
        }
    }
}
