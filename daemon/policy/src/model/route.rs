use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};

use super::Address;
use crate::name::IfName;
use crate::read::node::Node;
use crate::shape::{Cx, Definitions, Shape, Word, shape};

/// A static route. Routes to the box's own prefixes follow from the interfaces' addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `default` in the text stands for both 0.0.0.0/0 and ::/0, by the family of `via`.
    pub destination: IpNet,
    pub kind: RouteType,
    /// Default 100; lower wins.
    pub metric: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteType {
    /// Through a neighbour; the interface is derived from its address unless stated (needed for link-local gateways).
    Via { gateway: IpAddr, interface: Option<IfName> },
    /// Straight onto a link.
    Direct { interface: IfName },
    /// Dropped silently.
    Blackhole,
    /// Answered with ICMP unreachable.
    Unreachable,
}

const SUMMARY: &str = "A static route: `via` a neighbour, straight onto an `interface`, or nowhere by `type`. Routes to the box's own prefixes follow from the interfaces' addresses.";

shape! {
    /// The fields of a route.
    #[derive(Debug)]
    struct RouteFields {
        /// A prefix, or `default` for everything in the family of `via`.
        destination: Destination,
        /// The neighbour that takes the packets.
        via: Option<IpAddr> = None,
        /// The port on which they leave. Derived from `via` unless that is link-local.
        interface: Option<IfName> = None,
        /// Instead of `via` and `interface`: the packets end here.
        r#type: Option<RouteEnd> = None,
        /// Default 100; lower wins.
        metric: u32 = 100,
    }
}

shape! {
    /// How packets end that must go nowhere.
    #[derive(Debug, Clone, Copy)]
    enum RouteEnd {
        /// Dropped silently.
        Blackhole,
        /// Answered with ICMP unreachable.
        Unreachable,
    }
}

#[derive(Debug, Clone, Copy)]
enum Destination {
    Default,
    Net(IpNet),
}

impl Word for Destination {
    const WHAT: &'static str = "a prefix, an address, or `default`";
    const PATTERN: &'static str = "^(default|[0-9a-fA-F:.]+(/[0-9]{1,3})?)$";
    const EXAMPLES: &'static [&'static str] = &["default", "10.0.0.0/8", "2001:db8:5::/48"];

    fn parse(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Destination::Default);
        }
        match Address::parse(text)? {
            Address::Prefix(net) => Ok(Destination::Net(net)),
            Address::Range(..) => Err(format!("{text} is a range; routes lead to prefixes: write one Route for each")),
        }
    }
}

impl Shape for Route {
    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let written = RouteFields::read(node, cx)?;
        let kind = match (written.r#type, written.via, written.interface) {
            (None, Some(gateway), interface) => RouteType::Via { gateway, interface },
            (None, None, Some(interface)) => RouteType::Direct { interface },
            (Some(RouteEnd::Blackhole), None, None) => RouteType::Blackhole,
            (Some(RouteEnd::Unreachable), None, None) => RouteType::Unreachable,
            (None, None, None) => {
                cx.problem(node.line, "this route leads nowhere; write `via` with a neighbour, `interface` with a port, or `type: blackhole` or `type: unreachable`");
                return None;
            }
            (Some(_), ..) => {
                cx.problem(node.line, "`type` means that packets end here, so `via` and `interface` contradict it; keep one or the other");
                return None;
            }
        };
        let destination = match (written.destination, &kind) {
            (Destination::Net(net), _) => net,
            (Destination::Default, RouteType::Via { gateway: IpAddr::V4(_), .. }) => Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
            (Destination::Default, RouteType::Via { gateway: IpAddr::V6(_), .. }) => Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
            (Destination::Default, _) => {
                let message = "`default` takes its family from `via`, which is not here; write 0.0.0.0/0 or ::/0";
                cx.field("destination", |cx| cx.problem(node.line, message));
                return None;
            }
        };
        Some(Route { destination, kind, metric: written.metric })
    }

    fn schema(definitions: &mut Definitions) -> Value {
        definitions.named("Route", |definitions| {
            json!({ "description": crate::shape::documentation(&[SUMMARY]), "allOf": [RouteFields::schema(definitions)], "oneOf": [
            { "required": ["via"], "not": { "required": ["type"] } },
            { "required": ["interface"], "not": { "anyOf": [{ "required": ["type"] }, { "required": ["via"] }] } },
            { "required": ["type"], "not": { "anyOf": [{ "required": ["via"] }, { "required": ["interface"] }] } },
        ] })
        })
    }
}
