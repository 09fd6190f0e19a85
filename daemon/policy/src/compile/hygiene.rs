//! What is dropped on sight, whoever sent it, before any rule is asked.

use std::collections::BTreeMap;

use crate::check::ranges::Family;
use crate::model::Protocol;
use crate::name::IfName;
use crate::plan::proxy::Proxy;
use crate::ruleset::{Base, BasePolicy, Chain, ChainKind, Datum, Field, Hook, Op, Operand, Part, Per, Rule, Span, Verdict};

use super::{Context, Fragment, LET_IN, LOG_GROUP, accept, addresses, antispoof, matches, proxy, services, zones};

const INVALID: u32 = 1;
const ESTABLISHED: u32 = 2;
const RELATED: u32 = 4;
const NEW: u32 = 8;
const UNTRACKED: u32 = 64;

const FIN: u32 = 1;
const SYN: u32 = 2;
const RST: u32 = 4;
const PSH: u32 = 8;
const ACK: u32 = 16;
const URG: u32 = 32;

/// The first chain that a packet meets, after conntrack has seen it. What passes is marked; the routing rules forward nothing
/// without that mark, so that a box whose table is gone forwards nothing.
pub fn chains(context: &Context<'_>, forwarder: &Proxy) -> Fragment {
    let mut fragment = Fragment::default();
    let mut rules = vec![
        loopback(Field::IifName),
        // Conntrack calls these invalid too; asking first lets them be logged as what they are.
        Rule::of([state(INVALID | NEW | UNTRACKED), services::protocol_part(&[Protocol::TCP]), jump("tcp_flags")]),
        context.drop("invalid", [state(INVALID)]),
    ];
    for family in Family::BOTH {
        let own = antispoof::own_addresses(context.config, family);
        if !own.is_empty() {
            let set = antispoof::own_set(family);
            let from_own = Part::InSet { fields: vec![family.source()], negate: false, set: set.clone() };
            rules.push(context.drop("spoofed", [matches::is_family(family), from_own]));
            fragment.sets.insert(set, addresses::interval_set(family, &own, Some("the box's own addresses".to_owned())));
        }
    }
    rules.push(Rule::of([Part::VerdictMap { fields: vec![Field::IifName], map: antispoof::PORTS.to_owned() }]));
    rules.push(context.drop("unknown-port", []));

    let let_in = proxy::before_letting_in(forwarder).into_iter().chain([accept([Part::SetMark { mask: LET_IN, value: LET_IN }])]).collect();
    fragment.chains = BTreeMap::from([
        ("prerouting".to_owned(), base(Hook::Prerouting, -150, BasePolicy::Drop, rules)),
        ("tcp_flags".to_owned(), Chain { base: None, rules: scans() }),
        ("scan".to_owned(), Chain { base: None, rules: vec![logged("posture/scan"), context.drop("scan", [])] }),
        (antispoof::LET_IN_CHAIN.to_owned(), Chain { base: None, rules: let_in }),
    ]);
    fragment
}

/// Combinations that no honest TCP sends, and that scanners send to learn from the answer.
fn scans() -> Vec<Rule> {
    let all = FIN | SYN | RST | PSH | ACK | URG;
    let flags = |mask, value, name: &str| {
        Rule::of([
            services::protocol_part(&[Protocol::TCP]),
            Part::Masked { field: Field::TcpFlags, mask, op: Op::Eq, value },
            jump("scan"),
        ])
        .because(name)
    };
    vec![
        flags(all, 0, "null"),
        flags(all, FIN | PSH | URG, "xmas"),
        flags(FIN | ACK, FIN, "fin without ack"),
        flags(SYN | FIN, SYN | FIN, "syn and fin"),
        flags(SYN | RST, SYN | RST, "syn and rst"),
    ]
}

/// A flood must not become a flood of log messages.
fn logged(prefix: &str) -> Rule {
    Rule::of([
        Part::Limit { per: Per::Second, rate: 10, burst: 10, over: false },
        Part::Log { prefix: prefix.to_owned(), group: Some(LOG_GROUP) },
    ])
}

pub fn base(hook: Hook, priority: i32, policy: BasePolicy, rules: Vec<Rule>) -> Chain {
    let kind = if priority.abs() == 100 { ChainKind::Nat } else { ChainKind::Filter };
    Chain { base: Some(Base { kind, hook, priority, policy }), rules }
}

pub fn jump(chain: &str) -> Part {
    Part::Verdict(Verdict::Jump(chain.to_owned()))
}

pub fn loopback(field: Field) -> Rule {
    let lo = IfName::try_from("lo").ok();
    accept(zones::through(field, lo.iter()))
}

/// Answers and what belongs to a known connection, ICMP errors included.
pub fn known_connections() -> Rule {
    accept([state(ESTABLISHED | RELATED)])
}

/// Any of these connection states.
fn state(mask: u32) -> Part {
    Part::Masked { field: Field::CtState, mask, op: Op::Ne, value: 0 }
}

/// ICMP types of one family.
pub fn icmp(family: Family, types: &[u8]) -> Vec<Part> {
    let (protocol, field) = match family {
        Family::V4 => (Protocol::ICMP, Field::Icmp4Type),
        Family::V6 => (Protocol::ICMPV6, Field::Icmp6Type),
    };
    let spans: Vec<Span> = types.iter().map(|number| Span::One(Datum::Byte(*number))).collect();
    let to = if let [one] = spans[..] { Operand::One(one) } else { Operand::Any(spans) };
    vec![matches::is_family(family), services::protocol_part(&[protocol]), Part::Match { field, op: Op::Eq, to }]
}
