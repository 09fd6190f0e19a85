//! Mapped clients: who is carried by what, what is open, and the secrets that upstreams want.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy::name::Name;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Operation, Parameter};
use crate::carried::{self, Known};
use crate::forwarder::{self, Target};
use crate::http::{Access, Method, Response, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const VIEW: Access = Access::May(Action::View);
const OPERATE: Access = Access::May(Action::Operate);

pub const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::Get,
        path: "/proxy",
        access: VIEW,
        handler: status,
        summary: "Whether applier and forwarder carry mapped clients, with the forwarder's own figures. null is not known.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Proxy"),
    },
    Operation {
        method: Method::Get,
        path: "/proxy/mappings",
        access: VIEW,
        handler: mappings,
        summary: "Every mapping that runs: let in or blocked and why, by which upstream, and what it has carried.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Mappings"),
    },
    Operation {
        method: Method::Get,
        path: "/proxy/upstreams",
        access: VIEW,
        handler: upstreams,
        summary: "Every upstream that runs, with its probes of the last two hours.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Upstreams"),
    },
    Operation {
        method: Method::Get,
        path: "/proxy/flows",
        access: VIEW,
        handler: flows,
        summary: "Open flows of mapped clients, those with the most bytes first.",
        query: &[
            Parameter { name: "mapping", kind: "string", about: "only of this mapping" },
            Parameter { name: "client", kind: "string", about: "only of this address" },
            Parameter { name: "limit", kind: "integer", about: "at most so many; 100 without it, 1,000 at most" },
        ],
        body: None,
        answer: Answer::Json(200, "Flows"),
    },
    Operation {
        method: Method::Post,
        path: "/proxy/close",
        access: OPERATE,
        handler: close,
        summary: "End one flow, or all of a client. The client may open new ones.",
        query: &[],
        body: Some("CloseBody"),
        answer: Answer::Json(200, "Closed"),
    },
    Operation {
        method: Method::Post,
        path: "/proxy/probe",
        access: OPERATE,
        handler: probe,
        summary: "Probe these upstreams through themselves now, all when the list is empty, and wait for the answers.",
        query: &[],
        body: Some("ProbeBody"),
        answer: Answer::Json(200, "Probed"),
    },
    Operation {
        method: Method::Get,
        path: "/secrets",
        access: VIEW,
        handler: secrets,
        summary: "Names of the secrets that are set, and of those that the policy wants and nobody has set. Never a value.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Secrets"),
    },
    Operation {
        method: Method::Put,
        path: "/secrets/{name}",
        access: OPERATE,
        handler: set_secret,
        summary: "Keep a secret, sealed. It takes effect at once, and nothing gives it back.",
        query: &[],
        body: Some("SecretBody"),
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Delete,
        path: "/secrets/{name}",
        access: OPERATE,
        handler: remove_secret,
        summary: "Forget a secret. Mappings whose upstreams need it are blocked at once.",
        query: &[],
        body: None,
        answer: Answer::Nothing,
    },
];

/// More would be read by nobody, and cost the forwarder.
const MOST_FLOWS: u32 = 1_000;

fn status(visit: &Visit) -> Result<Response, Trouble> {
    let known = visit.site.carried.look(visit.site);
    let permits = known.permits();
    let forwarder = known.forwarder.as_ref().map(|status| {
        json!({
            "startedAt": status.started_at, "generation": status.generation, "flows": status.flows, "protocols": status.protocols,
            "descriptors": status.descriptors, "descriptorsMax": status.descriptors_max, "pipes": status.pipes,
            "healthRounds": status.health_rounds, "refusedFlows": status.refused_flows, "datagrams": status.datagrams,
        })
    });
    Ok(Response::json(&json!({
        "connected": known.applier.as_ref().map(|status| status.forwarder_connected),
        "permitted": permits.map(|(permitted, _)| permitted),
        "blocked": permits.map(|(_, blocked)| blocked),
        "forwarder": forwarder,
    })))
}

/// The applier decides who is let in, so that without it nothing is known of mappings.
fn mappings(visit: &Visit) -> Result<Response, Trouble> {
    let known = visit.site.carried.look(visit.site);
    let Some(status) = &known.applier else { return Err(away(&known)) };
    Ok(Response::json(&status.mappings.keys().map(|name| mapping(&known, name)).collect::<Vec<_>>()))
}

fn away(known: &Known) -> Trouble {
    Trouble::ApplierAway(known.applier_away.clone().unwrap_or_default())
}

