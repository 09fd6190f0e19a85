//! Policy routing rules (`ip rule`), in both families.
//!
//! They are the second layer that fails shut: without the mark that our table gives, nothing can be forwarded.

use std::collections::BTreeSet;

use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use policy::plan::{RouteAction, RouteRule, RouteSelector};

use crate::deliver;
use crate::netlink::{OURS, RouteTalk};
use crate::{Difference, Error};

/// RT_TABLE_MAIN (include/uapi/linux/rtnetlink.h).
const MAIN: u32 = 254;
const DELIVER: u32 = deliver::TABLE;
const FAMILIES: [(AddressFamily, &str); 2] = [(AddressFamily::Inet, "IPv4"), (AddressFamily::Inet6, "IPv6")];

/// Adds what is missing, then removes what we installed earlier and is no longer wanted, and whatever somebody put before our
/// last rule: it would lead packets past the guard. The kernel's own rule for local addresses (preference 0) stays.
pub fn reconcile(wanted: &BTreeSet<RouteRule>) -> Result<(), Error> {
    let mut talk = RouteTalk::open()?;
    let delivers = delivers(wanted);
    if delivers {
        // Before the rule, which without it would lead captured packets on to the guard: to nobody, for a moment.
        deliver::establish(&mut talk)?;
    }
    for (family, name) in FAMILIES {
        let held = read(&mut talk, family)?;
        for rule in wanted.iter().filter(|rule| !held.iter().any(|held| held.rule.as_ref() == Some(rule))) {
            let message = RouteNetlinkMessage::NewRule(message(family, rule));
            talk.change(&format!("{name} {}", words(rule)), message, libc::NLM_F_CREATE | libc::NLM_F_EXCL)?;
        }
        for extra in unwanted(wanted, held) {
            match talk.change(&format!("removal of {name} {}", extra.words), RouteNetlinkMessage::DelRule(extra.message), 0) {
                Err(error) if error.errno() == Some(libc::ENOENT) => {}
                other => other?,
            }
        }
    }
    if delivers { Ok(()) } else { deliver::abolish(&mut talk) }
}

fn delivers(wanted: &BTreeSet<RouteRule>) -> bool {
    wanted.iter().any(|rule| rule.action == RouteAction::Deliver)
}

/// Rules of the plan that are missing, and rules that stand where they should not.
pub fn differences(wanted: &BTreeSet<RouteRule>) -> Result<Vec<Difference>, Error> {
    let mut talk = RouteTalk::open()?;
    let mut out = Vec::new();
    for (family, name) in FAMILIES {
        let held = read(&mut talk, family)?;
        for rule in wanted.iter().filter(|rule| !held.iter().any(|held| held.rule.as_ref() == Some(rule))) {
            out.push(Difference { what: format!("{name} {}", words(rule)), expected: "present".into(), found: "absent".into() });
        }
        for extra in unwanted(wanted, held) {
            out.push(Difference { what: format!("{name} {}", extra.words), expected: "absent".into(), found: "present".into() });
        }
    }
    out.extend(deliver::differences(&mut talk, delivers(wanted))?);
    Ok(out)
}

/// A rule as the kernel has it.
struct Held {
    preference: u32,
    ours: bool,
    /// None when it is none that a plan can hold.
    rule: Option<RouteRule>,
    words: String,
    message: RuleMessage,
}

/// Ours that are not in the plan, doubles, and those of others up to our last one.
fn unwanted(wanted: &BTreeSet<RouteRule>, held: Vec<Held>) -> Vec<Held> {
    let last = wanted.iter().map(|rule| rule.preference).max();
    let mut seen = BTreeSet::new();
    held.into_iter()
        .filter(|held| match &held.rule {
            Some(rule) if wanted.contains(rule) => !seen.insert(rule.clone()),
            _ => held.ours || (held.preference > 0 && last.is_some_and(|last| held.preference <= last)),
        })
        .collect()
}

