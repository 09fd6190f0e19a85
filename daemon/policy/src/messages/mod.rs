//! What the processes say to each other over unix sockets.
//!
//! One message is a big-endian u32 length and that many bytes of JSON, at most [`MAX_MESSAGE`]. A connection carries
//! requests and their responses in turn. Who may speak is decided by peer credentials, before the first byte is read.

pub mod forwarder;
pub mod observer;
pub mod proxy;
pub mod rescue;
pub mod updater;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::Digest;
use crate::problem::Problems;
use crate::source::Sources;

/// Bytes of one message; a policy of 50,000 rules stays below.
pub const MAX_MESSAGE: u32 = 32 << 20;

/// One message, ready to be written.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, BadMessage> {
    let mut bytes = vec![0; HEAD];
    serde_json::to_writer(&mut bytes, message).map_err(|error| BadMessage::Garbled(error.to_string()))?;
    let length = bytes.len() - HEAD;
    let announced = u32::try_from(length).ok().filter(|length| *length <= MAX_MESSAGE).ok_or(BadMessage::TooLong(length as u64))?;
    bytes[..HEAD].copy_from_slice(&announced.to_be_bytes());
    Ok(bytes)
}

/// Bytes as they arrive, in pieces of any size; messages as they are complete.
///
/// It holds what has arrived, never what was merely announced: a peer that claims 32 MiB and sends ten bytes costs ten bytes.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete message. None means that more bytes are needed; after an error the stream is lost and must be closed.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, BadMessage> {
        let Some(head) = self.bytes.first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head);
        if length > MAX_MESSAGE {
            return Err(BadMessage::TooLong(length.into()));
        }
        let end = HEAD + length as usize;
        let Some(body) = self.bytes.get(HEAD..end) else { return Ok(None) };
        let message = serde_json::from_slice(body).map_err(|error| BadMessage::Garbled(error.to_string()));
        // A new buffer: one large message must not hold its memory for as long as the connection lives.
        self.bytes = self.bytes[end..].to_vec();
        message.map(Some)
    }

    /// Nothing of a next message has come yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

const HEAD: usize = size_of::<u32>();

/// What stands on the wire is not a message. The connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    #[error("a message of {0} bytes is longer than the {MAX_MESSAGE} that are allowed")]
    TooLong(u64),
    #[error("a message cannot be understood: {0}")]
    Garbled(String),
}

/// What the applier can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "request", deny_unknown_fields)]
pub enum ApplierRequest {
    Status,
    /// Make the box equal to this policy, on trial. Refused when the digest of what the applier compiles differs.
    Apply {
        sources: Sources,
        digest: Digest,
        /// Seconds; None takes the policy's own `confirmWithin`.
        confirm_within: Option<u32>,
        by: Principal,
    },
    /// Keep the generation on trial. By the principal who applied it, over a connection opened since; what `hot-reload`
    /// applied has nobody behind it, and any principal with such a connection may keep it.
    Confirm {
        generation: u64,
        by: Principal,
    },
    /// End the trial now, or with `generation`, put an earlier confirmed one on trial.
    GoBack {
        generation: Option<u64>,
        by: Principal,
    },
    /// The policy text of a kept generation; None is the one that runs.
    Sources {
        generation: Option<u64>,
    },
    /// Live figures: rule counters and links.
    Counters,
    /// What the kernel holds, as nft-like text rendered from a netlink dump.
    KernelRuleset,
    /// Compare now, without waiting for the next round.
    CheckDrift,
    /// Mapped clients: who is let in, and why the others are not.
    Proxy,
    /// Keeps a secret, sealed; no request gives it back. An empty value removes it. Takes effect at once.
    SetSecret {
        name: String,
        value: String,
        by: Principal,
    },
    /// Probes upstreams of the generation that stands; all when empty.
    ProbeUpstreams {
        upstreams: Vec<String>,
    },
    /// Nothing is forwarded any more and only those who administer reach the box, over the addresses of the confirmed generation.
    /// Stands over restarts, until `GoBack` without a generation brings the confirmed generation back, or another one is confirmed.
    SafeMode {
        by: Principal,
    },
    /// The machine's network ports.
    Ports,
}

/// On whose behalf; for the record and for "the same principal".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Principal {
    /// Login name, `console`, `hot-reload`.
    pub name: String,
    /// The client's address as the front saw it.
    pub address: Option<String>,
    /// When the connection that carries this request was accepted, milliseconds since the epoch, as the front saw it.
    /// None for a local caller, whose own connection to the applier counts instead.
    pub connected_at: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "response")]
