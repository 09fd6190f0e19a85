//! A mapping as a resource's text.

use std::fmt::{Display, Write};

use super::plain;
use crate::model::{DnsMode, ProxyMapping, RuleSchedule};
use crate::name::Name;
use crate::read::API_VERSION;
use crate::shape::looks_like_another_type;

/// Clients that stand on one line.
const SIDE_BY_SIDE: usize = 4;

pub fn resource(name: &Name, description: Option<&str>, mapping: &ProxyMapping) -> String {
    let described = description.map(|text| format!(", description: {}", quoted(text))).unwrap_or_default();
    let mut text =
        format!("apiVersion: {API_VERSION}\nkind: ProxyMapping\nmetadata: {{ name: {}{described} }}\nspec:\n", word(name.as_str()));
    clients(&mut text, mapping);
    let usual = plain();
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "  {name}: {value}");
        }
    };
    field("upstream", mapping.upstream.as_ref().map(|name| word(name.as_str())));
    field("group", mapping.group.as_ref().map(|name| word(name.as_str())));
    field("tcp", (mapping.tcp != usual.tcp).then(|| mapping.tcp.to_string()));
    field("udp", (mapping.udp != usual.udp).then(|| mapping.udp.to_string()));
    match &mapping.dns {
        DnsMode::Drop {} => (),
        DnsMode::Proxied {} => field("dns", Some("proxied".to_owned())),
        DnsMode::DohStub { doh_url, doh_server, doh_authority } => {
            field("dns", Some("dohStub".to_owned()));
            field("dohUrl", Some(quoted(doh_url)));
            field("dohServer", doh_server.map(|server| quoted(&server.to_string())));
            field("dohAuthority", doh_authority.as_ref().map(|pem| block(&pem.0)));
        }
    }
    field("downMbit", number(mapping.down_mbit));
    field("upMbit", number(mapping.up_mbit));
    field("dailyMb", number(mapping.daily_mb));
    field("monthlyMb", number(mapping.monthly_mb));
    field("schedule", mapping.schedule.as_ref().map(schedule));
    field("enabled", (mapping.enabled != usual.enabled).then(|| mapping.enabled.to_string()));
    text
}

fn clients(text: &mut String, mapping: &ProxyMapping) {
    let clients: Vec<String> = mapping.clients.iter().map(|client| word(&client.to_string())).collect();
    if clients.len() <= SIDE_BY_SIDE {
        let _ = writeln!(text, "  clients: [{}]", clients.join(", "));
        return;
    }
    text.push_str("  clients:\n");
    for client in clients {
        let _ = writeln!(text, "    - {client}");
    }
}

fn schedule(schedule: &RuleSchedule) -> String {
    let days: Vec<String> = schedule.days.iter().map(ToString::to_string).collect();
    // Every day is said by naming none; an empty list would read as "never".
    let days = if days.is_empty() { String::new() } else { format!("days: [{}], ", days.join(", ")) };
    format!("{{ {days}from: \"{}\", until: \"{}\" }}", schedule.from, schedule.until)
}

fn number(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// Quoted where it would be something else without.
fn word(text: &str) -> String {
    if text.contains(':') || looks_like_another_type(text) { quoted(text) } else { text.to_owned() }
}

/// JSON's quoting is part of YAML (1.2.2, section 1.3).
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn block(text: &str) -> String {
    text.trim_end().lines().fold("|".to_owned(), |block, line| format!("{block}\n    {}", line.trim()))
}
