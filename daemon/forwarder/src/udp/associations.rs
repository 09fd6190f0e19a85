//! A client's port and the association with an upstream that carries what it sends.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use policy::name::Name;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with};

use super::receive::Arrived;
use super::tunnel::{Broken, Tunnel};
use super::{Desk, Kind, socks, token};
use crate::config::{Mapped, Route};
use crate::flows::{Begin, Entry};

#[derive(Default)]
pub struct Associations {
    by_number: BTreeMap<u64, Association>,
    by_client: BTreeMap<SocketAddr, u64>,
    /// Upstreams that would not associate, until when they are not asked again.
    spared: BTreeMap<Name, Instant>,
}

struct Association {
    mapped: Arc<Mapped>,
    route: Arc<Route>,
    entry: Arc<Entry>,
    client: SocketAddr,
    /// Open as long as the association is (RFC 1928 section 6).
    control: Tunnel,
    /// Connected to the relay, so that the kernel takes nothing from anybody else.
    relay: Option<OwnedFd>,
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Whom the client asked, and when last. Nobody else's answers reach it.
    asked: BTreeMap<SocketAddr, Instant>,
    began: Instant,
    last: Instant,
    tries: u8,
}

pub const ASSOCIATIONS_MAX: usize = 1_000;
pub const PER_CLIENT_MAX: usize = 128;
/// A client that is at its limit loses the association that has been quiet longest, if that is at least so long.
const QUIET: Duration = Duration::from_secs(2);
const WAITING_MAX: usize = 8;
const WAITING_BYTES_MAX: usize = 16 << 10;
const ASKED_MAX: usize = 256;
const OPENING_MAX: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(60);
/// For those that ask one question and get one answer: DNS and NTP.
const IDLE_SHORT: Duration = Duration::from_secs(10);
const SPARED: Duration = Duration::from_secs(5);
/// Datagrams taken from one relay before others have their turn.
const BATCH: usize = 64;

impl Associations {
    pub fn carry(&mut self, desk: &mut Desk, mapped: &Arc<Mapped>, arrived: &Arrived, payload: &[u8], now: Instant) {
        let standing = self.by_client.get(&arrived.client).copied();
        let standing = standing.filter(|number| {
            let same = self.by_number.get(number).is_some_and(|association| association.mapped.name == mapped.name);
            if !same {
                self.end(desk, *number);
            }
            same
        });
        let Some(number) = standing.or_else(|| self.begin(desk, mapped, arrived, now)) else { return };
        let Some(association) = self.by_number.get_mut(&number) else { return };
        association.last = now;
        association.asks(arrived.asked, now);
        match &association.relay {
            None => association.wait(desk, arrived.asked, payload),
            Some(_) if association.forward(desk, arrived.asked, payload) => {}
            Some(_) => self.end(desk, number),
        }
    }

    fn begin(&mut self, desk: &mut Desk, mapped: &Arc<Mapped>, arrived: &Arrived, now: Instant) -> Option<u64> {
        if !self.make_room(desk, arrived.client, now) {
            desk.counters.limited.fetch_add(1, Relaxed);
            return None;
        }
        let Some(route) = desk.route(&mapped.mapping.via) else {
            desk.counters.no_upstream.fetch_add(1, Relaxed);
            return None;
        };
        if !route.upstream.udp || self.spared.get(&route.name).is_some_and(|until| now < *until) {
            desk.counters.no_udp.fetch_add(1, Relaxed);
            return None;
        }
        let control = self.dial(desk, &route, now)?;
        let number = desk.number();
        let token = token(Kind::Control, number);
        let begin =
            Begin { mapped, route: &route, protocol: "udp", client: arrived.client, destination: arrived.asked, door: &desk.door, token };
        let Some(entry) = desk.ground.flows().begin(begin) else {
            desk.counters.limited.fetch_add(1, Relaxed);
            return None;
        };
        if control.watch(&desk.epoll, token).is_err() {
            desk.ground.flows().end(&entry);
            return None;
        }
        let association = Association {
            mapped: mapped.clone(),
            route,
            entry,
            client: arrived.client,
            control,
            relay: None,
            waiting: VecDeque::new(),
            asked: BTreeMap::new(),
            began: now,
            last: now,
            tries: 0,
        };
        self.by_number.insert(number, association);
        self.by_client.insert(arrived.client, number);
        Some(number)
    }

