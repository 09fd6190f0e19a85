//! Connections that a tightened policy no longer permits, and that `established` would keep alive.
//!
//! Every tracked connection is sent through the simulator as if it were new. What the plan would refuse today, or would translate
//! otherwise, is ended; everything else goes on undisturbed, downloads and the administrator's session included.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use kernel::conntrack::{self, Flow};
use kernel::stats;
use policy::Plan;
use policy::compile::proxy::{MAPPING, MAPPING_SHIFT};
use policy::messages::forwarder::FORWARDER_UID;
use policy::name::Name;
use policy::plan::proxy::{Proxy, Upstream};
use policy::simulate::packet::{ICMP, ICMPV6, TCP};
use policy::simulate::{Hop, Ingress, Packet, Seen, Transport, Verdict, World};

use crate::mapped::same_way;

/// How long a change may be held up by this. Connections that were not looked at by then are ended: shut is the safe side.
const PATIENCE: Duration = Duration::from_millis(250);

/// Ends what is no longer permitted; returns how many connections that were. `before` is what stood until now, if it is known.
pub fn end_forbidden(plan: &Plan, before: Option<&Plan>, is_open: impl Fn(&Name) -> bool) -> Result<usize, kernel::Error> {
    let judges_alike = |before: &Plan| {
        before.ruleset == plan.ruleset && before.links == plan.links && before.routes == plan.routes && before.proxy == plan.proxy
    };
    if before.is_some_and(judges_alike) {
        return Ok(0);
    }
    // Listing walks the whole table, some 40 ms even when it is empty.
    if stats::connections().count == 0 {
        return Ok(0);
    }
    let flows = conntrack::list()?;
    let world = world(plan, is_open);
    let own = own_addresses()?;
    let same: BTreeSet<u16> = before.map(|before| same_mappings(&before.proxy, &plan.proxy)).unwrap_or_default();
    let begun = Instant::now();
    // What the forwarder sends is judged as the forwarder's.
    let forwarder = World { user: FORWARDER_UID, schedules: world.schedules.clone(), ..World::of(plan, None) };
    let by_the_rules = |flow: &Flow| is_permitted(&world, &own, flow) || is_from_box(&own, flow) && is_permitted(&forwarder, &own, flow);
    let is_permitted = |flow: &Flow| mapped(&plan.proxy, &same, &own, flow).unwrap_or_else(|| by_the_rules(flow));
    let forbidden = flows.iter().filter(|flow| begun.elapsed() > PATIENCE || !is_permitted(flow));
    conntrack::delete(forbidden)
}

/// Ends every connection of these mappings.
pub fn end_mapped(ids: &[u16]) -> Result<(), kernel::Error> {
    if stats::connections().count == 0 {
        return Ok(());
    }
    ids.iter().try_for_each(|id| conntrack::flush_marked(u32::from(*id) << MAPPING_SHIFT, MAPPING))
}

/// Ids of the mappings that are the same in both, whose connections go on.
fn same_mappings(before: &Proxy, after: &Proxy) -> BTreeSet<u16> {
    let same_id = |name: &Name, id: u16| before.mappings.get(name).is_some_and(|mapping| mapping.id == id);
    let same = after.mappings.iter().filter(|(name, mapping)| same_id(name, mapping.id) && same_way(before, after, name));
    same.map(|(_, mapping)| mapping.id).collect()
}

/// What the simulator need not be asked: connections of mapped clients, and those that carry them. What such a client has with the box
/// itself, its administrator's session included, is a connection like any other.
fn mapped(proxy: &Proxy, same: &BTreeSet<u16>, own: &BTreeSet<IpAddr>, flow: &Flow) -> Option<bool> {
    let (source, destination) = (flow.original.source, flow.original.destination);
    if own.contains(&source) {
        let is_theirs =
            |upstream: &Upstream| upstream.address == destination && (upstream.udp || upstream.port == flow.original.destination_port);
        return proxy.upstreams.values().any(is_theirs).then_some(true);
    }
    if own.contains(&destination) {
        return None;
    }
    match mapping(flow) {
        Some(id) => Some(same.contains(&id)),
        // It began before its client was mapped: the way it took is closed.
        None => proxy.mappings.values().any(|mapping| mapping.clients.iter().any(|net| net.contains(&source))).then_some(false),
    }
}

