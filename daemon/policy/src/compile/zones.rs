//! Which ports make up a zone, and what a list of zones in a rule stands for.

use std::collections::BTreeMap;

use crate::model::{Config, Interface, ZoneTerm};
use crate::name::{IfName, Name};
use crate::ruleset::{Datum, Field, Op, Part, Span};

use super::spans;

/// The zones that have ports. A zone without any is on no packet's way.
pub struct Zones<'a> {
    pub ports: BTreeMap<&'a Name, Vec<(&'a IfName, &'a Interface)>>,
}

/// One end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End<'a> {
    Box,
    Zone(&'a Name),
}

pub fn resolve(config: &Config) -> Zones<'_> {
    let mut ports: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, interface) in &config.interfaces {
        ports.entry(&interface.spec.zone).or_default().push((name, &interface.spec));
    }
    Zones { ports }
}

impl<'a> Zones<'a> {
    /// Sorted, each once; `any` is every zone and never the box.
    pub fn ends(&self, terms: &[ZoneTerm]) -> Vec<End<'a>> {
        let mut ends = Vec::new();
        for term in terms {
            match term {
                ZoneTerm::Any => ends.extend(self.ports.keys().map(|zone| End::Zone(zone))),
                ZoneTerm::Box => ends.push(End::Box),
                ZoneTerm::Zone(name) => ends.extend(self.ports.get_key_value(name).map(|(zone, _)| End::Zone(zone))),
            }
        }
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// The ports of an end, by name; the box has none.
    pub fn ports(&self, end: End<'a>) -> &[(&'a IfName, &'a Interface)] {
        match end {
            End::Box => &[],
            End::Zone(zone) => self.ports.get(zone).map_or(&[], Vec::as_slice),
        }
    }

    pub fn ports_of(&self, ends: &[End<'a>]) -> Vec<(&'a IfName, &'a Interface)> {
        let mut ports: Vec<_> = ends.iter().flat_map(|end| self.ports(*end)).copied().collect();
        ports.sort_by_key(|(name, _)| *name);
        ports
    }
}

/// `iifname { … }` or `oifname { … }`; None when there is no such port and so no such packet.
pub fn through<'a>(field: Field, ports: impl IntoIterator<Item = &'a IfName>) -> Option<Part> {
    let spans: Vec<Span> = ports.into_iter().map(|name| Span::One(Datum::Interface(name.into()))).collect();
    if spans.is_empty() { None } else { Some(Part::Match { field, op: Op::Eq, to: spans::operand(spans) }) }
}
