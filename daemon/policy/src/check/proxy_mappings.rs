//! Mappings: one way out, and settings that can be kept. Whom they map is in `clients`.

use super::Whole;
use super::report::{Report, Spot};
use super::upstream_groups::upstream;
use super::upstreams::elsewhere;
use super::{clients, firewall};
use crate::model::{DnsMode, ProxyMapping};
use crate::name::Name;
use crate::problem::nearest;
use crate::url::{Scheme, Url};

/// Each has an identity of 16 bits, which leaves room to keep it from one policy to the next.
const MOST_MAPPINGS: usize = 10_000;
/// 100 Gbit/s.
const MOST_MBIT: u32 = 100_000;
/// A thousand petabytes still count in 64 bits of bytes.
const MOST_MB: u64 = 1_000_000_000_000;

pub(super) fn check(whole: &Whole, report: &mut Report) {
    let mappings = &whole.config.proxy_mappings;
    for (name, resource) in mappings {
        let (mapping, mut spot) = (&resource.spec, report.resource("ProxyMapping", name, resource));
        way_out(whole, &mut spot, mapping);
        if let Some(schedule) = &mapping.schedule {
            firewall::check_schedule(&mut spot, schedule);
        }
        limits(&mut spot, mapping);
        if let DnsMode::DohStub { doh_url, doh_server, .. } = &mapping.dns {
            if let Err(message) = Url::parse(doh_url, Scheme::Https) {
                spot.field("dohUrl").say(message);
            }
            if let Some(server) = doh_server {
                elsewhere(whole, &mut spot.field("dohServer"), *server, "the resolver");
            }
        }
    }
    if mappings.len() > MOST_MAPPINGS {
        report.0.general(format!(
            "the policy has {} mappings; at most {MOST_MAPPINGS} are possible: name several clients in one",
            mappings.len()
        ));
    } else {
        clients::check(whole, report);
    }
}

fn way_out(whole: &Whole, spot: &mut Spot, mapping: &ProxyMapping) {
    match (&mapping.upstream, &mapping.group) {
        (Some(name), None) if !whole.config.upstreams.contains_key(name) && whole.config.upstream_groups.contains_key(name) => {
            spot.field("upstream").say(format!("{name} is an UpstreamGroup; write `group: {name}`"));
        }
        (Some(name), None) => upstream(whole, &mut spot.field("upstream"), name),
        (None, Some(name)) => group(whole, &mut spot.field("group"), name),
        (Some(_), Some(_)) => spot.field("group").say("a mapping has one way out; keep `upstream` or `group`"),
        (None, None) => {
            spot.say("it is not said what carries these clients; name an Upstream in `upstream` or an UpstreamGroup in `group`")
        }
    }
}

fn group(whole: &Whole, spot: &mut Spot, name: &Name) {
    if whole.config.upstream_groups.contains_key(name) || whole.config.gaps.may_hide("UpstreamGroup", name.as_str()) {
        return;
    }
    if whole.config.upstreams.contains_key(name) {
        spot.say(format!("{name} is an Upstream; write `upstream: {name}`"));
        return;
    }
    let known = whole.config.upstream_groups.keys().map(Name::as_str);
    spot.say(format!("there is no UpstreamGroup {name}; add one with this name or name another{}", nearest(name.as_str(), known)));
}

fn limits(spot: &mut Spot, mapping: &ProxyMapping) {
    for (field, rate) in [("downMbit", mapping.down_mbit), ("upMbit", mapping.up_mbit)] {
        if let Some(rate) = rate.filter(|rate| !(1..=MOST_MBIT).contains(rate)) {
            spot.field(field)
                .say(format!("{rate} is not possible; write 1 to {MOST_MBIT} megabits a second, or leave it out for no limit"));
        }
    }
    for (field, amount) in [("dailyMb", mapping.daily_mb), ("monthlyMb", mapping.monthly_mb)] {
        if let Some(amount) = amount.filter(|amount| !(1..=MOST_MB).contains(amount)) {
            spot.field(field).say(format!("{amount} is not possible; write 1 to {MOST_MB} megabytes, or leave it out for no limit"));
        }
    }
    if let (Some(day), Some(month)) = (mapping.daily_mb, mapping.monthly_mb)
        && day > month
    {
        spot.field("dailyMb")
            .say(format!("{day} megabytes a day are more than {month} a month, so they never decide; write less, or leave this out"));
    }
}
