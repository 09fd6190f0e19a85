//! From the sources, destinations and services of a rule to conjunctions that the kernel can evaluate.

use crate::check::addresses::Addresses;
use crate::check::ranges::Family;
use crate::model::{AddressTerm, Config, Protocol, ServiceTerm};
use crate::ruleset::{Datum, Field, Op, Operand, Part, Span};

use super::addresses;
use super::services::{self, Grain};

/// One conjunction. A rule matches a packet when any of its conjunctions does; at most one of them can, except where address sets overlap.
#[derive(Debug, Clone, Default)]
pub struct Conjunction {
    /// Empty means any.
    pub protocols: Vec<Protocol>,
    pub parts: Vec<Part>,
}

/// What a packet is compared with. `family` narrows to one, as NAT to an address does.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    pub family: Option<Family>,
    pub sources: &'a [AddressTerm],
    pub destinations: &'a [AddressTerm],
    pub services: &'a [ServiceTerm],
}

/// The kernel compares addresses of one family at a time, so a rule with addresses of both becomes two; one without
/// addresses needs no family at all.
pub fn conjunctions(config: &Config, sets: &Addresses, terms: Terms<'_>, grain: Grain) -> Vec<Conjunction> {
    let services = services::alternatives(config, terms.services, grain);
    let mut found = Vec::new();
    for family in families(&terms) {
        for addresses in address_parts(sets, &terms, family) {
            for service in &services {
                found.extend(joined(family, &addresses, service));
            }
        }
    }
    found
}

fn families(terms: &Terms<'_>) -> Vec<Option<Family>> {
    match terms.family {
        Some(family) => vec![Some(family)],
        None if terms.sources.is_empty() && terms.destinations.is_empty() => vec![None],
        None => Family::BOTH.map(Some).to_vec(),
    }
}

/// Every pair of a source and a destination alternative.
fn address_parts(sets: &Addresses, terms: &Terms<'_>, family: Option<Family>) -> Vec<Vec<Part>> {
    let Some(family) = family else { return vec![Vec::new()] };
    let mut found = Vec::new();
    for source in addresses::alternatives(sets, terms.sources, family) {
        for destination in addresses::alternatives(sets, terms.destinations, family) {
            let parts = [addresses::part(family.source(), &source), addresses::part(family.destination(), &destination)];
            found.push(parts.into_iter().flatten().collect());
        }
    }
    found
}

fn joined(family: Option<Family>, addresses: &[Part], service: &services::Alternative) -> Option<Conjunction> {
    let family = match (family, service.family) {
        (Some(wanted), Some(given)) if wanted != given => return None,
        (wanted, given) => wanted.or(given),
    };
    let mut parts: Vec<Part> = family.map(is_family).into_iter().collect();
    parts.extend_from_slice(addresses);
    parts.extend_from_slice(&service.parts);
    Some(Conjunction { protocols: service.protocols.clone(), parts })
}

pub fn is_family(family: Family) -> Part {
    Part::Match { field: Field::NfProto, op: Op::Eq, to: Operand::One(Span::One(Datum::Byte(family.nfproto()))) }
}