fn words(rule: &RouteRule) -> String {
    let selector = match rule.selector {
        RouteSelector::FromBox => "iif lo".to_owned(),
        RouteSelector::WithoutMark { mask, value } => format!("not fwmark {value:#x}/{mask:#x}"),
        RouteSelector::Mark { mask, value } => format!("fwmark {value:#x}/{mask:#x}"),
    };
    let action = match rule.action {
        RouteAction::Main => "lookup main",
        RouteAction::Unreachable => "unreachable",
        RouteAction::Deliver => "lookup 100",
    };
    format!("rule {}: {selector} {action}", rule.preference)
}

fn message(family: AddressFamily, rule: &RouteRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.attributes.push(RuleAttribute::Priority(rule.preference));
    message.attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(OURS)));
    match rule.selector {
        RouteSelector::FromBox => message.attributes.push(RuleAttribute::Iifname("lo".into())),
        RouteSelector::WithoutMark { mask, value } => {
            message.header.flags = RuleFlags::Invert;
            message.attributes.push(RuleAttribute::FwMark(value));
            message.attributes.push(RuleAttribute::FwMask(mask));
        }
        RouteSelector::Mark { mask, value } => {
            message.attributes.push(RuleAttribute::FwMark(value));
            message.attributes.push(RuleAttribute::FwMask(mask));
        }
    }
    match rule.action {
        RouteAction::Main => {
            message.header.action = RuleAction::ToTable;
            message.header.table = MAIN as u8;
            message.attributes.push(RuleAttribute::Table(MAIN));
        }
        RouteAction::Deliver => {
            message.header.action = RuleAction::ToTable;
            message.header.table = DELIVER as u8;
            message.attributes.push(RuleAttribute::Table(DELIVER));
        }
        RouteAction::Unreachable => message.header.action = RuleAction::Unreachable,
    }
    message
}

fn read(talk: &mut RouteTalk, family: AddressFamily) -> Result<Vec<Held>, Error> {
    let mut request = RuleMessage::default();
    request.header.family = family;
    let messages = talk.dump("the routing rules", RouteNetlinkMessage::GetRule(request))?;
    let rules = messages.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewRule(rule) => Some(held(rule)),
        _ => None,
    });
    Ok(rules.collect())
}

fn held(message: RuleMessage) -> Held {
    let (mut preference, mut protocol, mut mark, mut mask, mut iif, mut table) = (0, 0, None, 0, None, 0);
    let mut strange = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => preference = *number,
            RuleAttribute::Protocol(number) => protocol = u8::from(*number),
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Iifname(name) => iif = Some(name.clone()),
            RuleAttribute::Table(number) => table = *number,
            // The kernel says -1 for "not suppressed".
            RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            other => strange.push(format!("{other:?}")),
        }
    }
    let inverted = message.header.flags.contains(RuleFlags::Invert);
    let selector = match (inverted, mark, iif.as_deref()) {
        (false, None, Some("lo")) => Some(RouteSelector::FromBox),
        (true, Some(value), None) => Some(RouteSelector::WithoutMark { mask, value }),
        (false, Some(value), None) => Some(RouteSelector::Mark { mask, value }),
        _ => None,
    };
    let action = match message.header.action {
        RuleAction::ToTable if table == MAIN => Some(RouteAction::Main),
        RuleAction::ToTable if table == DELIVER => Some(RouteAction::Deliver),
        RuleAction::Unreachable => Some(RouteAction::Unreachable),
        _ => None,
    };
    let plain = strange.is_empty() && message.header.src_len == 0 && message.header.dst_len == 0 && message.header.tos == 0;
    let rule = selector.zip(action).filter(|_| plain).map(|(selector, action)| RouteRule { preference, selector, action });
    let words = rule.as_ref().map_or_else(
        || format!("rule {preference}: {:?} to table {table}, of somebody else {}", message.header.action, strange.join(", ")),
        words,
    );
    Held { preference, ours: protocol == OURS, rule, words, message }
}
