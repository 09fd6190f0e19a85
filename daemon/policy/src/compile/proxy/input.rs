//! How the forwarder's sockets are reached, and by whom they are not.

use crate::messages::forwarder::{DATAGRAMS_PORT, REDIRECTED_PORT};
use crate::model::Protocol;
use crate::plan::proxy::Proxy;
use crate::ruleset::{Datum, Field, Op, Operand, Part, Rule, Span};

use super::{CAPTURED, Context, REDIRECTED};
use crate::compile::{accept, services};

/// Before every other translation: what is captured is led nowhere else, and what redirects stands in the mark.
pub(in crate::compile) fn dstnat(proxy: &Proxy) -> Vec<Rule> {
    if proxy.mappings.is_empty() {
        return Vec::new();
    }
    let redirect = Part::Redirect { port: Some(REDIRECTED_PORT) };
    vec![Rule::of([has(REDIRECTED), services::protocol_part(&[Protocol::TCP]), redirect]), accept([has(CAPTURED)])]
}

/// Input: what is captured was let in by its permit.
pub(in crate::compile) fn captured(proxy: &Proxy) -> Option<Rule> {
    (!proxy.mappings.is_empty()).then(|| accept([has(CAPTURED)]).because("to the forwarder"))
}

/// Input, after that: nobody else reaches the forwarder, not even by a rule of the policy or a connection that is known.
pub(in crate::compile) fn ports_of_the_forwarder(context: &Context<'_>, proxy: &Proxy) -> Option<Rule> {
    let ports = Operand::One(Span::Range(Datum::Port(REDIRECTED_PORT), Datum::Port(DATAGRAMS_PORT)));
    let to_them = [services::protocol_part(&[Protocol::TCP, Protocol::UDP]), Part::Match { field: Field::Dport, op: Op::Eq, to: ports }];
    (!proxy.mappings.is_empty()).then(|| context.blocked("uninvited", to_them))
}

fn has(bit: u32) -> Part {
    Part::Masked { field: Field::Mark, mask: bit, op: Op::Ne, value: 0 }
}
