//! Which clients are carried to which upstreams: what the forwarder is told, and what a permit of the applier lets in.
//!
//! It is part of the plan and of its digest. It names secrets and never holds one: the applier, which keeps them, adds their values
//! on the way to the forwarder ([`crate::messages::forwarder::ToForwarder::Become`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Window;
use crate::name::{IfName, Name};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proxy {
    pub upstreams: BTreeMap<Name, Upstream>,
    pub groups: BTreeMap<Name, Group>,
    pub mappings: BTreeMap<Name, Mapping>,
}

/// A proxy server that carries connections for us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    pub kind: UpstreamKind,
    pub address: IpAddr,
    pub port: u16,
    pub username: Option<String>,
    /// Name of the secret.
    pub password: Option<String>,
    /// For `Socks5Tls` and `HttpsConnect`: the name that the certificate must carry. None: the address must be in it.
    pub server_name: Option<String>,
    /// PEM of the authority that signed the certificate. None: the machine's own (`/etc/ssl/certs`).
    pub authority: Option<String>,
    /// Whether UDP may be asked of it (SOCKS5 UDP ASSOCIATE).
    pub udp: bool,
    /// `http://host[:port]/path`: answers with the address that asked. Always fetched through the upstream.
    pub probe: String,
    /// The probe must come out at one of these; empty is anywhere but at one of the box's own addresses.
    pub expect_exit: Vec<IpNet>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UpstreamKind {
    Socks5,
    Socks5Tls,
    HttpConnect,
    HttpsConnect,
}

/// Several upstreams of which one carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    pub strategy: Strategy,
    /// In the order of the policy; for `Priority` the first that is up is used.
    pub members: Vec<Name>,
    /// Consecutive failures after which a member is failed. At least 1; a connection that a client asked for counts like a probe.
    pub fail_after: u32,
    /// Consecutive good probes after which a failed member is healthy again. At least 1.
    pub recover_after: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    Priority,
    RoundRobin,
    Latency,
}

/// Clients and the one way out that they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mapping {
    /// Identifies the mapping in packet marks, connection marks and tc classes: 1 to 65,535, by the order of names. Valid for one plan only.
    pub id: u16,
    /// A mapping that is not enabled gets no permit: its clients go nowhere.
    pub enabled: bool,
    /// Addresses and prefixes, of both families. No two mappings overlap.
    pub clients: BTreeSet<IpNet>,
    /// Hardware addresses, `02:00:00:00:00:01`; a client that is named so is this mapping's whatever address it uses.
    pub macs: BTreeSet<String>,
    /// The ports of the zones in which the clients are, for shaping.
    pub interfaces: BTreeSet<IfName>,
    pub via: Via,
    pub tcp: TcpCapture,
    /// UDP is carried, if the upstream can; else it is dropped.
    pub udp: bool,
    pub dns: Dns,
    pub quota: Quota,
    /// Times in which the mapping is effective. None is always.
    pub schedule: Option<MappingSchedule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Via {
    Upstream(Name),
    Group(Name),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TcpCapture {
    Redirect,
    Tproxy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "mode", deny_unknown_fields)]
pub enum Dns {
    /// UDP and TCP 53 and TCP and UDP 853 of the client are dropped.
    Drop,
    /// Questions over UDP are asked over TCP through the upstream, of the server that the client asked.
    Proxied,
    /// Questions, whomever they are sent to, are asked of `server` by DNS over HTTPS (RFC 8484) through the upstream.
    #[serde(rename_all = "camelCase")]
    DohStub {
        /// `https://name[:port]/path`
        url: String,
        /// Where `name` is, so that nothing needs to be resolved before. None: the upstream resolves it.
        server: Option<IpAddr>,
        /// PEM of the authority; None is the machine's own.
        authority: Option<String>,
    },
}

/// Limits; None is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quota {
    /// To the client, bits a second.
    pub down: Option<u64>,
    /// From the client, bits a second.
    pub up: Option<u64>,
    /// Bytes in both directions, per day and month in the box's own time zone. The mapping is blocked until the next when they are spent.
    pub daily: Option<u64>,
    pub monthly: Option<u64>,
}

/// Like [`super::Schedule`], of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MappingSchedule {
    pub timezone: String,
    /// Sorted, never overlapping.
    pub open: Vec<Window>,
}
