//! One thread that carries: events in, each flow a turn, deadlines.

mod arrivals;
mod upstreams;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt;
use tracing::warn;

use super::flow::{Flow, Outcome, Phase};
use super::pump::Lent;
use super::slots::{Key, Slots, is_upstream};
use super::wheel::Wheel;
use super::{Desk, Listener, Patience};
use crate::dial::Refused;
use crate::flows::lock;
use crate::shared::Shared;
use arrivals::ACCEPT;

pub struct Worker {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    patience: Patience,
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    flows: Slots<Flow>,
    lent: Lent,
    wheel: Wheel,
    /// Flows that have more to do and let the others go first.
    again: Vec<Key>,
    due: Vec<Key>,
    /// Given up for a moment when there is no other descriptor, so that a connection can be taken and refused.
    spare: Option<OwnedFd>,
}

/// Tokens that are no flow's: the door's, and below it those of the listeners.
const DOOR: u64 = u64::MAX;
const LISTENERS: u64 = u64::MAX - 16;
const SOCKET: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

impl Worker {
    pub fn new(shared: Arc<Shared>, desk: Arc<Desk>, patience: Patience) -> io::Result<Worker> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &desk.door, EventData::new_u64(DOOR), EventFlags::IN)?;
        Ok(Worker {
            spare: Some(epoll.try_clone()?),
            shared,
            desk,
            patience,
            epoll,
            listeners: vec![],
            flows: Slots::new(),
            lent: Lent::new(),
            wheel: Wheel::new(Instant::now()),
            again: vec![],
            due: vec![],
        })
    }

    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        loop {
            let wait = if self.again.is_empty() { self.wheel.next(Instant::now()) } else { Duration::ZERO };
            let wait = rustix::event::Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.wheel.due(Instant::now(), &mut self.due);
            // With nothing else to do, a second accept would only hear that nobody is there.
            let accept = if events.len() == 1 { 1 } else { ACCEPT };
            for event in &events {
                self.event(event, accept);
            }
            for key in std::mem::take(&mut self.again) {
                if let Some(flow) = self.flows.get(key) {
                    flow.queued = false;
                    self.advance(key);
                }
            }
            while let Some(key) = self.due.pop() {
                self.late(key);
            }
        }
    }

    fn event(&mut self, event: &Event, accept: usize) {
        let token = event.data.u64();
        if token == DOOR {
            return self.told();
        }
        if token >= LISTENERS {
            return self.accept((token - LISTENERS) as usize, accept);
        }
        let key = Key::of(token);
        let flags = event.flags;
        let Some(flow) = self.flows.get(key) else { return };
        let connecting = matches!(flow.phase, Phase::Connecting(_));
        let side = match (is_upstream(token), &mut flow.far) {
            (false, _) => &mut flow.client,
            (true, Some(far)) => far.side(),
            (true, None) => return,
        };
        side.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP);
        side.writable |= flags.contains(EventFlags::OUT);
        side.ending |= flags.intersects(EventFlags::RDHUP | EventFlags::HUP);
        if flags.contains(EventFlags::ERR) || (connecting && is_upstream(token) && flags.contains(EventFlags::HUP)) {
            let error = sockopt::socket_error(&side.fd).ok().and_then(Result::err);
            let why = error.map_or_else(|| "the connection was closed".to_owned(), told);
            return match flow.phase {
                Phase::Carrying => {
                    if is_upstream(token) {
                        // The destination's doing, or the upstream has died.
                        self.shared.doubt(&flow.entry.route().name);
                    }
                    self.end(key, How::Broken);
                }
                // The client does not want it any more.
                _ if !is_upstream(token) => self.end(key, How::Broken),
                _ => self.refused(key, Refused::upstream(why)),
            };
        }
        self.advance(key);
    }

    fn advance(&mut self, key: Key) {
        let Some(flow) = self.flows.get(key) else { return };
        match flow.advance(&mut self.lent) {
            Outcome::Waiting => {}
            Outcome::Heard | Outcome::Carried => flow.due = self.wheel.after(self.patience.with(flow)),
            Outcome::Again => {
                flow.due = self.wheel.after(self.patience.idle);
                if !flow.queued {
                    flow.queued = true;
                    self.again.push(key);
                }
            }
            Outcome::Ended => return self.end(key, How::InOrder),
            Outcome::Broken => return self.end(key, How::Broken),
            Outcome::Refused(refused) => return self.refused(key, refused),
        }
        if flow.due < flow.comes {
            flow.comes = self.wheel.insert(key, flow.due);
        }
        self.praise(key);
    }

    /// Tells the board once that the upstream carries.
    fn praise(&mut self, key: Key) {
        if let Some(flow) = self.flows.get(key).filter(|flow| !flow.praised && matches!(flow.phase, Phase::Carrying)) {
            flow.praised = true;
            self.shared.succeeded(&flow.entry.route().name);
        }
    }

    /// A flow's entry in the wheel came up.
    fn late(&mut self, key: Key) {
        let Some(flow) = self.flows.get(key) else { return };
        if flow.comes > self.wheel.now() {
            // A later entry counts.
            return;
        }
        if flow.due > self.wheel.now() {
            if matches!(flow.phase, Phase::Carrying) && !flow.kept_alive {
                flow.kept_alive = true;
                keep_alive(&flow.client.fd);
                flow.far.iter_mut().for_each(|far| keep_alive(&far.side().fd));
            }
            flow.comes = self.wheel.insert(key, flow.due);
            return;
        }
        if matches!(flow.phase, Phase::Carrying) {
            return self.end(key, How::Broken);
        }
        let refused = flow.late();
        // If another upstream is tried, there is a new deadline.
        flow.comes = self.wheel.insert(key, self.wheel.after(self.patience.connect));
        self.refused(key, refused);
    }

    fn told(&mut self) {
        for token in self.desk.door.take() {
            self.end(Key::of(token), How::Broken);
        }
        let listeners = lock(&self.desk.listeners).take();
        if let Some(listeners) = listeners {
            // Whoever waits at the old ones is taken first.
            for place in 0..self.listeners.len() {
                self.accept(place, ACCEPT);
            }
            for old in std::mem::take(&mut self.listeners) {
                // The applier has the same socket open, so that closing ours is not the end of its watch.
                _ = epoll::delete(&self.epoll, &old.fd);
            }
            self.listeners = listeners;
            for (place, listener) in self.listeners.iter().enumerate() {
                // Accepted sockets inherit it, which is one call less for each.
                let prepared = sockopt::set_tcp_nodelay(&listener.fd, true)
                    .and_then(|()| epoll::add(&self.epoll, &listener.fd, EventData::new_u64(LISTENERS + place as u64), EventFlags::IN));
                if let Err(error) = prepared {
                    warn!(%error, kind = ?listener.kind, "a listener cannot be watched");
                }
            }
        }
    }

    fn end(&mut self, key: Key, how: How) {
        let Some(mut flow) = self.flows.remove(key) else { return };
        flow.forget(&mut self.lent);
        self.shared.flows.end(&flow.entry);
        if how == How::Broken {
            reset(&flow.client.fd);
            flow.far.iter_mut().for_each(|far| reset(&far.side().fd));
        }
    }
}

impl Patience {
    /// How long this flow may be silent from now on.
    fn with(&self, flow: &Flow) -> Duration {
        match flow.phase {
            Phase::Connecting(_) => self.connect,
            Phase::Asking { heard: false, .. } if flow.answers_at_once() => self.greeting,
            Phase::Asking { .. } => self.answer,
            Phase::Carrying if flow.is_half_closed() => self.half_closed,
            Phase::Carrying => self.idle,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Both sides have said and been told their ends.
    InOrder,
    /// Both sides are to see that something was lost.
    Broken,
}

/// In the words of the system, without the number.
fn told(error: Errno) -> String {
    let text = io::Error::from(error).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// What is closed after this is closed by a reset.
fn reset(fd: impl AsFd) {
    _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
}

/// A peer that is gone without a word is found out within four minutes.
fn keep_alive(fd: impl AsFd) {
    let fd = fd.as_fd();
    _ = sockopt::set_socket_keepalive(fd, true);
    _ = sockopt::set_tcp_keepidle(fd, Duration::from_secs(120));
    _ = sockopt::set_tcp_keepintvl(fd, Duration::from_secs(30));
    _ = sockopt::set_tcp_keepcnt(fd, 4);
}
