//! TCP of mapped clients.
//!
//! ```text
//!  listeners ─accept─▶ Flow ─connect─▶ upstream       one worker per listener set, one epoll each;
//!                       │ Handshake                   a flow never leaves its worker
//!  client ◀──── pump ───┴───▶ upstream                copied, or spliced through a pipe of the worker's
//! ```
//!
//! No flow waits for another, nothing is allocated for a packet, and a connection costs two descriptors.

mod flow;
pub mod pipes;
mod pump;
mod sealed;
mod slots;
mod wheel;
mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use policy::messages::forwarder::SocketKind;

use crate::flows::{Door, lock};
use crate::shared::Shared;
use worker::Worker;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection to the upstream.
    pub connect: Duration,
    /// For the first word of an upstream that answers at once if it lives.
    pub greeting: Duration,
    /// For the rest of its answer: it may be waiting for a destination.
    pub answer: Duration,
    /// Without a byte in either direction. RFC 5382 section 5: not below 2 hours and 4 minutes.
    pub idle: Duration,
    /// The same, after one side has ended.
    pub half_closed: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        let seconds = Duration::from_secs;
        Patience {
            connect: seconds(5),
            greeting: seconds(5),
            answer: seconds(30),
            idle: seconds(2 * 3600 + 240),
            half_closed: seconds(600),
        }
    }
}

/// How the threads that carry are reached.
pub struct Workers(Vec<Arc<Desk>>);

/// What one worker is told by others.
pub struct Desk {
    /// Tokens of flows that shall end.
    pub door: Arc<Door>,
    listeners: Mutex<Option<Vec<Listener>>>,
}

/// What the worker accepts from.
pub struct Listener {
    pub kind: SocketKind,
    pub fd: OwnedFd,
}

impl Workers {
    /// `thread` starts one that must never end.
    pub fn start(
        count: usize,
        shared: &Arc<Shared>,
        patience: Patience,
        thread: impl Fn(String, Box<dyn FnOnce() -> io::Result<()> + Send>) -> io::Result<()>,
    ) -> io::Result<Workers> {
        let mut desks = vec![];
        for number in 0..count {
            let desk = Arc::new(Desk { door: Arc::new(Door::new()?), listeners: Mutex::new(None) });
            let mut worker = Worker::new(shared.clone(), desk.clone(), patience)?;
            thread(format!("tcp-{number}"), Box::new(move || worker.run()))?;
            desks.push(desk);
        }
        Ok(Workers(desks))
    }

    pub fn doors(&self) -> impl Iterator<Item = Arc<Door>> {
        self.0.iter().map(|desk| desk.door.clone())
    }

    /// The worker of this number listens on these instead of what it had.
    pub fn listen(&self, worker: usize, listeners: Vec<Listener>) {
        if let Some(desk) = self.0.get(worker) {
            *lock(&desk.listeners) = Some(listeners);
            desk.door.wake();
        }
    }
}