    fn dial(&mut self, desk: &Desk, route: &Arc<Route>, now: Instant) -> Option<Tunnel> {
        match Tunnel::associate(route) {
            Ok(control) => Some(control),
            Err(broken) => {
                desk.counters.no_upstream.fetch_add(1, Relaxed);
                desk.blame(route, &broken);
                self.spared.insert(route.name.clone(), now + SPARED);
                None
            }
        }
    }

    fn make_room(&mut self, desk: &Desk, client: SocketAddr, now: Instant) -> bool {
        let first = SocketAddr::new(client.ip(), 0);
        let last = SocketAddr::new(client.ip(), u16::MAX);
        let its: Vec<u64> = self.by_client.range(first..=last).map(|(_, number)| *number).collect();
        if its.len() >= PER_CLIENT_MAX {
            let quiet = |number: &&u64| self.by_number.get(number).map(|association| association.last);
            let Some(quietest) = its.iter().min_by_key(quiet).copied() else { return false };
            if self.by_number.get(&quietest).is_some_and(|association| now.duration_since(association.last) < QUIET) {
                return false;
            }
            self.end(desk, quietest);
        }
        self.by_number.len() < ASSOCIATIONS_MAX
    }

    /// The control connection has something to say.
    pub fn control(&mut self, desk: &mut Desk, number: u64, now: Instant) {
        let Some(association) = self.by_number.get_mut(&number) else { return };
        let mut said = Vec::new();
        let turned = association.control.turn(&desk.epoll, token(Kind::Control, number), &mut said);
        // A server has nothing to say once it has associated, so what it says is not kept.
        match (turned, association.control.relay()) {
            (Err(broken), _) => self.broken(desk, number, &broken, now),
            (Ok(()), Some(relay)) if association.relay.is_none() => match associated(desk, number, relay) {
                Ok(socket) => {
                    association.relay = Some(socket);
                    desk.ground.succeeded(&association.route.name);
                    while let Some((to, payload)) = association.waiting.pop_front() {
                        association.forward(desk, to, &payload);
                    }
                }
                Err(error) => self.broken(desk, number, &Broken::Destination(format!("no socket to the relay: {error}")), now),
            },
            _ => {}
        }
    }

    /// The control connection ended. If the association was still being made, another upstream may carry it.
    fn broken(&mut self, desk: &mut Desk, number: u64, broken: &Broken, now: Instant) {
        let Some(association) = self.by_number.get_mut(&number) else { return };
        desk.blame(&association.route, broken);
        if association.relay.is_none() {
            self.spared.insert(association.route.name.clone(), now + SPARED);
            if association.tries == 0 && association.elsewhere(desk, number, now) {
                return;
            }
            let counter = if matches!(broken, Broken::Upstream(_)) { &desk.counters.no_upstream } else { &desk.counters.no_udp };
            counter.fetch_add(1, Relaxed);
            association.entry.tally.failed.fetch_add(1, Relaxed);
        }
        self.end(desk, number);
    }

