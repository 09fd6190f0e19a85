//! Static routes, what stands behind the box's own networks, and the routing rules that make forwarding need a permit and lead mapped clients to the forwarder.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::model::{Config, RouteType};
use crate::plan::proxy::Proxy;
use crate::plan::{Route, RouteAction, RouteKind, RouteRule, RouteSelector};

use super::proxy::CAPTURED;
use super::{LET_IN, antispoof};

pub fn wanted(config: &Config) -> BTreeSet<Route> {
    let route = |route: &crate::model::Route| {
        let kind = match &route.kind {
            RouteType::Via { gateway, .. } => {
                RouteKind::Via { gateway: *gateway, interface: antispoof::port_of(config, &route.kind)?.clone() }
            }
            RouteType::Direct { interface } => RouteKind::Direct { interface: interface.clone() },
            RouteType::Blackhole => RouteKind::Blackhole,
            RouteType::Unreachable => RouteKind::Unreachable,
        };
        Some(Route { destination: route.destination, kind, metric: route.metric })
    };
    let stated: BTreeSet<Route> = config.routes.values().filter_map(|resource| route(&resource.spec)).collect();
    let taken = |net: IpNet| stated.iter().any(|route| (route.destination.trunc(), route.metric) == (net, LAST_METRIC));
    let behind = networks(config).filter(|net| !taken(*net)).collect::<BTreeSet<_>>();
    stated
        .into_iter()
        .chain(behind.into_iter().map(|destination| Route { destination, kind: RouteKind::Unreachable, metric: LAST_METRIC }))
        .collect()
}

/// Behind each network of the box's own, for when its port is down and the kernel has taken the network's route away: what is meant for
/// a neighbour there would follow the default route to the internet.
const LAST_METRIC: u32 = u32::MAX;

/// Those that are no single address: the kernel makes no route for one.
fn networks(config: &Config) -> impl Iterator<Item = IpNet> {
    let addresses = config.interfaces.values().flat_map(|resource| &resource.spec.addresses);
    addresses.map(IpNet::trunc).filter(|net| net.prefix_len() < net.max_prefix_len())
}

/// Between the kernel's own rules for local addresses (0) and for the main table (32766). What the box sends is routed;
/// what arrives is routed only with the mark that our table sets: without the table, nothing is forwarded.
pub fn rules(forwarder: &Proxy) -> BTreeSet<RouteRule> {
    let mut rules = BTreeSet::from([
        RouteRule { preference: 50, selector: RouteSelector::FromBox, action: RouteAction::Main },
        RouteRule {
            preference: 100,
            selector: RouteSelector::WithoutMark { mask: LET_IN, value: LET_IN },
            action: RouteAction::Unreachable,
        },
    ]);
    if !forwarder.mappings.is_empty() {
        // Behind the rule for what the box sends: answers to captured connections bear their mark (tcp_fwmark_accept).
        let selector = RouteSelector::Mark { mask: CAPTURED, value: CAPTURED };
        rules.insert(RouteRule { preference: 60, selector, action: RouteAction::Deliver });
    }
    rules
}
