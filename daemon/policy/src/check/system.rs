//! The box itself: its name, its time, and above all that somebody can still reach it.

use std::sync::LazyLock;

use super::Whole;
use super::ranges::Family;
use super::report::{Report, Spot};
use super::terms::TheBox;
use crate::model::{Admin, DhcpFamily, ZoneTerm};
use crate::name::Name;
use crate::problem::{nearest, quote};

/// The geographic names of the tz database, release 2025b, and UTC.
const TIMEZONES: &str = include_str!("timezones.txt");

pub(super) fn check(whole: &Whole, report: &mut Report) {
    let Some((name, resource)) = &whole.config.system else {
        if !whole.config.gaps.may_hide_any("System") {
            report
                .0
                .general("the policy has no System; add one that says at least hostname and admin.zones, or nobody could reach the box");
        }
        return;
    };
    let system = &resource.spec;
    let mut spot = report.resource("System", name, resource);
    hostname(&mut spot.field("hostname"), &system.hostname);
    timezone(&mut spot.field("timezone"), &system.timezone);
    if !(10..=3600).contains(&system.confirm_within.as_secs()) {
        let message = format!(
            "{}s is not possible; write 10s to 1h: less cannot be confirmed by hand, more is a long lock-out",
            system.confirm_within.as_secs()
        );
        spot.field("confirmWithin").say(message);
    }
    if !(10..=100_000).contains(&system.requests_per_minute) {
        let message = format!("{} is not possible; write 10 to 100000: a page needs several requests", system.requests_per_minute);
        spot.field("requestsPerMinute").say(message);
    }
    admin(whole, &mut spot, &system.admin);
}

/// RFC 1123 section 2.1; 64 is what Linux keeps (HOST_NAME_MAX).
fn hostname(spot: &mut Spot, name: &str) {
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() > 64 || !name.split('.').all(label) {
        spot.say(format!(
            "{} is not a host name; use letters, digits and hyphens, with dots between labels, at most 64 characters",
            quote(name)
        ));
    }
}

fn timezone(spot: &mut Spot, name: &str) {
    static KNOWN: LazyLock<Vec<&str>> = LazyLock::new(|| TIMEZONES.lines().collect());
    if KNOWN.binary_search(&name).is_err() {
        let near = nearest(name, KNOWN.iter().copied());
        spot.say(format!("{} is not a time zone; write an IANA name, Region/City, or UTC{near}", quote(name)));
    }
}

fn admin(whole: &Whole, spot: &mut Spot, admin: &Admin) {
    whole.zone_terms(spot, "admin.zones", &admin.zones, TheBox::Refused("it is where administrators come from; name their zones"));
    whole.address_terms(spot, "admin.sources", &admin.sources);
    if let Some(at) = admin.zones.iter().position(|zone| *zone == ZoneTerm::Any) {
        spot.index("admin.zones", at).say("`any` would open the administration to every network; name the zones of your administrators");
        return;
    }
    if admin.ssh && admin.port == 22 {
        spot.field("admin.port").say("port 22 belongs to ssh, which `ssh: true` opens; choose another port for the pages");
    }
    let zones: Vec<&Name> = admin.zones.iter().filter_map(|zone| if let ZoneTerm::Zone(name) = zone { Some(name) } else { None }).collect();
    lock_out(whole, spot, admin, &zones);
}

/// The one mistake that only a walk to the box can mend.
fn lock_out(whole: &Whole, spot: &mut Spot, admin: &Admin, zones: &[&Name]) {
    let gaps = &whole.config.gaps;
    if gaps.may_hide_any("Interface") || zones.is_empty() || zones.iter().any(|zone| !whole.config.zones.contains_key(*zone)) {
        return;
    }
    let ports = || zones.iter().flat_map(|zone| &whole.zones[*zone]).map(|name| &whole.config.interfaces[name].spec);
    let listed = zones.iter().map(|zone| zone.as_str()).collect::<Vec<_>>().join(", ");
    if ports().next().is_none() {
        spot.field("admin.zones")
            .say(format!("no Interface lies in {listed}, so nobody could reach the box; put an Interface into one of these zones"));
        return;
    }
    let reachable = |family: Family| {
        let dhcp = if family == Family::V4 { DhcpFamily::Ipv4 } else { DhcpFamily::Ipv6 };
        ports().any(|port| port.dhcp.contains(&dhcp) || port.addresses.iter().any(|net| Family::of(net.addr()) == family))
    };
    if !Family::BOTH.into_iter().any(reachable) {
        spot.field("admin.zones")
            .say(format!("the interfaces of {listed} have neither addresses nor dhcp, so nobody could reach the box; give one an address"));
    } else if !Family::BOTH.into_iter().any(|family| reachable(family) && whole.addresses.has_any(&admin.sources, family))
        && !gaps.may_hide_any("AddressSet")
    {
        let family = if reachable(Family::V4) { "IPv4" } else { "IPv6" };
        spot.field("admin.sources").say(format!(
            "the interfaces of {listed} have only {family} addresses and none of these sources is {family}, so nobody could reach the box; add such a source"
        ));
    }
}