    /// The relay has answers.
    pub fn relay(&mut self, desk: &mut Desk, number: u64, buffer: &mut [u8], now: Instant) {
        for _ in 0..BATCH {
            let Some(association) = self.by_number.get_mut(&number) else { return };
            let Some(relay) = &association.relay else { return };
            match recv(relay, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, length)) => association.deliver(desk, buffer.get(..length).unwrap_or_default(), now),
                Err(Errno::AGAIN | Errno::INTR) => return,
                // The relay's port is closed: it will carry nothing any more.
                Err(_) => return self.end(desk, number),
            }
        }
    }

    pub fn end(&mut self, desk: &Desk, number: u64) {
        if let Some(association) = self.by_number.remove(&number) {
            desk.ground.flows().end(&association.entry);
            if self.by_client.get(&association.client) == Some(&number) {
                self.by_client.remove(&association.client);
            }
        }
    }

    pub fn tick(&mut self, desk: &mut Desk, now: Instant) {
        let late = |association: &Association| association.relay.is_none() && now.duration_since(association.began) > OPENING_MAX;
        let over = |association: &Association| now.duration_since(association.last) > association.idle();
        let late_ones: Vec<u64> = self.by_number.iter().filter(|(_, one)| late(one)).map(|(number, _)| *number).collect();
        for number in late_ones {
            self.broken(desk, number, &Broken::Upstream("it did not answer in time".into()), now);
        }
        let over_ones: Vec<u64> = self.by_number.iter().filter(|(_, one)| over(one)).map(|(number, _)| *number).collect();
        for number in over_ones {
            self.end(desk, number);
        }
        self.spared.retain(|_, until| now < *until);
    }
}

impl Association {
    fn asks(&mut self, whom: SocketAddr, now: Instant) {
        self.asked.insert(whom, now);
        if self.asked.len() > ASKED_MAX
            && let Some(oldest) = self.asked.iter().min_by_key(|(_, last)| **last).map(|(whom, _)| *whom)
        {
            self.asked.remove(&oldest);
        }
    }

    fn wait(&mut self, desk: &Desk, to: SocketAddr, payload: &[u8]) {
        let bytes: usize = self.waiting.iter().map(|(_, payload)| payload.len()).sum();
        if self.waiting.len() >= WAITING_MAX || bytes + payload.len() > WAITING_BYTES_MAX {
            desk.counters.limited.fetch_add(1, Relaxed);
            return;
        }
        self.waiting.push_back((to, payload.to_vec()));
    }

    /// False: the relay is gone. A datagram that finds no room is lost, as datagrams are.
    fn forward(&self, desk: &Desk, to: SocketAddr, payload: &[u8]) -> bool {
        let Some(relay) = &self.relay else { return false };
        let mut datagram = Vec::with_capacity(socks::HEADER_MAX + payload.len());
        socks::write(&mut datagram, to);
        datagram.extend_from_slice(payload);
        match send(relay, &datagram, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => {
                self.entry.carried(payload.len() as u64, 0);
                desk.counters.up.fetch_add(1, Relaxed);
            }
            Err(Errno::CONNREFUSED) => return false,
            Err(_) => _ = desk.counters.limited.fetch_add(1, Relaxed),
        }
        true
    }

    fn deliver(&mut self, desk: &mut Desk, datagram: &[u8], now: Instant) {
        match socks::read(datagram) {
            Ok((from, payload)) if self.asked.contains_key(&from) => {
                self.last = now;
                if desk.answer(from, self.client, payload) {
                    self.entry.carried(0, payload.len() as u64);
                }
            }
            Ok(_) => _ = desk.counters.unasked.fetch_add(1, Relaxed),
            Err(_) => _ = desk.counters.unreadable.fetch_add(1, Relaxed),
        }
    }

    fn elsewhere(&mut self, desk: &Desk, number: u64, now: Instant) -> bool {
        let route = desk.route(&self.mapped.mapping.via).filter(|route| route.name != self.route.name && route.upstream.udp);
        let control = route.as_ref().and_then(|route| Tunnel::associate(route).ok());
        let (Some(route), Some(control)) = (route, control) else { return false };
        if control.watch(&desk.epoll, token(Kind::Control, number)).is_err() {
            return false;
        }
        self.entry.take_route(&route);
        (self.route, self.control, self.began) = (route, control, now);
        self.tries += 1;
        true
    }

    fn idle(&self) -> Duration {
        if self.asked.keys().all(|whom| matches!(whom.port(), 53 | 123)) { IDLE_SHORT } else { IDLE }
    }
}

fn associated(desk: &Desk, number: u64, relay: SocketAddr) -> std::io::Result<OwnedFd> {
    let family = if relay.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    connect(&socket, &relay)?;
    epoll::add(&desk.epoll, &socket, EventData::new_u64(token(Kind::Relay, number)), EventFlags::IN)?;
    Ok(socket)
}
