//! Datagrams of mapped clients: carried by SOCKS5 UDP ASSOCIATE (RFC 1928), and the questions to port 53 by [`crate::dns`].
//!
//! ```text
//! client ──tproxy──▶ Datagrams4/6 ─┬─▶ association: control connection + socket to the relay ──▶ upstream
//!                                  └─▶ port 53: dns, over a tunnel of the upstream
//! client ◀── Answers4/6 (raw, from the address that was asked) ◀── from the relay, or dns
//! ```
//!
//! A thread per worker, with its own epoll. It binds nothing and takes no privilege: the sockets that need one are handed to it.
//! A datagram is dropped and counted whenever anything is not as it must be; it is never sent any other way.

mod answers;
mod associations;
mod packet;
mod receive;
mod socks;
#[cfg(test)]
mod tests;
pub mod tunnel;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use policy::messages::forwarder::Datagrams;
use policy::name::Name;
use policy::plan::proxy::Via;

use crate::config::{Carried, Route};
use crate::flows::{Door, Flows};

pub use worker::{Handle, Sockets, worker};

/// What the rest of the forwarder is to this part of it.
pub trait Ground: Send + Sync {
    /// None: nothing is carried.
    fn carried(&self) -> Option<Arc<Carried>>;
    fn flows(&self) -> &Flows;
    /// The upstream that is to be used now.
    fn choose(&self, via: &Via) -> Result<Name, String>;
    fn failed(&self, upstream: &Name, why: &str);
    fn succeeded(&self, upstream: &Name);
    /// A silence that may be that of whom we wanted to reach.
    fn doubt(&self, upstream: &Name);
    /// Whether the upstream's SOCKS server may be sent everything at once.
    fn pipelined(&self, upstream: &Name) -> bool;
}

/// What was carried, and what was dropped and why, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sent on to a relay.
    pub up: AtomicU64,
    /// Given to clients.
    pub down: AtomicU64,
    pub questions: AtomicU64,
    /// The kernel did not say whose it is or whom it asks, or nobody's client sent it.
    pub nobodys: AtomicU64,
    /// The mapping carries no UDP, or no DNS.
    pub not_carried: AtomicU64,
    /// The upstream cannot carry UDP, or refused to.
    pub no_udp: AtomicU64,
    /// No upstream, or it failed.
    pub no_upstream: AtomicU64,
    /// A limit was reached, or there was no room on the way to the relay.
    pub limited: AtomicU64,
    /// From the relay: a fragment, not the protocol, or from an address that the client did not ask.
    pub unasked: AtomicU64,
    pub unreadable: AtomicU64,
    /// The kernel did not let the answer out.
    pub unanswerable: AtomicU64,
    /// Questions that are not DNS.
    pub malformed: AtomicU64,
    /// Questions answered by SERVFAIL.
    pub servfail: AtomicU64,
}

impl Counters {
    /// Adds them to what other workers counted.
    pub fn tell(&self, told: &mut Datagrams) {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        told.up += of(&self.up);
        told.down += of(&self.down);
        told.questions += of(&self.questions);
        told.failed_questions += of(&self.servfail);
        let dropped = [
            ("no-mapping", &self.nobodys),
            ("not-carried", &self.not_carried),
            ("upstream-without-udp", &self.no_udp),
            ("no-upstream", &self.no_upstream),
            ("limit", &self.limited),
            ("unasked", &self.unasked),
            ("unreadable", &self.unreadable),
            ("unanswerable", &self.unanswerable),
            ("malformed-question", &self.malformed),
        ];
        for (reason, counter) in dropped {
            *told.dropped.entry(reason.to_owned()).or_default() += of(counter);
        }
    }
}

/// What everything in the thread works with.
pub(crate) struct Desk {
    pub ground: Arc<dyn Ground>,
    pub door: Arc<Door>,
    pub counters: Arc<Counters>,
    pub answers: Option<answers::Answers>,
    pub epoll: std::os::fd::OwnedFd,
    next: u64,
}

/// What a token of epoll or of the door stands for: in its lower bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Own,
    Control,
    Relay,
    Lookup,
    Stream,
    Asker,
}

const KINDS: [Kind; 6] = [Kind::Own, Kind::Control, Kind::Relay, Kind::Lookup, Kind::Stream, Kind::Asker];

pub(crate) fn token(kind: Kind, number: u64) -> u64 {
    number << 3 | kind as u64
}

pub(crate) fn told(token: u64) -> (Kind, u64) {
    (KINDS.get((token & 7) as usize).copied().unwrap_or(Kind::Own), token >> 3)
}

impl Desk {
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The route that `via` leads to now.
    pub fn route(&self, via: &Via) -> Option<Arc<Route>> {
        match self.ground.choose(via) {
            Ok(name) => self.ground.carried()?.route(&name).cloned(),
            Err(why) => {
                tracing::debug!(why, "no upstream");
                None
            }
        }
    }

    /// Tells whoever decides about upstreams, if this was the upstream's fault.
    pub fn blame(&self, route: &Route, broken: &tunnel::Broken) {
        tracing::debug!(upstream = %route.name, %broken, "a tunnel ended");
        if let tunnel::Broken::Upstream(why) = broken {
            self.ground.failed(&route.name, why);
        }
    }

    pub fn answer(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> bool {
        self.answers.as_mut().is_some_and(|answers| answers.send(from, to, payload, &self.counters))
    }
}