/// The mapping that a connection belongs to.
fn mapping(flow: &Flow) -> Option<u16> {
    u16::try_from((flow.mark & MAPPING) >> MAPPING_SHIFT).ok().filter(|id| *id != 0)
}

fn world<'a>(plan: &'a Plan, is_open: impl Fn(&Name) -> bool) -> World<'a> {
    let schedules: BTreeMap<&str, bool> = plan.schedules.iter().map(|(name, schedule)| (schedule.set.as_str(), is_open(name))).collect();
    World { schedules, ..World::of(plan, None) }
}

/// Those that were leased included.
pub fn own_addresses() -> Result<BTreeSet<IpAddr>, kernel::Error> {
    let links = stats::links()?;
    let texts = links.values().flat_map(|link| &link.addresses);
    Ok(texts.filter_map(|text| text.split('/').next()?.parse().ok()).collect())
}

fn is_from_box(own: &BTreeSet<IpAddr>, flow: &Flow) -> bool {
    own.contains(&flow.original.source)
}

fn is_permitted(world: &World, own: &BTreeSet<IpAddr>, flow: &Flow) -> bool {
    let tuple = &flow.original;
    if tuple.source.is_loopback() {
        return true;
    }
    ingresses(world, own, tuple.source).into_iter().any(|from| {
        let outcome = world.run(&Packet {
            from,
            source: tuple.source,
            destination: tuple.destination,
            own: own.contains(&tuple.destination) && !world.fib.local.contains(&tuple.destination),
            mac: None,
            transport: transport(flow),
        });
        let source_stays = match outcome.source {
            Seen::Kept => flow.reply.destination == tuple.source,
            // Masquerading picks one of the port's addresses; the one that this connection has must still be ours.
            Seen::Port(_) => own.contains(&flow.reply.destination),
            Seen::To(address, _) => flow.reply.destination == address,
        };
        let destination_stays = outcome.own || outcome.destination.0 == flow.reply.source;
        outcome.verdict == Verdict::Accepted && source_stays && destination_stays
    })
}

/// Where the first packet can have come from: the ports behind which its source lies.
fn ingresses(world: &World, own: &BTreeSet<IpAddr>, source: IpAddr) -> Vec<Ingress> {
    if own.contains(&source) {
        return vec![Ingress::Box];
    }
    // A link-local source lies behind every port.
    if let IpAddr::V6(v6) = source
        && v6.is_unicast_link_local()
    {
        return world.fib.interfaces.iter().cloned().map(Ingress::Interface).collect();
    }
    let hops = world.fib.hops(source, None).into_iter();
    let leased = world.fib.leased(source.is_ipv6()).iter().cloned();
    let ports = hops.filter_map(|hop| if let Hop::Out(port) = hop { Some(port) } else { None });
    ports.chain(leased).map(Ingress::Interface).collect()
}

fn transport(flow: &Flow) -> Transport {
    let tuple = &flow.original;
    let port = match tuple.protocol {
        ICMP | ICMPV6 => tuple.destination_port >> 8,
        _ => tuple.destination_port,
    };
    const SYN: u8 = 2;
    let tcp_flags = if tuple.protocol == TCP { SYN } else { 0 };
    Transport { protocol: tuple.protocol, source_port: tuple.source_port, port, tcp_flags }
}

#[cfg(test)]
mod tests {
    use kernel::conntrack::Tuple;
    use policy::{Sources, compile, load};

    use super::*;

    const POLICY: &str = "
apiVersion: portcullis/v1
kind: System
metadata: { name: box }
spec: { hostname: gate, admin: { zones: lan } }
---
apiVersion: portcullis/v1
kind: Zone
metadata: { name: lan }
spec: {}
---
apiVersion: portcullis/v1
kind: Zone
metadata: { name: wan }
spec: {}
---
apiVersion: portcullis/v1
kind: Interface
metadata: { name: lan0 }
spec: { zone: lan, addresses: [192.168.2.1/24] }
---
apiVersion: portcullis/v1
kind: Interface
metadata: { name: wan0 }
spec: { zone: wan, addresses: [203.0.113.2/24] }
---
apiVersion: portcullis/v1
kind: Route
metadata: { name: default }
spec: { destination: 0.0.0.0/0, via: 203.0.113.1, interface: wan0 }
---
apiVersion: portcullis/v1
kind: FirewallPolicy
metadata: { name: out }
spec:
  rules:
    - { name: web, from: lan, to: wan, services: https, action: accept }
---
apiVersion: portcullis/v1
kind: NatPolicy
metadata: { name: nat }
spec:
  rules:
    - { name: out, type: masquerade, to: wan }
";

