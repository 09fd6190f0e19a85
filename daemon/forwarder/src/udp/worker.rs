//! The thread: waits for datagrams, tunnels and relays, and gives each its turn.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use policy::messages::forwarder::SocketKind;
use policy::plan::proxy::Dns;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::answers::Answers;
use super::associations::Associations;
use super::receive::{self, Arrived};
use super::{Counters, Desk, Ground, Kind, token, told};
use crate::config::Mapped;
use crate::dns::Resolver;
use crate::flows::{Door, lock};

/// Those of one worker that are about datagrams, as the applier hands them over.
pub struct Sockets {
    pub datagrams4: OwnedFd,
    pub datagrams6: OwnedFd,
    pub answers4: OwnedFd,
    pub answers6: OwnedFd,
}

impl Sockets {
    /// None: one is missing.
    pub fn of(sockets: Vec<(SocketKind, OwnedFd)>) -> Option<Sockets> {
        let (mut datagrams4, mut datagrams6, mut answers4, mut answers6) = (None, None, None, None);
        for (kind, socket) in sockets {
            match kind {
                SocketKind::Datagrams4 => datagrams4 = Some(socket),
                SocketKind::Datagrams6 => datagrams6 = Some(socket),
                SocketKind::Answers4 => answers4 = Some(socket),
                SocketKind::Answers6 => answers6 = Some(socket),
                _ => {}
            }
        }
        Some(Sockets { datagrams4: datagrams4?, datagrams6: datagrams6?, answers4: answers4?, answers6: answers6? })
    }
}

/// How other threads reach the worker.
#[derive(Clone)]
pub struct Handle {
    pub door: Arc<Door>,
    pub counters: Arc<Counters>,
    handed: Arc<Mutex<Handed>>,
}

/// What other threads hand over.
#[derive(Default)]
struct Handed {
    sockets: Option<Sockets>,
    streams: Vec<HandedStream>,
}

struct HandedStream {
    socket: OwnedFd,
    mapped: Arc<Mapped>,
    client: SocketAddr,
    asked: SocketAddr,
}

pub struct Worker {
    desk: Desk,
    datagrams: Option<[OwnedFd; 2]>,
    handed: Arc<Mutex<Handed>>,
    associations: Associations,
    resolver: Resolver,
    /// One datagram; the largest there is.
    buffer: Vec<u8>,
    control: Vec<u8>,
    generation: Option<u64>,
}

const DATAGRAMS4: u64 = 0;
const DATAGRAMS6: u64 = 1;
const DOOR: u64 = 2;
/// Numbers up to here are the worker's own.
const FIRST: u64 = 16;
const TICK: Duration = Duration::from_millis(250);
const BATCH: usize = 64;
const HANDED_MAX: usize = 256;

/// A worker that has no sockets yet.
pub fn worker(ground: Arc<dyn Ground>) -> io::Result<(Handle, Worker)> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let door = Arc::new(Door::new()?);
    epoll::add(&epoll, &*door, EventData::new_u64(token(Kind::Own, DOOR)), EventFlags::IN)?;
    let counters = Arc::new(Counters::default());
    let handed: Arc<Mutex<Handed>> = Arc::default();
    let worker = Worker {
        desk: Desk { ground, door: door.clone(), counters: counters.clone(), answers: None, epoll, next: FIRST },
        datagrams: None,
        handed: handed.clone(),
        associations: Associations::default(),
        resolver: Resolver::default(),
        buffer: vec![0; 65_536],
        control: receive::control(),
        generation: None,
    };
    Ok((Handle { door, counters, handed }, worker))
}

impl Handle {
    /// A client's connection to port 53 of `asked`, whose mapping answers by the stub. It needs no flow of its own.
    pub fn answer_stream(&self, socket: OwnedFd, mapped: Arc<Mapped>, client: SocketAddr, asked: SocketAddr) {
        let mut handed = lock(&self.handed);
        if handed.streams.len() < HANDED_MAX {
            handed.streams.push(HandedStream { socket, mapped, client, asked });
            drop(handed);
            self.door.wake();
        }
    }

    /// The worker carries what arrives on these, instead of what it had. What stands goes on.
    pub fn listen(&self, sockets: Sockets) {
        lock(&self.handed).sockets = Some(sockets);
        self.door.wake();
    }
}

