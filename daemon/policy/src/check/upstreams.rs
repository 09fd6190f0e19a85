//! Upstreams: somewhere that the box can reach and is not itself, with what its protocol needs.

use std::net::IpAddr;

use super::Whole;
use super::report::{Report, Spot};
use crate::model::{Upstream, UpstreamType};
use crate::problem::quote;
use crate::url::{Scheme, Url, is_host_name};

const MOST_UPSTREAMS: usize = 1000;
/// The length of each stands in one byte (RFC 1929, section 2).
const MOST_USERNAME: usize = 255;
const MOST_EXITS: usize = 1000;

pub(super) fn check(whole: &Whole, report: &mut Report) {
    let upstreams = &whole.config.upstreams;
    for (name, resource) in upstreams {
        let (upstream, mut spot) = (&resource.spec, report.resource("Upstream", name, resource));
        elsewhere(whole, &mut spot.field("address"), upstream.address, "the proxy");
        credentials(&mut spot, upstream);
        if let UpstreamType::Socks5Tls { server_name: Some(name), .. } | UpstreamType::HttpsConnect { server_name: Some(name), .. } =
            &upstream.kind
            && !is_host_name(name)
        {
            let message = format!("{} is no name that a certificate carries; write one like proxy.example.net", quote(name));
            spot.field("serverName").say(message);
        }
        if let Err(message) = Url::parse(&upstream.probe, Scheme::Http) {
            spot.field("probe").say(message);
        }
        for (at, exit) in upstream.expect_exit.iter().enumerate() {
            if upstream.expect_exit[..at].contains(exit) {
                spot.index("expectExit", at).say(format!("{exit} stands here twice; keep one"));
            }
        }
        if upstream.expect_exit.len() > MOST_EXITS {
            spot.field("expectExit")
                .say(format!("these are {} entries; at most {MOST_EXITS} are possible: write prefixes", upstream.expect_exit.len()));
        }
    }
    if upstreams.len() > MOST_UPSTREAMS {
        report.0.general(format!("the policy has {} upstreams; at most {MOST_UPSTREAMS} are possible", upstreams.len()));
    }
}

/// A host that is not the box.
pub(super) fn elsewhere(whole: &Whole, spot: &mut Spot, address: IpAddr, what: &str) {
    let no_host = match address {
        IpAddr::V4(address) => address.octets()[0] == 0 || address.octets()[0] >= 240,
        IpAddr::V6(address) => address.is_unspecified(),
    };
    if no_host || address.is_multicast() {
        spot.say(format!("{address} is no host's address; write the address of {what}"));
    } else if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
        spot.say(format!("{address} is link-local and could be behind any port; write another address of {what}"));
    } else if address.is_loopback() || is_own(whole, address) {
        spot.say(format!("{address} is the box itself; write the address of {what}"));
    }
}

pub(super) fn is_own(whole: &Whole, address: IpAddr) -> bool {
    whole.config.interfaces.values().any(|port| port.spec.addresses.iter().any(|net| net.addr() == address))
}

fn credentials(spot: &mut Spot, upstream: &Upstream) {
    let socks = matches!(upstream.kind, UpstreamType::Socks5 { .. } | UpstreamType::Socks5Tls { .. });
    let Some(username) = &upstream.username else {
        if upstream.password_secret.is_some() {
            spot.field("passwordSecret").say("a password goes with a user name; add `username`, or remove this");
        }
        return;
    };
    if socks && upstream.password_secret.is_none() {
        spot.field("username")
            .say("SOCKS5 asks for a password with a user name (RFC 1929); name its secret in `passwordSecret`, or remove this");
    }
    if username.len() > MOST_USERNAME {
        spot.field("username").say(format!("this user name has {} bytes; at most {MOST_USERNAME} are possible", username.len()));
    }
    if username.chars().any(char::is_control) {
        spot.field("username").say("this user name holds control characters; write it without them");
    }
    if !socks && username.contains(':') {
        spot.field("username").say("HTTP takes what follows a colon for the password (RFC 7617); a user name has none");
    }
}
