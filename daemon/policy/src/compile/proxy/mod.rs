//! Mapped clients: the only way out that they have is the forwarder.
//!
//! ```text
//!      let_in, proxy ─▶ whose client? the mark becomes the mapping's, in place of the mark that lets in
//!       proxy_mapped ─▶ DNS by mode; to the box itself: as input says
//!      proxy_carried ─▶ permit? TCP and UDP to the forwarder's sockets; everything else ends here
//! ```
//!
//! Blocked is what a mapped client is; being carried needs four things that exist: an element in `proxy_permits`, a socket, the rule
//! that gives the packet to it, and the mark that delivers it here. None of them leads out.

mod ids;
mod input;
mod marks;
mod output;
mod plan;

use std::collections::BTreeMap;

use crate::check::ranges::{Family, merge, of_net};
use crate::name::Name;
use crate::plan::proxy::Mapping;
use crate::ruleset::{Element, Field, Maps, Set, Span, Target};

use super::Context;

pub use ids::mark;
pub(super) use input::{captured, dstnat, ports_of_the_forwarder};
pub(super) use marks::{before_letting_in, chains, mapped_are_not_forwarded};
pub(super) use output::{chains as output_chains, ours as output_rules, reserved};
pub use plan::octets;
pub(super) use plan::plan;

/// Packet mark: on its way to the forwarder; the routing rules deliver it here whatever its destination.
pub const CAPTURED: u32 = 0x2;
/// Packet mark of the forwarder's raw sockets ([`crate::messages::forwarder::SocketKind::Answers4`]).
pub const ANSWER: u32 = 0x4;
/// Packet mark: to be redirected to the port of the forwarder's listener.
pub const REDIRECTED: u32 = 0x8;
/// Bits of packet mark and connection mark that hold the mapping's id; 0 is nobody's.
pub const MAPPING: u32 = 0x00ff_ff00;
pub const MAPPING_SHIFT: u32 = 8;
/// The set of mapping marks that are let in: an element is a permit, held and renewed by the applier.
pub const PERMITS: &str = "proxy_permits";

const CLIENTS: [(Family, &str); 2] = [(Family::V4, "proxy_clients4"), (Family::V6, "proxy_clients6")];
const MACS: &str = "proxy_macs";

/// The maps from clients to marks: the one thing that grows with their number. Only those that hold something.
fn client_maps(mappings: &BTreeMap<Name, Mapping>) -> BTreeMap<String, Set> {
    let mut maps = BTreeMap::new();
    for (family, name) in CLIENTS {
        let mut elements = Vec::new();
        for mapping in mappings.values() {
            let nets = mapping.clients.iter().map(of_net).filter(|(of, _)| *of == family).map(|(_, interval)| interval);
            elements.extend(merge(nets.collect()).into_iter().map(|interval| to_mark(family.span(interval), mapping)));
        }
        elements.sort_by(|left, right| left.key.cmp(&right.key));
        maps.insert(name.to_owned(), map(family.source(), true, elements));
    }
    let macs = mappings.values().flat_map(|mapping| {
        mapping.macs.iter().filter_map(|mac| plan::octets(mac)).map(|mac| to_mark(Span::One(crate::ruleset::Datum::Mac(mac)), mapping))
    });
    let mut macs: Vec<Element> = macs.collect();
    macs.sort_by(|left, right| left.key.cmp(&right.key));
    maps.insert(MACS.to_owned(), map(Field::EtherSaddr, false, macs));
    maps.retain(|_, map| !map.elements.is_empty());
    maps
}

fn to_mark(span: Span, mapping: &Mapping) -> Element {
    Element { key: vec![span], to: Some(Target::Mark(mark(mapping.id))), source: None }
}

fn map(key: Field, interval: bool, elements: Vec<Element>) -> Set {
    Set { key: vec![key], maps_to: Some(Maps::Mark), interval, timeout: false, counters: false, elements, comment: None }
}

fn set(key: Vec<Field>, elements: Vec<Vec<Span>>) -> Set {
    let elements = elements.into_iter().map(|key| Element { key, to: None, source: None }).collect();
    Set { key, maps_to: None, interval: false, timeout: false, counters: false, elements, comment: None }
}

impl Context<'_> {
    /// Drops, and counts under `proxy/<name>`.
    fn blocked(&self, name: &str, matches: impl IntoIterator<Item = crate::ruleset::Part>) -> crate::ruleset::Rule {
        self.drop_as(format!("proxy/{name}"), matches)
    }
}