impl Worker {
    /// Ends only when it can no more.
    pub fn run(mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        let timeout = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as i64 };
        let mut ticked = Instant::now();
        loop {
            events.clear();
            if let Err(error) = epoll::wait(&self.desk.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))
                && error != rustix::io::Errno::INTR
            {
                return Err(error.into());
            }
            let now = Instant::now();
            for event in &events {
                self.event(told(event.data.u64()), now);
            }
            let generation = self.desk.ground.carried().map(|carried| carried.generation);
            if generation != self.generation {
                self.generation = generation;
                self.resolver.become_(&mut self.desk, now);
            }
            if now.duration_since(ticked) >= TICK {
                ticked = now;
                self.associations.tick(&mut self.desk, now);
                self.resolver.tick(&mut self.desk, now);
            }
        }
    }

    fn event(&mut self, (kind, number): (Kind, u64), now: Instant) {
        match kind {
            Kind::Own if number == DOOR => self.door(now),
            Kind::Own => self.datagrams(usize::from(number == DATAGRAMS6), now),
            Kind::Control => self.associations.control(&mut self.desk, number, now),
            Kind::Relay => self.associations.relay(&mut self.desk, number, &mut self.buffer, now),
            Kind::Lookup => self.resolver.turn(&mut self.desk, number, now),
            Kind::Stream => self.resolver.stream(&mut self.desk, number, now),
            Kind::Asker => {}
        }
    }

    /// What other threads said: flows that shall end, sockets, and streams.
    fn door(&mut self, now: Instant) {
        for token in self.desk.door.take() {
            match told(token) {
                (Kind::Asker, number) => self.resolver.end_asker(&self.desk, number),
                (_, number) => self.associations.end(&self.desk, number),
            }
        }
        let Handed { sockets, streams } = std::mem::take(&mut *lock(&self.handed));
        if let Some(sockets) = sockets {
            self.take_sockets(sockets);
        }
        for HandedStream { socket, mapped, client, asked } in streams {
            self.resolver.take_stream(&mut self.desk, socket, mapped, client, asked, now);
        }
    }

    fn take_sockets(&mut self, sockets: Sockets) {
        if let Some(before) = self.datagrams.take() {
            // The applier keeps them open, and an event of theirs would be taken for one of the new.
            before.iter().for_each(|socket| _ = epoll::delete(&self.desk.epoll, socket));
        }
        let datagrams = [sockets.datagrams4, sockets.datagrams6];
        for (socket, number) in datagrams.iter().zip([DATAGRAMS4, DATAGRAMS6]) {
            let data = EventData::new_u64(token(Kind::Own, number));
            if let Err(error) = epoll::add(&self.desk.epoll, socket, data, EventFlags::IN) {
                tracing::warn!(%error, "datagrams cannot be waited for");
            }
        }
        self.datagrams = Some(datagrams);
        self.desk.answers = Some(Answers::new(sockets.answers4, sockets.answers6));
    }

    fn datagrams(&mut self, which: usize, now: Instant) {
        for _ in 0..BATCH {
            let Some(sockets) = &self.datagrams else { return };
            let mut buffer = std::mem::take(&mut self.buffer);
            let received = receive::receive(&sockets[which], &mut buffer, &mut self.control);
            match &received {
                Ok(Some(arrived)) => self.datagram(arrived, buffer.get(..arrived.length).unwrap_or_default(), now),
                Ok(None) => _ = self.desk.counters.nobodys.fetch_add(1, Relaxed),
                Err(_) => {}
            }
            self.buffer = buffer;
            if received.is_err() {
                return;
            }
        }
    }

    fn datagram(&mut self, arrived: &Arrived, payload: &[u8], now: Instant) {
        let carried = self.desk.ground.carried();
        let Some(mapped) = carried.as_ref().and_then(|carried| carried.mapping(arrived.id, arrived.client.ip())) else {
            self.desk.counters.nobodys.fetch_add(1, Relaxed);
            return;
        };
        let mapping = &mapped.mapping;
        match (arrived.asked.port(), &mapping.dns) {
            (53, Dns::Proxied | Dns::DohStub { .. }) => {
                self.resolver.datagram(&mut self.desk, mapped, arrived.client, arrived.asked, payload, now);
            }
            (853, Dns::Proxied) if mapping.udp => self.associations.carry(&mut self.desk, mapped, arrived, payload, now),
            (53 | 853, _) => _ = self.desk.counters.not_carried.fetch_add(1, Relaxed),
            _ if mapping.udp => self.associations.carry(&mut self.desk, mapped, arrived, payload, now),
            _ => _ = self.desk.counters.not_carried.fetch_add(1, Relaxed),
        }
    }
}
