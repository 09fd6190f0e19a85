//! Built in, for every plan: no packet of a mapped client can be forwarded, and none out of a proxied zone.
//!
//! Each of the two layers must hold by itself, whatever routes there are: with the mark that a mapped client's packet has after prerouting the
//! routing rules do not lead on, and the rules of forward let it through on no port. Asked of first packets, and of packets of known
//! connections. Who is mapped is read from the plan's mappings, not from the sets of its ruleset.

use std::fmt;

use serde::Serialize;

use super::{Failure, Reason};
use crate::check::Checked;
use crate::explain::told;
use crate::plan::Plan;
use crate::simulate::World;
use crate::source::Origin;
use crate::space::flow::Ahead;
use crate::space::{Free, IIF, SOURCE, Set, Space};

/// A packet that has a way out which it must not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leak {
    /// `tcp/443 from 192.168.2.10:40000 to 1.1.1.1`
    pub packet: String,
    /// `lan0 (zone lan)`
    pub enters: String,
    pub layer: Layer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Layer {
    RoutingRules,
    Forward,
}

/// One failure at most for each that is confined.
pub fn leaks(space: &mut Space, checked: &Checked, plan: &Plan) -> Vec<Failure> {
    let confined = confined(space, checked, plan);
    if confined.is_empty() {
        return Vec::new();
    }
    let world = World::of(plan, None);
    let ahead = [Ahead::of_new(space, &world), Ahead::of_known(space, &world)];
    let mut failures = Vec::new();
    for Confined { about, origin, packets, layers } in confined {
        let reason = match leak(space, plan, &world, &ahead, packets, layers) {
            _ if space.bdd.exhausted() => Reason::TooLarge,
            Some(leak) => Reason::Leaks(leak),
            None => continue,
        };
        failures.push(Failure { about, origin, reason });
        if space.bdd.exhausted() {
            break;
        }
    }
    failures
}

struct Confined {
    about: String,
    origin: Origin,
    packets: Set,
    layers: &'static [Layer],
}

fn confined(space: &mut Space, checked: &Checked, plan: &Plan) -> Vec<Confined> {
    let config = checked.config();
    let Some((_, system)) = &config.system else { return Vec::new() };
    let mut found = Vec::new();
    for (name, mapping) in &plan.proxy.mappings {
        let by_address = space.prefixes(SOURCE, &mapping.clients);
        let macs = mapping.macs.iter().filter_map(|mac| crate::compile::proxy::octets(mac));
        let by_mac: Vec<Set> = macs.map(|mac| space.free(Free::Hardware(mac))).collect();
        let by_mac = space.bdd.any(&by_mac);
        let packets = space.bdd.or(by_address, by_mac);
        let origin = config.proxy_mappings.get(name).map_or(&system.origin, |resource| &resource.origin).clone();
        found.push(Confined { about: format!("ProxyMapping/{name}"), origin, packets, layers: &[Layer::RoutingRules, Layer::Forward] });
    }
    for zone in &plan.proxied {
        let packets = space.ports(IIF, plan.zones.get(zone).into_iter().flatten());
        let origin = config.zones.get(zone).map_or(&system.origin, |resource| &resource.origin).clone();
        // The mark lets these in to the box; it is forward that ends them.
        found.push(Confined { about: format!("Zone/{zone}"), origin, packets, layers: &[Layer::Forward] });
    }
    found
}

fn leak(space: &mut Space, plan: &Plan, world: &World, ahead: &[Ahead], packets: Set, layers: &[Layer]) -> Option<Leak> {
    for layer in layers {
        for ahead in ahead {
            let open = match layer {
                Layer::RoutingRules => ahead.led_on,
                Layer::Forward => ahead.let_through,
            };
            let out = space.bdd.and(open, packets);
            if let Some(example) = if out.is_empty() { None } else { space.packet(out) } {
                let told = told(plan, &example.packet, &world.run(&example.packet));
                return Some(Leak { packet: told.packet, enters: told.enters, layer: *layer });
            }
        }
    }
    None
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Leak { packet, enters, layer } = self;
        let layer = match layer {
            Layer::RoutingRules => "the routing rules would lead it on",
            Layer::Forward => "the rules of forward would let it through",
        };
        write!(
            f,
            "must leave no way out but through an upstream, but {packet} enters {enters} and {layer}; please report this as a fault of Portcullis"
        )
    }
}