fn mapping(known: &Known, name: &Name) -> Value {
    let effect = known.effect(name);
    let blocked = effect.and_then(|effect| effect.blocked.as_ref());
    let upstream = known.upstream_of(name);
    let health = upstream.and_then(|upstream| known.health(upstream));
    let traffic = known.traffic(name);
    json!({
        "name": name,
        "permitted": effect.is_some_and(|effect| effect.permitted),
        "blocked": blocked.map(|blocked| json!({ "because": carried::reason(blocked), "text": carried::why(blocked) })),
        "since": effect.map(|effect| effect.since),
        "upstream": upstream,
        "exit": health.and_then(|health| health.exit),
        "latencyUs": health.and_then(|health| health.latency_us),
        "flows": traffic.map(|traffic| traffic.flows),
        "upBytes": traffic.map(|traffic| traffic.up_bytes),
        "downBytes": traffic.map(|traffic| traffic.down_bytes),
        "connections": traffic.map(|traffic| traffic.connections),
        "failedConnections": traffic.map(|traffic| traffic.failed_connections),
        "today": effect.map(|effect| effect.today),
        "thisMonth": effect.map(|effect| effect.this_month),
        "daily": effect.and_then(|effect| effect.daily),
        "monthly": effect.and_then(|effect| effect.monthly),
    })
}

fn upstreams(visit: &Visit) -> Result<Response, Trouble> {
    let known = visit.site.carried.look(visit.site);
    if known.applier.is_none() && known.forwarder.is_none() {
        return Err(away(&known));
    }
    let appliers = known.applier.iter().flat_map(|status| status.upstreams.keys());
    let forwarders = known.forwarder.iter().flat_map(|status| status.upstreams.keys());
    let names: BTreeSet<&Name> = appliers.chain(forwarders).collect();
    let told = |name: &&Name| {
        let flows = known.forwarder.as_ref().and_then(|status| status.upstreams.get(*name)).map(|upstream| upstream.flows);
        json!({ "name": name, "health": known.health(name), "history": known.history(name), "flows": flows })
    };
    Ok(Response::json(&names.iter().map(told).collect::<Vec<_>>()))
}

fn flows(visit: &Visit) -> Result<Response, Trouble> {
    let query = &visit.request.query;
    let limit = query.number("limit")?.unwrap_or(100).min(MOST_FLOWS);
    let mapping = query.get("mapping").map(|text| name("mapping", text)).transpose()?;
    let (flows, total) = visit.site.forwarder.flows(mapping, query.get("client").map(client).transpose()?, limit)?;
    Ok(Response::json(&json!({ "flows": flows, "total": total })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseBody {
    flow: Option<u64>,
    client: Option<String>,
}

fn close(visit: &Visit) -> Result<Response, Trouble> {
    let CloseBody { flow, client: who } = visit.request.json()?;
    let target = Target::of(flow, who.as_deref().map(client).transpose()?)?;
    Ok(Response::json(&json!({ "flows": forwarder::close(visit.site, visit.actor()?, target)? })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeBody {
    #[serde(default)]
    upstreams: Vec<String>,
}

fn probe(visit: &Visit) -> Result<Response, Trouble> {
    let ProbeBody { upstreams } = visit.request.json()?;
    let names = upstreams.iter().map(|text| name("upstreams", text)).collect::<Result<Vec<_>, _>>()?;
    let health: BTreeMap<_, _> = forwarder::probe(visit.site, visit.actor()?, names)?;
    Ok(Response::json(&json!({ "health": health })))
}

fn secrets(visit: &Visit) -> Result<Response, Trouble> {
    let known = visit.site.carried.look(visit.site);
    let Some(status) = &known.applier else { return Err(away(&known)) };
    Ok(Response::json(&json!({ "set": status.secrets, "missing": status.secrets_missing })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretBody {
    value: String,
}

fn set_secret(visit: &Visit) -> Result<Response, Trouble> {
    let SecretBody { value } = visit.request.json()?;
    carried::set_secret(visit.site, visit.actor()?, visit.param("name"), &value)?;
    Ok(Response::no_content())
}

fn remove_secret(visit: &Visit) -> Result<Response, Trouble> {
    carried::remove_secret(visit.site, visit.actor()?, visit.param("name"))?;
    Ok(Response::no_content())
}

fn name(field: &str, text: &str) -> Result<Name, Trouble> {
    Name::try_from(text).map_err(|bad| Trouble::field(field, bad.to_string()))
}

fn client(text: &str) -> Result<IpAddr, Trouble> {
    text.parse().map_err(|_| Trouble::field("client", format!("must be an address, not {text:?}")))
}
