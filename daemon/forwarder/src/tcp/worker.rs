//! One thread that carries: events in, each flow a turn, deadlines.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::Mark};
use policy::compile::proxy::{MAPPING, MAPPING_SHIFT};
use policy::messages::forwarder::SocketKind;
use policy::name::Name;
use policy::plan::proxy::Dns;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, acceptfrom_with, connect, getsockname, socket_with, sockopt};
use tracing::{debug, warn};

use super::flow::{Begun, Far, Flow, Outcome, Phase, Reached, is_our_want};
use super::pump::{Lent, Side};
use super::sealed::Sealed;
use super::slots::{Key, Slots, is_upstream};
use super::wheel::Wheel;
use super::{Desk, Listener, Patience};
use crate::config::{Carried, Mapped, Route};
use crate::dial::tls::Tls;
use crate::dial::{Handshake, Refused, Target};
use crate::flows::{Begin, Entry, lock};
use crate::shared::Shared;

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

/// What a client's connection is to us.
enum Arrived {
    Flow(Begun),
    /// DNS, for the stub.
    Questions {
        mapped: Arc<Mapped>,
        destination: SocketAddr,
    },
}

/// Tokens that are no flow's: the door's, and below it those of the listeners.
const DOOR: u64 = u64::MAX;
const LISTENERS: u64 = u64::MAX - 16;
const SOCKET: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);
/// Accepted before the flows have their turn again.
const ACCEPT: usize = 64;
/// Upstreams that are tried for one connection, and for how long.
const TRIES: usize = 4;
const TRY_FOR: Duration = Duration::from_secs(15);

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
            for event in &events {
                self.event(event);
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

    fn event(&mut self, event: &Event) {
        let token = event.data.u64();
        if token == DOOR {
            return self.told();
        }
        if token >= LISTENERS {
            return self.accept((token - LISTENERS) as usize);
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
                self.accept(place);
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

    fn accept(&mut self, place: usize) {
        for _ in 0..ACCEPT {
            let Some(listener) = self.listeners.get(place) else { return };
            match acceptfrom_with(&listener.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((fd, peer)) => {
                    let kind = listener.kind;
                    if let Some(client) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) {
                        self.begin(fd, client, kind);
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE) => {
                    // The limit of flows should have come first. A connection that waits would wake us for ever.
                    self.spare = None;
                    if let Ok((fd, _)) = acceptfrom_with(&listener.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                        reset(&fd);
                    }
                    self.spare = self.epoll.try_clone().ok();
                    return;
                }
                // Of one connection that did not come about.
                Err(_) => {}
            }
        }
    }

    /// A client is there. Whoever cannot be carried is told at once, by a reset.
    fn begin(&mut self, fd: OwnedFd, client: SocketAddr, kind: SocketKind) {
        let key = self.flows.next();
        let begun = match self.begun(&fd, client, kind, key) {
            None => return reset(&fd),
            Some(Arrived::Questions { mapped, destination }) => return self.questions(fd, mapped, client, destination),
            Some(Arrived::Flow(begun)) => begun,
        };
        let due = self.wheel.after(self.patience.connect);
        let watched = epoll::add(&self.epoll, &fd, EventData::new_u64(key.token()), SOCKET);
        self.flows.insert(Flow::new(Side::new(fd), begun, due));
        self.wheel.insert(key, due);
        if watched.is_err() {
            self.end(key, How::Broken);
        }
    }

    fn begun(&mut self, fd: &OwnedFd, client: SocketAddr, kind: SocketKind, key: Key) -> Option<Arrived> {
        let carried = self.shared.carried()?;
        let mark = getsockopt(fd, Mark).ok()?;
        let id = ((mark & MAPPING) >> MAPPING_SHIFT) as u16;
        let Some(mapped) = carried.mapping(id, client.ip().to_canonical()) else {
            debug!(%client, id, "nobody's client");
            return None;
        };
        let destination = destination(fd, kind)?;
        if destination.port() == 53 && matches!(mapped.mapping.dns, Dns::DohStub { .. }) {
            return Some(Arrived::Questions { mapped: mapped.clone(), destination });
        }
        let chosen = lock(&self.shared.board).choose(&mapped.mapping.via);
        let route = match chosen {
            Ok(name) => carried.route(&name)?.clone(),
            Err(why) => {
                debug!(%client, mapping = %mapped.name, why, "nobody carries it");
                self.shared.flows.tally(&mapped.name).failed.fetch_add(1, Relaxed);
                return None;
            }
        };
        let door = &self.desk.door;
        let entry =
            self.shared.flows.begin(Begin { mapped, route: &route, protocol: "tcp", client, destination, door, token: key.token() })?;
        let mut begun = Begun { entry, tried: vec![], began: Instant::now(), reached: None };
        begun.reached = self.reach(&carried, &begun.entry, &mut begun.tried, Some(route), key);
        if begun.reached.is_none() {
            self.shared.flows.end(&begun.entry);
            return None;
        }
        Some(Arrived::Flow(begun))
    }

    /// The stub answers them, whomever they were for.
    fn questions(&self, fd: OwnedFd, mapped: Arc<Mapped>, client: SocketAddr, asked: SocketAddr) {
        let handles = lock(&self.shared.datagrams);
        // Any worker will do, and all shall.
        match handles.get(usize::from(client.port()) % handles.len().max(1)) {
            Some(handle) => handle.answer_stream(fd, mapped, client, asked),
            None => reset(&fd),
        }
    }

    /// Begins a connection to `first`, or to whoever else may carry this flow.
    fn reach(&self, carried: &Carried, entry: &Entry, tried: &mut Vec<Name>, first: Option<Arc<Route>>, key: Key) -> Option<Reached> {
        let mut next = first;
        while let Some(route) = next.or_else(|| self.next_route(carried, entry, tried)) {
            entry.take_route(&route);
            match self.dial(&route, entry.destination, key) {
                Ok(reached) => return Some(reached),
                Err(refused) => {
                    debug!(upstream = %route.name, why = refused.why, "not reached");
                    if !refused.upstream_at_fault {
                        break;
                    }
                    self.shared.failed(&route.name, &refused.why);
                    tried.push(route.name.clone());
                }
            }
            next = None;
        }
        entry.tally.failed.fetch_add(1, Relaxed);
        None
    }

    /// Another member of the group.
    fn next_route(&self, carried: &Carried, entry: &Entry, tried: &[Name]) -> Option<Arc<Route>> {
        if tried.len() >= TRIES {
            return None;
        }
        let via = &carried.proxy.mappings.get(&entry.mapped.name)?.via;
        let chosen = lock(&self.shared.board).choose(via).ok()?;
        if tried.contains(&chosen) { None } else { carried.route(&chosen).cloned() }
    }

    fn dial(&self, route: &Route, destination: SocketAddr, key: Key) -> Result<Reached, Refused> {
        let upstream = &route.upstream;
        let pipelined = lock(&self.shared.board).pipelined(&route.name);
        let handshake = Box::new(Handshake::connect(upstream, route.password(), &Target::Address(destination), pipelined)?);
        let tls = Tls::client(upstream)?;
        let (side, connected) = dialled(SocketAddr::new(upstream.address, upstream.port))?;
        epoll::add(&self.epoll, &side.fd, EventData::new_u64(key.upstream_token()), SOCKET)
            .map_err(|error| Refused::destination(told(error)))?;
        let side = Side { writable: connected, ..side };
        let far = match tls {
            None => Far::Plain(side),
            Some(tls) => Far::Sealed(Box::new(Sealed::new(side, tls))),
        };
        Ok(Reached { far, handshake })
    }

    /// This upstream does not carry this flow.
    fn refused(&mut self, key: Key, refused: Refused) {
        let Some(flow) = self.flows.get(key) else { return };
        let route = flow.entry.route();
        debug!(upstream = %route.name, client = %flow.entry.client, why = refused.why, "no tunnel");
        // The socket to it is closed, and forgotten by epoll, before another takes its place.
        flow.far = None;
        flow.forget(&mut self.lent);
        if !refused.upstream_at_fault {
            match flow.phase {
                Phase::Asking { heard: true, .. } => self.shared.succeeded(&route.name),
                _ => self.shared.doubt(&route.name),
            }
            flow.entry.tally.failed.fetch_add(1, Relaxed);
            return self.end(key, How::Broken);
        }
        self.shared.failed(&route.name, &refused.why);
        let Some(flow) = self.flows.get(key) else { return };
        flow.tried.push(route.name.clone());
        let (entry, mut tried) = (flow.entry.clone(), std::mem::take(&mut flow.tried));
        let soon = flow.began.elapsed() < TRY_FOR;
        let carried = self.shared.carried().filter(|_| soon);
        let reached = carried.and_then(|carried| self.reach(&carried, &entry, &mut tried, None, key));
        let Some(flow) = self.flows.get(key) else { return };
        match reached {
            Some(Reached { far, handshake }) => {
                flow.far = Some(far);
                flow.phase = Phase::Connecting(handshake);
                flow.tried = tried;
                flow.due = self.wheel.after(self.patience.connect);
                if flow.due < flow.comes {
                    flow.comes = self.wheel.insert(key, flow.due);
                }
            }
            None => self.end(key, How::Broken),
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

/// Where the client wanted to go.
fn destination(fd: &OwnedFd, kind: SocketKind) -> Option<SocketAddr> {
    let address = match kind {
        SocketKind::Redirected4 => sockopt::ip_original_dst(fd).ok()?.into(),
        SocketKind::Redirected6 => sockopt::ipv6_original_dst(fd).ok()?.into(),
        _ => SocketAddr::try_from(getsockname(fd).ok()?).ok()?,
    };
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// A socket on its way to an upstream, and whether it is there already.
///
/// It is bound to nothing, so the kernel chooses a port for this pair of addresses alone, as IP_BIND_ADDRESS_NO_PORT would make it.
fn dialled(to: SocketAddr) -> Result<(Side, bool), Refused> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fail = |error| if is_our_want(error) { Refused::destination(told(error)) } else { Refused::upstream(told(error)) };
    let fd = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None).map_err(fail)?;
    sockopt::set_tcp_nodelay(&fd, true).map_err(fail)?;
    match connect(&fd, &to) {
        Ok(()) => Ok((Side::new(fd), true)),
        Err(Errno::INPROGRESS) => Ok((Side::new(fd), false)),
        Err(error) => Err(fail(error)),
    }
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
