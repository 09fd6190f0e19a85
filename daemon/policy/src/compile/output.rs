//! What the box itself may send.

use std::collections::BTreeMap;

use crate::check::ranges::Family;
use crate::model::{OutputPosture, Protocol};
use crate::plan::proxy::Proxy;
use crate::ruleset::{BasePolicy, Field, Hook, Part, Rule};

use super::hygiene::{base, icmp, known_connections, loopback};
use super::input::{dhcp_answers, element};
use super::pairs::Pairs;
use super::zones::End;
use super::{Context, Fragment, accept, antispoof, proxy, services};

const MAP: &str = "output_ports";

/// Router solicitation, neighbour discovery and multicast listening: how the box learns and tells who is on a link.
const LINK: [u8; 5] = [131, 132, 133, 135, 136];
const LISTENER_REPORT: u8 = 143;

pub fn chains(context: &Context<'_>, pairs: &Pairs<'_>, forwarder: &Proxy) -> Fragment {
    let strict = context.system.output == OutputPosture::Strict;
    let mut rules = proxy::output_rules(forwarder);
    rules.extend([loopback(Field::OifName), known_connections()]);
    if strict {
        rules.extend(proxy::reserved(context, forwarder));
        rules.push(accept(icmp(Family::V6, &[&LINK[..], &[LISTENER_REPORT]].concat())));
        rules.extend(dhcp_answers(context, Field::OifName));
    }
    rules.push(Rule::of([Part::VerdictMap { fields: vec![Field::OifName], map: MAP.to_owned() }]));
    if strict {
        rules.push(accept(services::to_port(&[Protocol::TCP, Protocol::UDP], 53)).because("the box's own dns"));
        rules.push(accept(services::to_port(&[Protocol::UDP], 123)).because("the box's own ntp"));
        rules.push(accept([services::protocol_part(&[Protocol::ICMP, Protocol::ICMPV6])]));
        rules.push(context.drop("output", []));
    }

    let mut elements = Vec::new();
    for ((from, to), chain) in &pairs.chain_of {
        if *from == End::Box {
            elements.extend(context.zones.ports(*to).iter().map(|(port, _)| element(&[port], chain)));
        }
    }
    elements.sort_by(|left, right| left.key.cmp(&right.key));
    let policy = if strict { BasePolicy::Drop } else { BasePolicy::Accept };
    Fragment {
        sets: BTreeMap::from([(MAP.to_owned(), antispoof::dispatch(vec![Field::OifName], elements))]),
        chains: BTreeMap::from([("output".to_owned(), base(Hook::Output, 0, policy, rules))]),
    }
}
