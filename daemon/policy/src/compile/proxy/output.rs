//! What the forwarder may send: to upstreams, and answers. Whatever goes wrong in it, it is no way around the upstreams.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::ranges::Family;
use crate::messages::forwarder::FORWARDER_UID;
use crate::model::Protocol;
use crate::name::IfName;
use crate::plan::proxy::Proxy;
use crate::ruleset::{Chain, Datum, Field, Op, Operand, Part, Rule, Set, Span, Verdict};

use super::{ANSWER, Context, MAPPING, set};
use crate::compile::zones::through;
use crate::compile::{Fragment, accept, matches, services};

const OUT: &str = "proxy_out";
const ANSWERS: &str = "proxy_answers";
const BACK: &str = "proxy_back";
/// Address and TCP port of every upstream.
const UPSTREAMS: [(Family, &str); 2] = [(Family::V4, "proxy_upstreams4"), (Family::V6, "proxy_upstreams6")];
/// Addresses of those that relay UDP, on a port that they name themselves.
const RELAYS: [(Family, &str); 2] = [(Family::V4, "proxy_relays4"), (Family::V6, "proxy_relays6")];

/// `ct state`
const ESTABLISHED: u32 = 2;

/// The first rules of output: packets of the forwarder are decided in chains of its own.
pub(in crate::compile) fn ours(proxy: &Proxy) -> Vec<Rule> {
    if proxy.upstreams.is_empty() {
        return Vec::new();
    }
    let user = Operand::One(Span::One(Datum::Word(FORWARDER_UID)));
    let jump = |part, chain: &str| Rule::of([part, Part::Verdict(Verdict::Goto(chain.to_owned()))]);
    vec![
        // What a client's own socket on the box sends carries its mark, and so does an ICMP error over such a packet (fwmark_reflect). It has
        // the address that the client asked for as its source, or as its destination: while the client's link is away, both would be
        // routed to the internet.
        jump(Part::Masked { field: Field::Mark, mask: MAPPING, op: Op::Ne, value: 0 }, BACK),
        jump(Part::Masked { field: Field::Mark, mask: ANSWER, op: Op::Ne, value: 0 }, ANSWERS),
        jump(Part::Match { field: Field::SkUid, op: Op::Eq, to: user }, OUT),
    ]
}

pub(in crate::compile) fn chains(context: &Context<'_>, proxy: &Proxy) -> Fragment {
    if proxy.upstreams.is_empty() {
        return Fragment::default();
    }
    let sets = sets(proxy);
    let established = || Part::Masked { field: Field::CtState, mask: ESTABLISHED, op: Op::Ne, value: 0 };
    // Only to a mapped client, and only where it asked.
    let asked = Part::Masked { field: Field::CtMark, mask: MAPPING, op: Op::Ne, value: 0 };
    let ports: BTreeSet<&IfName> = proxy.mappings.values().flat_map(|mapping| &mapping.interfaces).collect();
    let to_clients = || through(Field::OifName, ports.iter().copied());
    let back = to_clients().map(|there| accept([there])).into_iter().chain([context.blocked("astray", [])]).collect();
    let answers =
        to_clients().map(|there| accept([there, established(), asked])).into_iter().chain([context.blocked("astray", [])]).collect();
    let mut out = vec![accept([established()])];
    out.extend(to_upstreams(&sets).map(accept));
    for (family, name) in RELAYS.into_iter().filter(|(_, name)| sets.contains_key(*name)) {
        let address = Part::InSet { fields: vec![family.destination()], negate: false, set: name.to_owned() };
        out.push(accept([services::protocol_part(&[Protocol::UDP]), matches::is_family(family), address]));
    }
    out.push(context.blocked("astray", []));
    let chain = |rules| Chain { base: None, rules };
    Fragment {
        chains: BTreeMap::from([(OUT.to_owned(), chain(out)), (ANSWERS.to_owned(), chain(answers)), (BACK.to_owned(), chain(back))]),
        sets,
    }
}

/// Where only named traffic may leave: upstreams are the forwarder's alone, whatever a rule says. The forwarder's own packets were decided before.
pub(in crate::compile) fn reserved(context: &Context<'_>, proxy: &Proxy) -> Vec<Rule> {
    to_upstreams(&sets(proxy)).map(|parts| context.blocked("upstream", parts)).collect()
}

fn to_upstreams(sets: &BTreeMap<String, Set>) -> impl Iterator<Item = Vec<Part>> {
    UPSTREAMS.into_iter().filter(|(_, name)| sets.contains_key(*name)).map(|(family, name)| {
        let there = Part::InSet { fields: vec![family.destination(), Field::Dport], negate: false, set: name.to_owned() };
        vec![services::protocol_part(&[Protocol::TCP]), matches::is_family(family), there]
    })
}

fn sets(proxy: &Proxy) -> BTreeMap<String, Set> {
    let mut sets = BTreeMap::new();
    for ((family, upstreams), (_, relays)) in UPSTREAMS.into_iter().zip(RELAYS) {
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for upstream in proxy.upstreams.values().filter(|upstream| Family::of(upstream.address) == family) {
            let address = match upstream.address {
                std::net::IpAddr::V4(address) => Span::One(Datum::V4(address)),
                std::net::IpAddr::V6(address) => Span::One(Datum::V6(address)),
            };
            tcp.push(vec![address, Span::One(Datum::Port(upstream.port))]);
            if upstream.udp {
                udp.push(vec![address]);
            }
        }
        for (name, key, mut elements) in
            [(upstreams, vec![family.destination(), Field::Dport], tcp), (relays, vec![family.destination()], udp)]
        {
            elements.sort();
            elements.dedup();
            if !elements.is_empty() {
                sets.insert(name.to_owned(), set(key, elements));
            }
        }
    }
    sets
}
