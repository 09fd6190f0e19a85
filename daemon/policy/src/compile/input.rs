//! What may reach the box itself.

use std::collections::BTreeMap;

use crate::check::ranges::{Family, of_net};
use crate::model::{DhcpFamily, Protocol, ZoneTerm};
use crate::name::IfName;
use crate::plan::proxy::Proxy;
use crate::ruleset::{BasePolicy, Chain, Datum, Element, Field, Hook, Op, Operand, Part, Per, Rule, Span, Target, Verdict};

use super::hygiene::{base, icmp, jump, known_connections, loopback};
use super::pairs::Pairs;
use super::spans::operand;
use super::zones::{End, through};
use super::{Context, Fragment, accept, addresses, antispoof, matches, proxy, services};

const MAP: &str = "input_ports";

/// ICMPv6 types (IANA "ICMPv6 Parameters").
const ERRORS: [u8; 4] = [1, 2, 3, 4];
const MULTICAST_LISTENER: [u8; 4] = [130, 131, 132, 143];
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR: [u8; 2] = [135, 136];
const ECHO_REQUEST: [(Family, u8); 2] = [(Family::V4, 8), (Family::V6, 128)];

pub fn chains(context: &Context<'_>, pairs: &Pairs<'_>, forwarder: &Proxy) -> Fragment {
    let mut rules = vec![loopback(Field::IifName)];
    rules.extend(proxy::captured(forwarder));
    rules.extend(proxy::ports_of_the_forwarder(context, forwarder));
    // All pings of one identifier are one connection: behind the rule for known connections, only the first would be counted.
    rules.extend(ECHO_REQUEST.map(|(family, echo)| Rule::of([icmp(family, &[echo]), vec![jump("echo")]].concat())));
    rules.push(known_connections());
    rules.extend(ipv6_needs(context));
    rules.extend(dhcp_answers(context, Field::IifName));
    rules.extend(admin(context).into_iter().map(|parts| accept(parts).because("admin access")));
    rules.push(Rule::of([Part::VerdictMap { fields: vec![Field::IifName], map: MAP.to_owned() }]));
    rules.extend(ECHO_REQUEST.map(|(family, echo)| accept(icmp(family, &[echo]))));
    rules.push(context.drop("noise", [to_many()]));
    rules.push(context.drop("input", []));

    Fragment {
        sets: BTreeMap::from([(MAP.to_owned(), antispoof::dispatch(vec![Field::IifName], elements(context, pairs)))]),
        chains: BTreeMap::from([
            ("input".to_owned(), base(Hook::Input, 0, BasePolicy::Drop, rules)),
            ("echo".to_owned(), Chain { base: None, rules: vec![context.drop("icmp-rate", [over(10)])] }),
        ]),
    }
}

fn elements(context: &Context<'_>, pairs: &Pairs<'_>) -> Vec<Element> {
    let mut elements = Vec::new();
    for ((from, to), chain) in &pairs.chain_of {
        if *to == End::Box {
            elements.extend(context.zones.ports(*from).iter().map(|(port, _)| element(&[port], chain)));
        }
    }
    elements.sort_by(|left, right| left.key.cmp(&right.key));
    elements
}

pub fn element(ports: &[&IfName], chain: &str) -> Element {
    let key = ports.iter().map(|port| Span::One(Datum::Interface((*port).into()))).collect();
    Element { key, to: Some(Target::Verdict(Verdict::Jump(chain.to_owned()))), source: None }
}

/// Without these a host has no neighbours, no path MTU and no router (RFC 4890 section 4.4.1).
fn ipv6_needs(context: &Context<'_>) -> Vec<Rule> {
    let link_local =
        Part::Match { field: Field::Ip6Saddr, op: Op::Eq, to: Operand::One(Family::V6.span(of_net(&antispoof::LINK_LOCAL).1)) };
    let from_link_local = |types: &[u8]| {
        let mut parts = icmp(Family::V6, types);
        parts.insert(1, link_local.clone());
        parts
    };
    let mut rules =
        vec![accept(icmp(Family::V6, &NEIGHBOUR)), accept(icmp(Family::V6, &ERRORS)), accept(from_link_local(&MULTICAST_LISTENER))];
    // Only where a router is expected: anyone else's advertisement would make the box route through them.
    if let Some(leased) = leased(context, DhcpFamily::Ipv6, Field::IifName) {
        rules.push(accept([vec![leased], from_link_local(&[ROUTER_ADVERTISEMENT])].concat()));
    }
    rules
}

