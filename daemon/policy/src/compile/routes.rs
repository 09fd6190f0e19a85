//! Static routes, and the two routing rules that make forwarding need a permit.

use std::collections::BTreeSet;

use crate::model::{Config, RouteType};
use crate::plan::{Route, RouteAction, RouteKind, RouteRule, RouteSelector};

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
    config.routes.values().filter_map(|resource| route(&resource.spec)).collect()
}

/// Between the kernel's own rules for local addresses (0) and for the main table (32766). What the box sends is routed;
/// what arrives is routed only with the mark that our table sets: without the table, nothing is forwarded.
pub fn rules() -> BTreeSet<RouteRule> {
    BTreeSet::from([
        RouteRule { preference: 50, selector: RouteSelector::FromBox, action: RouteAction::Main },
        RouteRule {
            preference: 100,
            selector: RouteSelector::WithoutMark { mask: LET_IN, value: LET_IN },
            action: RouteAction::Unreachable,
        },
    ])
}
