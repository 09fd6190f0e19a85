//! The thread: waits for datagrams, tunnels and relays, and gives each its turn.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

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

/// How other threads reach the worker. It ends when every handle is gone.
#[derive(Clone)]
pub struct Handle {
    pub door: Arc<Door>,
    pub counters: Arc<Counters>,
    streams: Arc<Mutex<Vec<Handed>>>,
    _alive: Arc<Alive>,
}

struct Handed {
    socket: OwnedFd,
    mapped: Arc<Mapped>,
    client: SocketAddr,
    asked: SocketAddr,
}

/// Rings when the last handle goes.
struct Alive(Arc<Door>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.ring(token(Kind::Own, STOP));
    }
}

struct Worker {
    desk: Desk,
    sockets: [OwnedFd; 2],
    streams: Arc<Mutex<Vec<Handed>>>,
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
const STOP: u64 = 3;
/// Numbers up to here are the worker's own.
const FIRST: u64 = 16;
const TICK: Duration = Duration::from_millis(250);
const BATCH: usize = 64;
const HANDED_MAX: usize = 256;

pub fn start(sockets: Sockets, ground: Arc<dyn Ground>, name: &str) -> io::Result<Handle> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let door = Arc::new(Door::new()?);
    let watch = |socket: &dyn std::os::fd::AsFd, number| {
        epoll::add(&epoll, socket.as_fd(), EventData::new_u64(token(Kind::Own, number)), EventFlags::IN)
    };
    watch(&sockets.datagrams4, DATAGRAMS4)?;
    watch(&sockets.datagrams6, DATAGRAMS6)?;
    watch(&*door, DOOR)?;
    let counters = Arc::new(Counters::default());
    let streams: Arc<Mutex<Vec<Handed>>> = Arc::default();
    let answers = Answers::new(sockets.answers4, sockets.answers6);
    let worker = Worker {
        desk: Desk { ground, door: door.clone(), counters: counters.clone(), answers, epoll, next: FIRST },
        sockets: [sockets.datagrams4, sockets.datagrams6],
        streams: streams.clone(),
        associations: Associations::default(),
        resolver: Resolver::default(),
        buffer: vec![0; 65_536],
        control: receive::control(),
        generation: None,
    };
    thread::Builder::new().name(name.into()).spawn(move || worker.run())?;
    Ok(Handle { _alive: Arc::new(Alive(door.clone())), door, counters, streams })
}

impl Handle {
    /// A client's connection to port 53 of `asked`, whose mapping answers by the stub. It needs no flow of its own.
    pub fn answer_stream(&self, socket: OwnedFd, mapped: Arc<Mapped>, client: SocketAddr, asked: SocketAddr) {
        let mut streams = lock(&self.streams);
        if streams.len() < HANDED_MAX {
            streams.push(Handed { socket, mapped, client, asked });
            drop(streams);
            self.door.wake();
        }
    }
}

impl Worker {
    fn run(mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        let timeout = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as i64 };
        let mut ticked = Instant::now();
        loop {
            events.clear();
            if let Err(error) = epoll::wait(&self.desk.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))
                && error != rustix::io::Errno::INTR
            {
                tracing::error!(error = %io::Error::from(error), "no events: datagrams are not carried any more");
                return;
            }
            let now = Instant::now();
            for event in &events {
                if !self.event(told(event.data.u64()), now) {
                    return;
                }
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

    /// False: it is over.
    fn event(&mut self, (kind, number): (Kind, u64), now: Instant) -> bool {
        match kind {
            Kind::Own if number == DOOR => return self.door(now),
            Kind::Own => self.datagrams(usize::from(number == DATAGRAMS6), now),
            Kind::Control => self.associations.control(&mut self.desk, number, now),
            Kind::Relay => self.associations.relay(&mut self.desk, number, &mut self.buffer, now),
            Kind::Lookup => self.resolver.turn(&mut self.desk, number, now),
            Kind::Stream => self.resolver.stream(&mut self.desk, number, now),
            Kind::Asker => {}
        }
        true
    }

    /// What other threads said: flows that shall end, and streams.
    fn door(&mut self, now: Instant) -> bool {
        for token in self.desk.door.take() {
            match told(token) {
                (Kind::Own, STOP) => return false,
                (Kind::Asker, number) => self.resolver.end_asker(&self.desk, number),
                (_, number) => self.associations.end(&self.desk, number),
            }
        }
        let streams = std::mem::take(&mut *lock(&self.streams));
        for Handed { socket, mapped, client, asked } in streams {
            self.resolver.take_stream(&mut self.desk, socket, mapped, client, asked, now);
        }
        true
    }

    fn datagrams(&mut self, which: usize, now: Instant) {
        for _ in 0..BATCH {
            let mut buffer = std::mem::take(&mut self.buffer);
            let received = receive::receive(&self.sockets[which], &mut buffer, &mut self.control);
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
