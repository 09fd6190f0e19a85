//! Table 100, in which there is one route in each family: `local default dev lo`. The rule for captured packets leads there
//! ([`policy::plan::RouteAction::Deliver`]), so that they are delivered here whatever their destination.

use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::{OURS, RouteTalk};
use crate::{Difference, Error};

/// The whole table is ours while a plan uses it.
pub const TABLE: u32 = 100;
/// The loopback of every network namespace (LOOPBACK_IFINDEX, include/net/flow.h).
const LOOPBACK: u32 = 1;
const FAMILIES: [(AddressFamily, &str); 2] = [(AddressFamily::Inet, "IPv4"), (AddressFamily::Inet6, "IPv6")];

/// Makes the table hold its one route in each family and nothing else.
pub fn establish(talk: &mut RouteTalk) -> Result<(), Error> {
    for (family, name) in FAMILIES {
        let held = read(talk, family)?;
        if !held.iter().any(is_ours) {
            let message = RouteNetlinkMessage::NewRoute(route(family));
            talk.change(&format!("{name} {}", words()), message, libc::NLM_F_CREATE | libc::NLM_F_REPLACE)?;
        }
        remove(talk, name, held.into_iter().filter(|held| !is_ours(held)))?;
    }
    Ok(())
}

/// Takes our routes away again; those of others in a table that no rule of ours leads to are not our affair.
pub fn abolish(talk: &mut RouteTalk) -> Result<(), Error> {
    for (family, name) in FAMILIES {
        let held = read(talk, family)?;
        remove(talk, name, held.into_iter().filter(|held| held.header.protocol == RouteProtocol::Other(OURS)))?;
    }
    Ok(())
}

pub fn differences(talk: &mut RouteTalk, wanted: bool) -> Result<Vec<Difference>, Error> {
    let mut out = Vec::new();
    for (family, name) in FAMILIES {
        let held = read(talk, family)?;
        let ours = held.iter().any(is_ours);
        if wanted != ours {
            let word = |present: bool| if present { "present" } else { "absent" }.to_owned();
            out.push(Difference { what: format!("{name} {}", words()), expected: word(wanted), found: word(ours) });
        }
        let strange = held.iter().filter(|held| wanted && !is_ours(held)).count();
        if strange > 0 {
            let what = format!("{name} routes of others in table {TABLE}");
            out.push(Difference { what, expected: "none".into(), found: strange.to_string() });
        }
    }
    Ok(out)
}

fn words() -> String {
    format!("route local default dev lo table {TABLE}")
}

fn route(family: AddressFamily) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family,
        table: TABLE as u8,
        protocol: RouteProtocol::Other(OURS),
        scope: RouteScope::Host,
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Oif(LOOPBACK));
    message
}

fn is_ours(message: &RouteMessage) -> bool {
    let header = &message.header;
    let everywhere = message.attributes.iter().all(|attribute| match attribute {
        RouteAttribute::Oif(index) => *index == LOOPBACK,
        RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => false,
        _ => true,
    });
    let local = header.kind == RouteType::Local && header.destination_prefix_length == 0 && header.source_prefix_length == 0;
    header.protocol == RouteProtocol::Other(OURS) && local && header.tos == 0 && everywhere
}

fn read(talk: &mut RouteTalk, family: AddressFamily) -> Result<Vec<RouteMessage>, Error> {
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    let messages = talk.dump("the routes", RouteNetlinkMessage::GetRoute(request))?;
    let routes = messages.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewRoute(route) if u32::from(route.header.table) == TABLE => Some(route),
        _ => None,
    });
    Ok(routes.collect())
}

fn remove(talk: &mut RouteTalk, family: &str, routes: impl Iterator<Item = RouteMessage>) -> Result<(), Error> {
    for mut route in routes {
        // What the kernel tells besides is no part of the route's identity, and some of it it does not take back.
        route.attributes.retain(|attribute| {
            matches!(
                attribute,
                RouteAttribute::Destination(_) | RouteAttribute::Source(_) | RouteAttribute::Oif(_) | RouteAttribute::Priority(_)
            )
        });
        match talk.change(&format!("removal of a {family} route from table {TABLE}"), RouteNetlinkMessage::DelRoute(route), 0) {
            Err(error) if error.errno() == Some(libc::ESRCH) => {}
            other => other?,
        }
    }
    Ok(())
}