/// The ports on which a family is leased.
fn leased(context: &Context<'_>, family: DhcpFamily, field: Field) -> Option<Part> {
    let ports = context.config.interfaces.iter().filter(|(_, interface)| interface.spec.dhcp.contains(&family));
    through(field, ports.map(|(name, _)| name))
}

/// A server answers a multicast question from its own address, so conntrack does not see an answer in it.
pub fn dhcp_answers(context: &Context<'_>, field: Field) -> Vec<Rule> {
    let mut rules = Vec::new();
    // On the way out the ports are the other way round.
    let (own, sport, dport) = if field == Field::IifName { (Field::Dport, 67, 68) } else { (Field::Sport, 68, 67) };
    let port = |field, number| Part::Match { field, op: Op::Eq, to: Operand::One(Span::One(Datum::Port(number))) };
    let udp = services::protocol_part(&[Protocol::UDP]);
    if let Some(leased) = leased(context, DhcpFamily::Ipv4, field) {
        rules.push(accept([leased, matches::is_family(Family::V4), udp.clone(), port(Field::Sport, sport), port(Field::Dport, dport)]));
    }
    if let Some(leased) = leased(context, DhcpFamily::Ipv6, field) {
        let link_local = Operand::One(Family::V6.span(of_net(&antispoof::LINK_LOCAL).1));
        let from = Part::Match { field: Field::Ip6Saddr, op: Op::Eq, to: link_local };
        rules.push(accept([leased, matches::is_family(Family::V6), from, udp, port(own, 546)]));
    }
    rules
}

/// Pages, API and ssh, for those who administer. It stands before every rule, so that no rule can shut them out.
pub fn admin(context: &Context<'_>) -> Vec<Vec<Part>> {
    let admin = &context.system.admin;
    let zones: Vec<ZoneTerm> = admin.zones.clone();
    let ports = context.zones.ports_of(&context.zones.ends(&zones));
    let Some(through) = through(Field::IifName, ports.into_iter().map(|(name, _)| name)) else { return Vec::new() };
    let mut numbers = if admin.ssh { vec![22, admin.port] } else { vec![admin.port] };
    numbers.sort_unstable();
    numbers.dedup();
    let spans = numbers.into_iter().map(|number| Span::One(Datum::Port(number))).collect();
    let service = [services::protocol_part(&[Protocol::TCP]), Part::Match { field: Field::Dport, op: Op::Eq, to: operand(spans) }];

    let mut found = Vec::new();
    let families = if admin.sources.is_empty() { vec![None] } else { Family::BOTH.map(Some).to_vec() };
    for family in families {
        let alternatives =
            family.map_or(vec![addresses::Alternative::All], |family| addresses::alternatives(context.addresses, &admin.sources, family));
        for alternative in alternatives {
            let source = family.map(|family| (matches::is_family(family), addresses::part(family.source(), &alternative)));
            let mut parts = vec![through.clone()];
            if let Some((family, source)) = source {
                parts.push(family);
                parts.extend(source);
            }
            parts.extend(service.clone());
            found.push(parts);
        }
    }
    found
}

/// Broadcast and multicast that nobody asked for: counted, not worth a word.
fn to_many() -> Part {
    let kinds = [1, 2].map(|kind| Span::One(Datum::Byte(kind))).to_vec();
    Part::Match { field: Field::PktType, op: Op::Eq, to: operand(kinds) }
}

fn over(rate: u32) -> Part {
    Part::Limit { per: Per::Second, rate, burst: rate, over: true }
}
