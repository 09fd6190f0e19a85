//! What may pass between the zones.

use std::collections::BTreeMap;

use crate::plan::proxy::Proxy;
use crate::ruleset::{BasePolicy, Field, Hook, Part, Rule};

use super::hygiene::{base, known_connections};
use super::input::element;
use super::pairs::Pairs;
use super::zones::End;
use super::{Context, Fragment, antispoof, nat, proxy};

const MAP: &str = "forward_ports";

pub fn chains(context: &Context<'_>, pairs: &Pairs<'_>, forwarder: &Proxy) -> Fragment {
    let mut rules = proxy::mapped_are_not_forwarded(context, forwarder);
    rules.push(known_connections());
    rules.push(Rule::of([Part::VerdictMap { fields: vec![Field::IifName, Field::OifName], map: MAP.to_owned() }]));
    // After the rules, so that a rule can still forbid what a port forward would permit.
    rules.extend(nat::permits(context));
    rules.push(context.drop("forward", []));

    let mut elements = Vec::new();
    for ((from, to), chain) in pairs.chain_of.iter().filter(|((from, to), _)| *from != End::Box && *to != End::Box) {
        for (incoming, _) in context.zones.ports(*from) {
            elements.extend(context.zones.ports(*to).iter().map(|(outgoing, _)| element(&[incoming, outgoing], chain)));
        }
    }
    elements.sort_by(|left, right| left.key.cmp(&right.key));
    Fragment {
        sets: BTreeMap::from([(MAP.to_owned(), antispoof::dispatch(vec![Field::IifName, Field::OifName], elements))]),
        chains: BTreeMap::from([("forward".to_owned(), base(Hook::Forward, 0, BasePolicy::Drop, rules))]),
    }
}
