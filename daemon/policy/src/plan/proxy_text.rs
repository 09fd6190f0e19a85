//! The section `[proxy]` of a plan: everything that decides how clients are carried. Secrets by name, certificates by hash.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::Window;
use super::proxy::{Dns, Group, Mapping, Proxy, Quota, Strategy, TcpCapture, Upstream, UpstreamKind, Via};
use crate::compile::proxy::mark;
use crate::name::Name;

pub fn section(proxy: &Proxy) -> String {
    let upstreams = proxy.upstreams.iter().map(|(name, one)| upstream(name, one));
    let groups = proxy.groups.iter().map(|(name, one)| group(name, one));
    let mappings = proxy.mappings.iter().map(|(name, one)| mapping(name, one));
    upstreams.chain(groups).chain(mappings).collect()
}

/// `upstream berlin: socks5 198.51.100.7:1080, udp` and the rest on further lines.
fn upstream(name: &Name, upstream: &Upstream) -> String {
    let kind = match upstream.kind {
        UpstreamKind::Socks5 => "socks5",
        UpstreamKind::Socks5Tls => "socks5-tls",
        UpstreamKind::HttpConnect => "http-connect",
        UpstreamKind::HttpsConnect => "https-connect",
    };
    let udp = if upstream.udp { ", udp" } else { "" };
    let mut text = format!("upstream {name}: {kind} {}{udp}\n", std::net::SocketAddr::new(upstream.address, upstream.port));
    let mut line = |words: String| _ = writeln!(text, "  {words}");
    if let Some(username) = &upstream.username {
        line(format!("username {username:?}"));
    }
    if let Some(secret) = &upstream.password {
        line(format!("password of secret {secret}"));
    }
    if let Some(server) = &upstream.server_name {
        line(format!("server name {server:?}"));
    }
    if let Some(pem) = &upstream.authority {
        line(format!("authority {}", hash(pem)));
    }
    line(format!("probe {:?}", upstream.probe));
    for exit in &upstream.expect_exit {
        line(format!("exit {exit}"));
    }
    text
}

fn group(name: &Name, group: &Group) -> String {
    let strategy = match group.strategy {
        Strategy::Priority => "priority",
        Strategy::RoundRobin => "round-robin",
        Strategy::Latency => "latency",
    };
    let Group { fail_after, recover_after, .. } = group;
    let members: String = group.members.iter().map(|member| format!("  member {member}\n")).collect();
    format!("group {name}: {strategy}, fails after {fail_after}, recovers after {recover_after}\n{members}")
}

fn mapping(name: &Name, mapping: &Mapping) -> String {
    let enabled = if mapping.enabled { "" } else { " disabled," };
    let tcp = match mapping.tcp {
        TcpCapture::Redirect => "redirect",
        TcpCapture::Tproxy => "tproxy",
    };
    let udp = if mapping.udp { ", udp" } else { "" };
    let mut text = format!("mapping {name}:{enabled} mark 0x{:08x}, {}, tcp by {tcp}{udp}\n", mark(mapping.id), via(&mapping.via));
    let mut line = |words: String| _ = writeln!(text, "  {words}");
    line(dns(&mapping.dns));
    for client in &mapping.clients {
        line(format!("client {client}"));
    }
    for mac in &mapping.macs {
        line(format!("client {mac}"));
    }
    for port in &mapping.interfaces {
        line(format!("port {port}"));
    }
    let Quota { down, up, daily, monthly } = mapping.quota;
    for (what, limit, unit) in [("down", down, "bit/s"), ("up", up, "bit/s"), ("a day", daily, "bytes"), ("a month", monthly, "bytes")] {
        if let Some(limit) = limit {
            line(format!("at most {limit} {unit} {what}"));
        }
    }
    if let Some(schedule) = &mapping.schedule {
        line(format!("effective at times, {} time", schedule.timezone));
        schedule.open.iter().for_each(|window: &Window| line(format!("open {window}")));
    }
    text
}

pub fn via(via: &Via) -> String {
    match via {
        Via::Upstream(name) => format!("upstream {name}"),
        Via::Group(name) => format!("group {name}"),
    }
}

fn dns(dns: &Dns) -> String {
    match dns {
        Dns::Drop => "dns dropped".to_owned(),
        Dns::Proxied => "dns proxied".to_owned(),
        Dns::DohStub { url, server, authority } => {
            let server = server.map(|server| format!(", server {server}")).unwrap_or_default();
            let authority = authority.as_ref().map(|pem| format!(", authority {}", hash(pem))).unwrap_or_default();
            format!("dns over https {url:?}{server}{authority}")
        }
    }
}

fn hash(pem: &str) -> String {
    Sha256::digest(pem.as_bytes()).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}
