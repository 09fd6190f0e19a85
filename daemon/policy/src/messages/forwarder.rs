//! Between applier and forwarder (`forwarder-link.sock`, which the applier serves to the forwarder's user alone), and between the
//! forwarder and those who ask about it (`forwarder.sock`, which the forwarder serves to control's user and root).
//!
//! Losing the link is losing every permit: the applier takes them all away when it ends, and gives none before the forwarder has
//! taken the generation that stands and said that a mapping is up.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::plan::proxy::Proxy;

/// The sockets that come with `Sockets`, in this order, by SCM_RIGHTS: the applier binds them, with the privileges that it takes.
/// TCP ones listen already. For each worker one of each, so `WORKERS` times this list.
pub const SOCKETS: [SocketKind; 8] = [
    SocketKind::Redirected4,
    SocketKind::Redirected6,
    SocketKind::Transparent4,
    SocketKind::Transparent6,
    SocketKind::Datagrams4,
    SocketKind::Datagrams6,
    SocketKind::Answers4,
    SocketKind::Answers6,
];
/// Threads of the forwarder that carry, each with listeners of its own (SO_REUSEPORT).
pub const WORKERS: usize = 2;

/// Ports on the box, in both families. Nothing reaches them but what our own rules lead there.
pub const REDIRECTED_PORT: u16 = 61080;
pub const TRANSPARENT_PORT: u16 = 61081;
pub const DATAGRAMS_PORT: u16 = 61082;

/// The forwarder's user. Fixed, so that a ruleset can name it and compile alike everywhere (`rootfs-overlay/usr/lib/sysusers.d`).
pub const FORWARDER_UID: u32 = 911;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SocketKind {
    /// TCP listener behind `redirect`: SO_ORIGINAL_DST tells where the client wanted to go.
    Redirected4,
    Redirected6,
    /// TCP listener behind `tproxy` (IP_TRANSPARENT): the accepted socket's own address is where the client wanted to go.
    Transparent4,
    Transparent6,
    /// UDP behind `tproxy`, with IP_RECVORIGDSTADDR.
    Datagrams4,
    Datagrams6,
    /// Raw (IP_HDRINCL, IPPROTO_RAW), marked with [`crate::compile::proxy::ANSWER`]: for UDP answers that come from where the client sent its question.
    /// Our output chain lets such packets go only as answers of connections that a mapped client opened.
    Answers4,
    Answers6,
}

/// From the applier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "say", deny_unknown_fields)]
pub enum ToForwarder {
    /// First on every link, with `WORKERS` times [`SOCKETS`].
    Sockets,
    /// Carry by this from now on. Flows of mappings and upstreams that are the same go on; all others end.
    Become {
        generation: u64,
        proxy: Proxy,
        /// By name, as far as the upstreams name them.
        secrets: BTreeMap<String, String>,
        /// The box's own addresses: an exit that is one of these is no exit.
        own: Vec<IpAddr>,
    },
    /// Probe now, without waiting for the round; each answered by a `Health`.
    Probe { upstreams: Vec<Name> },
    /// End every flow of these mappings: their permit is gone.
    End { mappings: Vec<Name>, why: String },
}

/// To the applier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "say", deny_unknown_fields)]
pub enum FromForwarder {
    /// Carrying by that generation.
    Became { generation: u64 },
    /// The state of mappings, said when it changes and for all after `Became`. The first word of an upstream's death.
    Mappings { generation: u64, states: BTreeMap<Name, MappingState> },
    /// A probe ended.
    Health { generation: u64, upstream: Name, health: Health },
    /// Bytes carried since the forwarder started, both directions, every second for those that grew.
    Usage { bytes: BTreeMap<Name, u64> },
}

/// Whether traffic of a mapping can be carried now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "state", deny_unknown_fields)]
pub enum MappingState {
    Up { upstream: Name },
    Down { why: String },
}

/// What one probe, or the failure of a client's connection, said of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Health {
    /// Milliseconds since the epoch.
    pub at: u64,
    pub status: HealthStatus,
    /// Microseconds from connecting to the first byte of the probe's answer.
    pub latency_us: Option<u64>,
    pub exit: Option<IpAddr>,
    /// In plain words, when it is not healthy.
    pub why: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HealthStatus {
    /// Not probed yet.
    Unknown,
    Healthy,
    /// It carries, but some recent attempts failed.
    Degraded,
    Failed,
}

/// To the forwarder, on its own socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "request", deny_unknown_fields)]
pub enum ForwarderRequest {
    Status,
    /// At most `limit` flows, those with the most bytes first; of one mapping or client if said.
    Flows {
        mapping: Option<Name>,
        client: Option<IpAddr>,
        limit: u32,
    },
    /// Ends one flow, or all of a client.
    Close {
        flow: Option<u64>,
        client: Option<IpAddr>,
    },
    /// Probes these now (all when empty) and answers when they are done, after at most 10 s.
    Probe {
        upstreams: Vec<Name>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "response")]
pub enum ForwarderResponse {
    Status(ForwarderStatus),
    Flows { flows: Vec<Flow>, total: u64 },
    Closed { flows: u64 },
    Probed { health: BTreeMap<Name, Health> },
    Refused { reason: String },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForwarderStatus {
    /// Milliseconds since the epoch.
    pub now: u64,
    pub started_at: u64,
    /// None before the applier said what to carry.
    pub generation: Option<u64>,
    pub upstreams: BTreeMap<Name, UpstreamStatus>,
    /// By mapping.
    pub mappings: BTreeMap<Name, MappingTraffic>,
    pub flows: u64,
    /// Descriptors in use, and the limit.
    pub descriptors: u64,
    pub descriptors_max: u64,
    /// Pipes of bulk flows.
    pub pipes: u64,
    pub health_rounds: u64,
    /// Flows refused since the start because a limit was reached.
    pub refused_flows: u64,
    /// Flows that are open, by protocol: `tcp`, `udp`, `dns`.
    #[serde(default)]
    pub protocols: BTreeMap<String, u64>,
    #[serde(default)]
    pub datagrams: Datagrams,
}

/// Datagrams of mapped clients since the forwarder started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Datagrams {
    /// Sent on to an upstream's relay.
    pub up: u64,
    /// Given to clients; answers to their questions are among them.
    pub down: u64,
    /// Questions to port 53 that were taken, by UDP and TCP.
    pub questions: u64,
    /// Of those, answered by SERVFAIL because nobody else answered.
    pub failed_questions: u64,
    /// Dropped, by reason: a stable word.
    pub dropped: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStatus {
    pub health: Health,
    /// Oldest first, at most 240: two hours of rounds.
    pub history: Vec<Health>,
    pub flows: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MappingTraffic {
    pub state: MappingState,
    pub flows: u64,
    /// Since the forwarder started.
    pub up_bytes: u64,
    pub down_bytes: u64,
    pub connections: u64,
    pub failed_connections: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    pub id: u64,
    pub mapping: Name,
    pub upstream: Name,
    /// `tcp`, `udp`, `dns`.
    pub protocol: String,
    pub client: SocketAddr,
    pub destination: SocketAddr,
    /// Milliseconds since the epoch.
    pub began: u64,
    pub up_bytes: u64,
    pub down_bytes: u64,
}
