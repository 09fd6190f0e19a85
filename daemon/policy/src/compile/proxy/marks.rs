//! Prerouting: whose client a packet is from, and where it goes.

use std::collections::BTreeMap;

use crate::messages::forwarder::{DATAGRAMS_PORT, TRANSPARENT_PORT};
use crate::model::Protocol;
use crate::plan::proxy::{Dns, Mapping, Proxy, TcpCapture};
use crate::ruleset::{Chain, Datum, Field, Op, Part, Rule, Set, Span, Verdict};

use super::plan::upstreams;
use super::{CAPTURED, CLIENTS, Context, MACS, MAPPING, PERMITS, REDIRECTED, client_maps, mark, set};
use crate::compile::spans::operand;
use crate::compile::{Fragment, accept, matches, services, zones};

const WHOSE: &str = "proxy";
const MAPPED: &str = "proxy_mapped";
const CARRIED: &str = "proxy_carried";

/// Mappings by their marks, whose port 53, ports 853, TCP or UDP is treated so.
const DNS_DROP: &str = "proxy_dns_drop";
const DOT_DROP: &str = "proxy_dot_drop";
const TPROXY: &str = "proxy_tproxy";
const UDP: &str = "proxy_udp";

const DNS_PORT: u16 = 53;
const DOT_PORT: u16 = 853;

/// `fib daddr type` (RTN_* in include/uapi/linux/rtnetlink.h): local, broadcast, anycast, multicast.
const HERE: [u8; 4] = [2, 3, 4, 5];

pub(in crate::compile) fn chains(context: &Context<'_>, proxy: &Proxy) -> Fragment {
    if proxy.mappings.is_empty() {
        return Fragment::default();
    }
    let maps = client_maps(&proxy.mappings);
    let sets = Sets::of(proxy);
    let chains = BTreeMap::from([
        (WHOSE.to_owned(), Chain { base: None, rules: whose(&maps) }),
        (MAPPED.to_owned(), Chain { base: None, rules: mapped(context, &sets) }),
        (CARRIED.to_owned(), Chain { base: None, rules: carried(context, &sets) }),
    ]);
    let permits =
        Set { timeout: true, comment: Some("a permit for each mapping that can be carried".to_owned()), ..set(vec![Field::Mark], vec![]) };
    let sets = sets.0.into_iter().chain(maps).chain([(PERMITS.to_owned(), permits)]).collect();
    Fragment { sets, chains }
}

/// Asked before anything is marked as let in, and in the same base chain: while a ruleset replaces another, a packet that is on its way
/// meets each base chain as it stands at that moment, and one that would take back the mark might be gone.
pub(in crate::compile) fn before_letting_in(proxy: &Proxy) -> Option<Rule> {
    (!proxy.mappings.is_empty()).then(|| Rule::of([Part::Verdict(Verdict::Jump(WHOSE.to_owned()))]))
}

/// The first rule of forward, before known connections are let through.
pub(in crate::compile) fn mapped_are_not_forwarded(context: &Context<'_>, proxy: &Proxy) -> Vec<Rule> {
    let mut rules = Vec::new();
    if !proxy.mappings.is_empty() {
        rules.push(context.blocked("forward", [is_mapped(Op::Ne)]));
    }
    let proxied = context
        .config
        .interfaces
        .iter()
        .filter(|(_, interface)| context.config.zones.get(&interface.spec.zone).is_some_and(|zone| zone.spec.proxied));
    rules.extend(zones::through(Field::IifName, proxied.map(|(port, _)| port)).map(|from| context.blocked("unmapped", [from])));
    rules
}

/// The whole mark is replaced: what has a mapping has not been let in.
fn whose(maps: &BTreeMap<String, Set>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (family, map) in CLIENTS.into_iter().filter(|(_, map)| maps.contains_key(*map)) {
        let mark = Part::MarkFromMap { fields: vec![family.source()], map: map.to_owned() };
        rules.push(Rule::of([matches::is_family(family), mark]));
    }
    if maps.contains_key(MACS) {
        // Last: a client that is named by its hardware address is that mapping's whatever its address.
        rules.push(Rule::of([Part::MarkFromMap { fields: vec![Field::EtherSaddr], map: MACS.to_owned() }]));
    }
    rules.push(goto([is_mapped(Op::Ne)], MAPPED));
    rules
}

