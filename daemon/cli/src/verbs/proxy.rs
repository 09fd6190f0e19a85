//! `portcullis proxy`: mapped clients, as the applier lets them in and as the forwarder carries them.

use std::net::IpAddr;

use policy::messages::forwarder::{
    Datagrams, Flow, ForwarderRequest, ForwarderResponse, ForwarderStatus, Health, HealthStatus, MappingState,
};
use policy::messages::proxy::{Blocked, Effect, ProxyStatus};
use policy::messages::{ApplierRequest, ApplierResponse};
use policy::name::Name;
use serde_json::json;

use super::{say, say_json};
use crate::applier::Applier;
use crate::args::Proxy;
use crate::forwarder::Forwarder;
use crate::paint::{self, Paint};
use crate::trouble::Trouble;

pub fn run(verb: Proxy, applier: &Applier, forwarder: &Forwarder) -> Result<(), Trouble> {
    match verb {
        Proxy::Status { json } => status(json, applier, forwarder),
        Proxy::Flows { mapping, client, limit, json } => {
            let mapping = mapping.as_deref().map(named).transpose()?;
            flows(ForwarderRequest::Flows { mapping, client, limit }, json, forwarder)
        }
        Proxy::Close { flow, client } => close(flow, client, forwarder),
        Proxy::Probe { upstreams, json } => {
            let upstreams = upstreams.iter().map(|text| named(text)).collect::<Result<_, _>>()?;
            probe(ForwarderRequest::Probe { upstreams }, json, forwarder)
        }
    }
}

fn named(text: &str) -> Result<Name, Trouble> {
    Name::try_from(text).map_err(|bad| Trouble::Usage(bad.to_string()))
}

/// A forwarder that does not answer is part of the answer: then everything is blocked, and the applier knows why.
fn status(json: bool, applier: &Applier, forwarder: &Forwarder) -> Result<(), Trouble> {
    let applier = match applier.ask(&ApplierRequest::Proxy)? {
        ApplierResponse::Proxy(status) => status,
        other => return Err(Applier::unexpected(other)),
    };
    let forwarder = match forwarder.ask(&ForwarderRequest::Status) {
        Ok(ForwarderResponse::Status(status)) => Some(status),
        Ok(other) => return Err(Forwarder::unexpected(other)),
        Err(Trouble::Unreachable(..)) => None,
        Err(trouble) => return Err(trouble),
    };
    if json {
        return say_json(&json!({ "applier": applier, "forwarder": forwarder }));
    }
    say(lines(&applier, forwarder.as_ref(), paint::for_stdout()))
}

fn lines(applier: &ProxyStatus, forwarder: Option<&ForwarderStatus>, paint: Paint) -> String {
    let mut lines = vec![match (applier.forwarder_connected, forwarder) {
        (true, Some(status)) => {
            format!("forwarder  {} flows, {} of {} descriptors", status.flows, status.descriptors, status.descriptors_max)
        }
        (true, None) => format!("forwarder  {}", paint.bad("linked, but does not answer on its socket")),
        (false, _) => format!("forwarder  {}", paint.bad("not linked: every mapped client is blocked")),
    }];
    lines.extend(forwarder.into_iter().flat_map(|status| datagrams(&status.datagrams)));
    lines.extend(applier.secrets_missing.iter().map(|name| format!("secret     {}", paint.bad(&format!("{name} is not set")))));
    let width = applier.mappings.keys().chain(applier.upstreams.keys()).map(|name| name.as_str().len()).max().unwrap_or(0);
    for (name, effect) in &applier.mappings {
        let traffic = forwarder.and_then(|status| status.mappings.get(name));
        let flows = traffic
            .map_or_else(String::new, |traffic| format!(", {} flows, {} up, {} down", traffic.flows, traffic.up_bytes, traffic.down_bytes));
        lines.push(format!("mapping    {:width$}  {}{flows}", name.as_str(), effect_in_words(effect, paint)));
    }
    lines
        .extend(applier.upstreams.iter().map(|(name, health)| format!("upstream   {:width$}  {}", name.as_str(), in_words(health, paint))));
    lines.join("\n")
}

/// Nothing while there were none.
fn datagrams(datagrams: &Datagrams) -> Vec<String> {
    let dropped: Vec<String> =
        datagrams.dropped.iter().filter(|(_, count)| **count > 0).map(|(reason, count)| format!("{count} {reason}")).collect();
    let mut lines = Vec::new();
    if datagrams.up + datagrams.down + datagrams.questions > 0 {
        lines.push(format!(
            "datagrams  {} up, {} down, {} questions ({} without an answer)",
            datagrams.up, datagrams.down, datagrams.questions, datagrams.failed_questions
        ));
    }
    if !dropped.is_empty() {
        lines.push(format!("dropped    {}", dropped.join(", ")));
    }
    lines
}