    fn tuple(source: &str, destination: &str, port: u16) -> Tuple {
        Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: TCP,
            source_port: 40_000,
            destination_port: port,
        }
    }

    fn flow(original: Tuple, reply: Tuple) -> Flow {
        Flow { original, reply, mark: 0, status: 0, id: 1 }
    }

    fn permitted(flow: &Flow) -> bool {
        let plan = compile(&load(&Sources::single("box.yaml", POLICY)).unwrap());
        let own = BTreeSet::from(["192.168.2.1".parse().unwrap(), "203.0.113.2".parse().unwrap()]);
        is_permitted(&world(&plan, |_| false), &own, flow)
    }

    #[test]
    fn what_is_still_permitted_goes_on_and_the_rest_is_ended() {
        let web = flow(tuple("192.168.2.10", "198.51.100.10", 443), tuple("198.51.100.10", "203.0.113.2", 40_000));
        assert!(permitted(&web));
        let ssh = flow(tuple("192.168.2.10", "198.51.100.10", 22), tuple("198.51.100.10", "203.0.113.2", 40_000));
        assert!(!permitted(&ssh));
        let inward = flow(tuple("198.51.100.10", "192.168.2.10", 443), tuple("192.168.2.10", "198.51.100.10", 40_000));
        assert!(!permitted(&inward));
    }

    #[test]
    fn the_administrators_session_and_the_boxs_own_connections_go_on() {
        assert!(permitted(&flow(tuple("192.168.2.10", "192.168.2.1", 443), tuple("192.168.2.1", "192.168.2.10", 40_000))));
        assert!(permitted(&flow(tuple("203.0.113.2", "198.51.100.10", 123), tuple("198.51.100.10", "203.0.113.2", 40_000))));
    }

    #[test]
    fn connections_of_mapped_clients_go_on_as_long_as_their_mapping_does() {
        use crate::mapped::samples::proxy;
        let own = BTreeSet::from(["192.168.2.1".parse().unwrap(), "203.0.113.2".parse().unwrap()]);
        let carried = |mark: u32, original: Tuple| {
            let flow = Flow { mark: mark << MAPPING_SHIFT, ..flow(original.clone(), original) };
            mapped(&proxy(), &same_mappings(&proxy(), &proxy()), &own, &flow)
        };
        let client = || tuple("192.168.2.10", "198.51.100.10", 443);
        assert_eq!(carried(1, client()), Some(true));
        assert_eq!(carried(9, client()), Some(false), "of a mapping that is gone");
        assert_eq!(carried(0, client()), Some(false), "from before it was mapped");
        assert_eq!(carried(0, tuple("192.168.2.200", "198.51.100.10", 443)), None);
        assert_eq!(carried(9, tuple("192.168.2.10", "192.168.2.1", 443)), None, "the administrator's session");
        assert_eq!(carried(0, tuple("203.0.113.2", "198.51.100.1", 1080)), Some(true), "the forwarder's own");
        assert_eq!(carried(0, tuple("203.0.113.2", "198.51.100.1", 22)), None);
    }

    #[test]
    fn a_translation_that_the_policy_no_longer_makes_is_ended() {
        let left_behind = flow(tuple("192.168.2.10", "198.51.100.10", 443), tuple("198.51.100.10", "203.0.113.77", 40_000));
        assert!(!permitted(&left_behind), "masqueraded to an address that is no longer ours");
        let forwarded = flow(tuple("198.51.100.10", "203.0.113.2", 443), tuple("192.168.2.10", "198.51.100.10", 40_000));
        assert!(!permitted(&forwarded), "a port forward that is gone");
    }
}