pub enum ApplierResponse {
    Status(Status),
    /// Installed and read back; the trial runs.
    OnTrial {
        generation: u64,
        /// Milliseconds since the epoch.
        deadline: u64,
        /// Microseconds by phase: `judge`, `save`, `stage`, `nft`, `links`, `routes`, `sysctls`, `flows`, `read-back`, ...
        phases: BTreeMap<String, u64>,
    },
    Confirmed {
        generation: u64,
    },
    /// Generations count from 1; 0 is lockdown.
    WentBack {
        generation: u64,
    },
    Sources {
        generation: u64,
        sources: Sources,
    },
    Counters(Counters),
    KernelRuleset {
        text: String,
    },
    Drift {
        findings: Vec<DriftFinding>,
    },
    Proxy(proxy::ProxyStatus),
    Ports {
        ports: Vec<Port>,
    },
    /// Done, and there is nothing to tell.
    Done,
    /// Nothing was changed.
    Refused {
        reason: String,
        problems: Problems,
    },
    /// Something failed on the way; the box is back at `generation` (0 is lockdown).
    Failed {
        reason: String,
        generation: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Milliseconds since the epoch, to put deadlines into relation.
    pub now: u64,
    /// None while the box is locked down and has never had a policy.
    pub running: Option<Generation>,
    pub trial: Option<Trial>,
    pub last_confirmed: Option<u64>,
    /// The latest outcome in plain words: why a trial went back, what drift was repaired.
    pub last_event: Option<Event>,
    pub drift: Vec<DriftFinding>,
    pub kept: Vec<Generation>,
    /// Kernel features that were probed: `table-owner`, `table-persist`.
    pub features: Vec<String>,
    /// Who switched safe mode on, while it is on.
    #[serde(default)]
    pub safe_mode: Option<String>,
}

/// A network port of the machine, as the kernel sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    pub name: String,
    pub mac: String,
    /// Whether a cable with something alive at its other end is plugged in; None while the port is switched off.
    pub carrier: Option<bool>,
    /// Mbit/s; None where the port does not tell.
    pub speed: Option<u32>,
    /// With prefix length, also those that DHCP brought.
    pub addresses: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Generation {
    pub number: u64,
    pub digest: Digest,
    pub by: String,
    /// Milliseconds since the epoch.
    pub installed_at: u64,
    pub confirmed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    pub generation: u64,
    pub by: String,
    /// Milliseconds since the epoch.
    pub installed_at: u64,
    pub deadline: u64,
    /// Where it goes without a confirmation; None is lockdown.
    pub back_to: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub at: u64,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftFinding {
    /// `table inet portcullis, chain forward`, `link lan0`, `sysctl net/ipv4/ip_forward`.
    pub what: String,
    pub expected: String,
    pub found: String,
    /// Process name and id, where the kernel tells (NFTA_GEN_PROC_NAME, NFTA_GEN_PROC_PID).
    pub who: Option<String>,
    pub at: u64,
    pub repaired: bool,
}

/// Cumulative since the generation was installed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Milliseconds since the epoch.
    pub at: u64,
    /// By [`crate::ruleset::Source::id`]; the posture's own drops under `posture/<name>`.
    pub rules: BTreeMap<String, Tally>,
    pub links: BTreeMap<String, LinkCounters>,
    /// Entries in the connection table, and its limit.
    pub connections: u64,
    pub connections_max: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkCounters {
    pub up: bool,
    /// With prefix length, also those that DHCP brought.
    pub addresses: Vec<String>,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_packets: u64,
    pub tx_packets: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_whole_however_it_is_cut() {
        let bytes = [encode(&ApplierRequest::Status).unwrap(), encode(&ApplierRequest::Counters).unwrap()].concat();
        for size in 1..bytes.len() {
            let mut inbox = Inbox::default();
            let mut arrived = vec![];
            for piece in bytes.chunks(size) {
                inbox.push(piece);
                while let Some(message) = inbox.take::<ApplierRequest>().unwrap() {
                    arrived.push(message);
                }
            }
            assert_eq!(arrived, [ApplierRequest::Status, ApplierRequest::Counters], "in pieces of {size}");
            assert!(inbox.is_empty());
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_its_body() {
        let mut inbox = Inbox::default();
        inbox.push(&(MAX_MESSAGE + 1).to_be_bytes());
        assert_eq!(inbox.take::<ApplierRequest>(), Err(BadMessage::TooLong(u64::from(MAX_MESSAGE) + 1)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_however_cut_are_a_panic_or_grow(pieces in proptest::collection::vec(proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..40), 0..20)) {
            let mut inbox = Inbox::default();
            let mut pushed = 0;
            for piece in pieces {
                inbox.push(&piece);
                pushed += piece.len();
                proptest::prop_assert!(inbox.len() <= pushed);
                if inbox.take::<ApplierRequest>().is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn garbage_of_the_announced_length_is_refused() {
        for body in ["", "null", "{}", r#"{"request":"confirm","generation":1}"#, r#"{"request":"format-disk"}"#, "\u{0}\u{1}", "[[[[["] {
            let mut inbox = Inbox::default();
            inbox.push(&(body.len() as u32).to_be_bytes());
            inbox.push(body.as_bytes());
            assert!(matches!(inbox.take::<ApplierRequest>(), Err(BadMessage::Garbled(_))), "{body:?} passed");
        }
    }
}
