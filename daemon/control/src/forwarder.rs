//! The other end of the forwarder's socket. It is asked when somebody wants to know, never in the background.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use policy::messages::forwarder::{Flow, ForwarderRequest, ForwarderResponse, ForwarderStatus, Health};
use policy::name::Name;

use crate::actor::Actor;
use crate::audit::Note;
use crate::peer;
use crate::site::Site;
use crate::trouble::Trouble;

pub struct Forwarder {
    socket: PathBuf,
}

/// It answers from memory; a page must not hang when it does not.
const PATIENCE: Duration = Duration::from_secs(2);
/// A probe is answered after at most 10 s.
const PROBE_PATIENCE: Duration = Duration::from_secs(15);

impl Forwarder {
    pub fn new(socket: PathBuf) -> Self {
        Forwarder { socket }
    }

    pub fn status(&self) -> Result<ForwarderStatus, Trouble> {
        match self.ask(&ForwarderRequest::Status, PATIENCE)? {
            ForwarderResponse::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Those with the most bytes first, and how many there are of this kind in all.
    pub fn flows(&self, mapping: Option<Name>, client: Option<IpAddr>, limit: u32) -> Result<(Vec<Flow>, u64), Trouble> {
        match self.ask(&ForwarderRequest::Flows { mapping, client, limit }, PATIENCE)? {
            ForwarderResponse::Flows { flows, total } => Ok((flows, total)),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&self, request: &ForwarderRequest, patience: Duration) -> Result<ForwarderResponse, Trouble> {
        let away = |error: std::io::Error| Trouble::ForwarderAway(error.to_string());
        match peer::exchange(&self.socket, request, patience).map_err(away)? {
            ForwarderResponse::Refused { reason } => Err(Trouble::Refused(reason)),
            answer => Ok(answer),
        }
    }
}

/// What is ended: one flow, or all of a client.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    Flow(u64),
    Client(IpAddr),
}

impl Target {
    /// Exactly one of the two.
    pub fn of(flow: Option<u64>, client: Option<IpAddr>) -> Result<Self, Trouble> {
        match (flow, client) {
            (Some(flow), None) => Ok(Target::Flow(flow)),
            (None, Some(client)) => Ok(Target::Client(client)),
            _ => Err(Trouble::field("flow", "or client must be named, and only one of them")),
        }
    }
}

/// Ends flows on somebody's behalf; how many there were.
pub fn close(site: &Site, actor: &Actor, target: Target) -> Result<u64, Trouble> {
    let (request, subject) = match target {
        Target::Flow(flow) => (ForwarderRequest::Close { flow: Some(flow), client: None }, format!("flow {flow}")),
        Target::Client(client) => (ForwarderRequest::Close { flow: None, client: Some(client) }, format!("client {client}")),
    };
    let flows = match site.forwarder.ask(&request, PATIENCE)? {
        ForwarderResponse::Closed { flows } => flows,
        other => return Err(unexpected(&other)),
    };
    site.carried.forget();
    site.change(actor, |ledger| ledger.note(Note::new("proxy.close", subject, format!("{flows} flow(s) ended"))))?;
    Ok(flows)
}

/// Probes these upstreams now, all when there are none, and waits for the answers.
pub fn probe(site: &Site, actor: &Actor, upstreams: Vec<Name>) -> Result<BTreeMap<Name, Health>, Trouble> {
    let named: Vec<&str> = upstreams.iter().map(Name::as_str).collect();
    let subject = if named.is_empty() { "all upstreams".to_owned() } else { named.join(", ") };
    let health = match site.forwarder.ask(&ForwarderRequest::Probe { upstreams }, PROBE_PATIENCE)? {
        ForwarderResponse::Probed { health } => health,
        other => return Err(unexpected(&other)),
    };
    site.carried.forget();
    let good = health.values().filter(|health| crate::carried::carries(health.status)).count();
    let detail = format!("{good} of {} carry", health.len());
    site.change(actor, |ledger| ledger.note(Note::new("proxy.probe", subject, detail)))?;
    Ok(health)
}

fn unexpected(answer: &ForwarderResponse) -> Trouble {
    let text: String = format!("{answer:?}").chars().take(200).collect();
    Trouble::Internal(format!("the forwarder gave an answer to another question: {text}"))
}