/// From here on the mark is the mapping's and nothing else, so that it can be looked up as it is.
fn mapped(context: &Context<'_>, sets: &Sets) -> Vec<Rule> {
    let both = [Protocol::TCP, Protocol::UDP];
    let mut rules = vec![Rule::of([Part::CtMarkFromMark { mask: MAPPING }])];
    rules.extend(sets.rule(DNS_DROP, |is_so| context.blocked("dns", [services::to_port(&both, DNS_PORT), vec![is_so]].concat())));
    rules.extend(sets.rule(DOT_DROP, |is_so| context.blocked("dns", [services::to_port(&both, DOT_PORT), vec![is_so]].concat())));
    // Before what is for the box: questions to the box are carried too.
    rules.push(goto(services::to_port(&both, DNS_PORT), CARRIED));
    let here = HERE.map(|kind| Span::One(Datum::Byte(kind))).to_vec();
    rules.push(accept([Part::Match { field: Field::FibDaddrType, op: Op::Eq, to: operand(here) }]).because("to the box: as input says"));
    rules.push(goto([], CARRIED));
    rules
}

fn carried(context: &Context<'_>, sets: &Sets) -> Vec<Rule> {
    let tcp = || services::protocol_part(&[Protocol::TCP]);
    let udp = || services::protocol_part(&[Protocol::UDP]);
    let tproxy = |port, parts: Vec<Part>| accept([parts, vec![Part::Tproxy { port }, set_mark(CAPTURED)]].concat());
    let mut rules = vec![context.blocked("blocked", [in_set(PERMITS, true)])];
    rules.extend(sets.rule(TPROXY, |is_so| tproxy(TRANSPARENT_PORT, vec![is_so, tcp()])));
    // Where no transparent socket was found, the rule before ended without a verdict; no redirect makes up for it.
    let not_tproxy = sets.0.contains_key(TPROXY).then(|| in_set(TPROXY, true));
    rules.push(accept(not_tproxy.into_iter().chain([tcp(), set_mark(CAPTURED | REDIRECTED)])));
    // Whose questions are not carried never came here.
    rules.push(tproxy(DATAGRAMS_PORT, services::to_port(&[Protocol::UDP], DNS_PORT)));
    rules.extend(sets.rule(UDP, |is_so| tproxy(DATAGRAMS_PORT, vec![is_so, udp()])));
    rules.push(context.blocked("other", []));
    rules
}

type Belongs = fn(&Proxy, &Mapping) -> bool;

/// How mappings differ. A set that nobody is in does not exist, and neither do its rules.
struct Sets(BTreeMap<String, Set>);

impl Sets {
    fn of(proxy: &Proxy) -> Self {
        let wanted: [(&str, Belongs); 4] = [
            (DNS_DROP, |_, mapping| mapping.dns == Dns::Drop),
            (DOT_DROP, |_, mapping| mapping.dns != Dns::Proxied),
            (TPROXY, |_, mapping| mapping.tcp == TcpCapture::Tproxy),
            (UDP, |proxy, mapping| mapping.udp && upstreams(proxy, &mapping.via).any(|upstream| upstream.udp)),
        ];
        let mut sets = BTreeMap::new();
        for (name, belongs) in wanted {
            let mut marks: Vec<u32> =
                proxy.mappings.values().filter(|mapping| belongs(proxy, mapping)).map(|mapping| mark(mapping.id)).collect();
            marks.sort_unstable();
            if !marks.is_empty() {
                let elements = marks.into_iter().map(|mark| vec![Span::One(Datum::Word(mark))]).collect();
                sets.insert(name.to_owned(), set(vec![Field::Mark], elements));
            }
        }
        Sets(sets)
    }

    fn rule(&self, set: &str, rule: impl Fn(Part) -> Rule) -> Option<Rule> {
        self.0.contains_key(set).then(|| rule(in_set(set, false)))
    }
}

fn in_set(set: &str, negate: bool) -> Part {
    Part::InSet { fields: vec![Field::Mark], negate, set: set.to_owned() }
}

fn set_mark(bits: u32) -> Part {
    Part::SetMark { mask: bits, value: bits }
}

/// `Ne` 0: some mapping's client; `Eq` 0: nobody's.
fn is_mapped(op: Op) -> Part {
    Part::Masked { field: Field::Mark, mask: MAPPING, op, value: 0 }
}

fn goto(parts: impl IntoIterator<Item = Part>, chain: &str) -> Rule {
    Rule::of(parts.into_iter().chain([Part::Verdict(Verdict::Goto(chain.to_owned()))]).collect::<Vec<_>>())
}