fn effect_in_words(effect: &Effect, paint: Paint) -> String {
    let why = match &effect.blocked {
        _ if effect.permitted => {
            let by = match &effect.state {
                Some(MappingState::Up { upstream }) => format!(" by {upstream}"),
                _ => String::new(),
            };
            return format!("{}{by}", paint.good("let in"));
        }
        None => "for a reason that was not told".to_owned(),
        Some(Blocked::NoForwarder) => "the forwarder is not there or has not answered yet".to_owned(),
        Some(Blocked::UpstreamDown { why } | Blocked::WrongExit { why }) => why.clone(),
        Some(Blocked::DailyQuota) => "the bytes of this day are spent".to_owned(),
        Some(Blocked::MonthlyQuota) => "the bytes of this month are spent".to_owned(),
        Some(Blocked::Disabled) => "switched off".to_owned(),
        Some(Blocked::Schedule) => "outside of its hours".to_owned(),
        Some(Blocked::SecretMissing { name }) => format!("the secret {name} is not set"),
    };
    format!("{}: {why}", paint.bad("blocked"))
}

fn in_words(health: &Health, paint: Paint) -> String {
    let latency = health.latency_us.map_or_else(String::new, |latency| format!(", {:.1} ms", latency as f64 / 1000.0));
    let exit = health.exit.map_or_else(String::new, |exit| format!(", exit {exit}"));
    let why = health.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    let state = match health.status {
        HealthStatus::Unknown => "not probed yet".to_owned(),
        HealthStatus::Healthy => paint.good("healthy"),
        HealthStatus::Degraded => paint.strong("degraded"),
        HealthStatus::Failed => paint.bad("failed"),
    };
    format!("{state}{latency}{exit}{why}")
}

fn flows(request: ForwarderRequest, json: bool, forwarder: &Forwarder) -> Result<(), Trouble> {
    match forwarder.ask(&request)? {
        ForwarderResponse::Flows { flows, total } if json => say_json(&json!({ "flows": flows, "total": total })),
        ForwarderResponse::Flows { flows, total } => say(table(&flows, total, paint::for_stdout())),
        other => Err(Forwarder::unexpected(other)),
    }
}

fn table(flows: &[Flow], total: u64, paint: Paint) -> String {
    let head = ["flow", "mapping", "upstream", "kind", "client", "destination", "up", "down"].map(str::to_owned);
    let row = |flow: &Flow| {
        [
            flow.id.to_string(),
            flow.mapping.to_string(),
            flow.upstream.to_string(),
            flow.protocol.clone(),
            flow.client.to_string(),
            flow.destination.to_string(),
            flow.up_bytes.to_string(),
            flow.down_bytes.to_string(),
        ]
    };
    let rows: Vec<[String; 8]> = std::iter::once(head).chain(flows.iter().map(row)).collect();
    let widths: Vec<usize> = (0..8).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).enumerate();
        let cell =
            |(at, (text, width)): (usize, (&String, &usize))| if at > 5 { format!("{text:>width$}") } else { format!("{text:width$}") };
        cells.map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines[0] = paint.strong(&lines[0]);
    lines.push(String::new());
    lines.push(format!("{} of {total} flows", flows.len()));
    lines.join("\n")
}

fn close(flow: Option<u64>, client: Option<IpAddr>, forwarder: &Forwarder) -> Result<(), Trouble> {
    match forwarder.ask(&ForwarderRequest::Close { flow, client })? {
        ForwarderResponse::Closed { flows: 0 } => Err(Trouble::Refused("nothing of that is open".to_owned())),
        ForwarderResponse::Closed { flows } => say(format!("{flows} ended")),
        other => Err(Forwarder::unexpected(other)),
    }
}

fn probe(request: ForwarderRequest, json: bool, forwarder: &Forwarder) -> Result<(), Trouble> {
    let paint = paint::for_stdout();
    match forwarder.ask(&request)? {
        ForwarderResponse::Probed { health } if json => say_json(&health),
        ForwarderResponse::Probed { health } => {
            let width = health.keys().map(|name| name.as_str().len()).max().unwrap_or(0);
            health.iter().try_for_each(|(name, health)| say(format!("{:width$}  {}", name.as_str(), in_words(health, paint))))
        }
        other => Err(Forwarder::unexpected(other)),
    }
}
