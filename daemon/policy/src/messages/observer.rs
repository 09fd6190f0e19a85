//! What the observer can be asked: events as they were stored, alerts and what became of them.
//!
//! Framed as all other messages. Lists are paged by key, newest first: `before` is the id of the last one that was seen, so a
//! page costs the same whether it is the first or the ten-thousandth.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "request", deny_unknown_fields)]
pub enum ObserverRequest {
    Status,
    /// Stored events that match, newest first; at most `limit`, which is at most 1,000.
    Events {
        filter: EventFilter,
        before: Option<u64>,
        limit: u32,
    },
    /// One event with the line that it came as.
    Event {
        id: u64,
    },
    /// Events by kind in `buckets` equal parts of a time.
    Trend {
        from: u64,
        until: u64,
        buckets: u32,
    },
    Alerts {
        filter: AlertFilter,
        before: Option<u64>,
        limit: u32,
    },
    Alert {
        id: u64,
    },
    /// Somebody has seen it. The next event of the same kind opens a new one.
    Acknowledge {
        ids: Vec<u64>,
        by: String,
    },
    /// No alerts of this rule (from this source, if one is named) until then.
    Suppress {
        suppression: Suppression,
    },
    Unsuppress {
        id: u64,
    },
    Suppressions,
    /// From here on the connection carries [`ObserverResponse::Raised`], one for each alert that is opened or grows, and
    /// [`ObserverResponse::StillHere`] every 15 seconds.
    Follow,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "response")]
pub enum ObserverResponse {
    Status(ObserverStatus),
    /// `more`: there may be older ones. `resume`: the search ran out of time there, and goes on with it as `before`.
    Events {
        events: Vec<Event>,
        more: bool,
        resume: Option<u64>,
    },
    Event {
        event: Box<Event>,
        raw: RawEvent,
    },
    Trend {
        buckets: Vec<BTreeMap<EventKind, u64>>,
    },
    Alerts {
        alerts: Vec<Alert>,
        more: bool,
        open: u64,
    },
    Alert {
        alert: Box<Alert>,
    },
    /// How many there were.
    Done {
        changed: u64,
    },
    Suppressions {
        suppressions: Vec<Suppression>,
    },
    Raised {
        alert: Box<Alert>,
    },
    StillHere,
    Refused {
        reason: String,
    },
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub id: u64,
    /// Microseconds since the epoch, as the source says.
    pub at: i64,
    pub kind: EventKind,
    pub source: Option<IpAddr>,
    pub source_port: Option<u16>,
    pub destination: Option<IpAddr>,
    pub destination_port: Option<u16>,
    /// IANA's number.
    pub protocol: Option<u8>,
    /// Of an alert: the signature's id and words.
    pub signature: Option<u64>,
    pub message: String,
    pub severity: Severity,
    /// The sensor's number of the flow, for all that belongs together.
    pub flow: Option<u64>,
}

/// The line as it came, or why it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RawEvent {
    Line(String),
    Lost(String),
}

/// What an event is about. Suricata's event types of which we make nothing of their own are `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    Alert,
    Drop,
    Anomaly,
    Dns,
    Http,
    Tls,
    Ssh,
    Flow,
    Other,
}

impl EventKind {
    pub const ALL: [EventKind; 9] = [
        EventKind::Alert,
        EventKind::Drop,
        EventKind::Anomaly,
        EventKind::Dns,
        EventKind::Http,
        EventKind::Tls,
        EventKind::Ssh,
        EventKind::Flow,
        EventKind::Other,
    ];

    pub fn word(self) -> &'static str {
        match self {
            EventKind::Alert => "alert",
            EventKind::Drop => "drop",
            EventKind::Anomaly => "anomaly",
            EventKind::Dns => "dns",
            EventKind::Http => "http",
            EventKind::Tls => "tls",
            EventKind::Ssh => "ssh",
            EventKind::Flow => "flow",
            EventKind::Other => "other",
        }
    }
}

/// Ordered: the last is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    pub fn word(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// Everything that is stated must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EventFilter {
    pub kind: Option<EventKind>,
    /// Source or destination.
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    pub signature: Option<u64>,
    pub flow: Option<u64>,
    /// Microseconds since the epoch.
    pub from: Option<i64>,
    pub until: Option<i64>,
}

/// One alert: a rule, who did it and to whom, however often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    pub id: u64,
    pub rule: String,
    pub severity: Severity,
    /// One sentence for people.
    pub title: String,
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
    /// How many findings were counted into it.
    pub count: u64,
    /// Microseconds since the epoch.
    pub first: i64,
    pub last: i64,
    /// The event that raised it, if it is still stored.
    pub event: u64,
    pub acknowledged: Option<Acknowledged>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledged {
    pub by: String,
    /// Microseconds since the epoch.
    pub at: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AlertFilter {
    /// Only those that nobody has acknowledged.
    pub open: bool,
    pub at_least: Option<Severity>,
    pub rule: Option<String>,
    pub source: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Suppression {
    /// 0 in a request: the observer numbers them.
    #[serde(default)]
    pub id: u64,
    pub rule: String,
    pub source: Option<IpAddr>,
    /// Microseconds since the epoch.
    pub until: i64,
    pub by: String,
    pub reason: String,
}

/// How the watching goes. Counters begin with the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObserverStatus {
    pub sources: Vec<SourceStatus>,
    /// Events that were stored.
    pub stored: u64,
    /// Events that were thrown away because the memory for them was full.
    pub dropped: u64,
    /// Lines that are no events.
    pub garbled: u64,
    /// Microseconds between an event's arrival and its being stored, of the last batch.
    pub lag_us: u64,
    pub alerts_open: u64,
    pub partitions: u64,
    pub bytes: u64,
    pub bytes_max: u64,
    /// Microseconds since the epoch, of the oldest event that is kept.
    pub oldest: Option<i64>,
    /// What is wrong, in words; empty when nothing is.
    pub troubles: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    pub name: String,
    /// Somebody is connected, or the file is there.
    pub open: bool,
    pub events: u64,
    /// Microseconds since the epoch, by this box's clock.
    pub last: Option<i64>,
}
