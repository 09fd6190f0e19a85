//! Who asked what, and over which connection it is asked for them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use policy::plan::proxy::Dns;

use super::connection::{ASKED_MAX, Connection};
use super::http::Url;
use super::message::{Code, Question};
use super::stream::Stream;
use crate::config::Mapped;
use crate::dial::Target;
use crate::flows::{Begin, Entry};
use crate::udp::tunnel::Broken;
use crate::udp::{Desk, Kind, token};

#[derive(Default)]
pub struct Resolver {
    connections: BTreeMap<u64, Connection>,
    streams: BTreeMap<u64, Stream>,
    askers: BTreeMap<u64, Asker>,
    asker_of: BTreeMap<(IpAddr, SocketAddr), u64>,
    asked: usize,
}

/// A client and whom it asks: a flow for those who look.
struct Asker {
    entry: Arc<Entry>,
    mapped: Arc<Mapped>,
    key: (IpAddr, SocketAddr),
    last: Instant,
    asked: usize,
}

/// A question on its way.
pub struct Asked {
    pub question: Question,
    pub from: Origin,
    pub asker: u64,
    pub deadline: Instant,
    /// It was asked once already, over a connection that broke.
    pub again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Datagram { client: SocketAddr, asked: SocketAddr },
    Stream(u64),
}

pub const PATIENCE: Duration = Duration::from_secs(5);
const PER_ASKER_MAX: usize = 100;
const IN_ALL_MAX: usize = 2_000;
const CONNECTIONS_MAX: usize = 128;
/// To one server of DNS over HTTPS, from one mapping.
const HTTPS_MAX: usize = 4;
const STREAMS_MAX: usize = 256;
const ASKERS_MAX: usize = 2_000;
const ASKER_IDLE: Duration = Duration::from_secs(10);

impl Resolver {
    pub fn datagram(&mut self, desk: &mut Desk, mapped: &Arc<Mapped>, client: SocketAddr, asked: SocketAddr, payload: &[u8], now: Instant) {
        self.question(desk, mapped, client, asked, Origin::Datagram { client, asked }, payload, now);
    }

    /// A client's connection to port 53, for the stub to answer.
    pub fn take_stream(
        &mut self,
        desk: &mut Desk,
        socket: OwnedFd,
        mapped: Arc<Mapped>,
        client: SocketAddr,
        asked: SocketAddr,
        now: Instant,
    ) {
        let number = desk.number();
        let stream = Stream::new(socket, mapped, client, asked, now);
        if self.streams.len() >= STREAMS_MAX || stream.watch(&desk.epoll, token(Kind::Stream, number)).is_err() {
            desk.counters.limited.fetch_add(1, Relaxed);
            return;
        }
        self.streams.insert(number, stream);
        self.stream(desk, number, now);
    }

    /// False: it was no question.
    #[allow(clippy::too_many_arguments, reason = "who asks whom, for whom, what, and when")]
    fn question(
        &mut self,
        desk: &mut Desk,
        mapped: &Arc<Mapped>,
        client: SocketAddr,
        to: SocketAddr,
        from: Origin,
        payload: &[u8],
        now: Instant,
    ) -> bool {
        let Some(question) = Question::read(payload) else {
            desk.counters.malformed.fetch_add(1, Relaxed);
            return false;
        };
        let Some(asker) = self.asker(desk, mapped, client, to, now) else {
            desk.counters.limited.fetch_add(1, Relaxed);
            return true;
        };
        let asked = Asked { question, from, asker, deadline: now + PATIENCE, again: false };
        let Some(its) = self.askers.get_mut(&asker).filter(|its| its.asked < PER_ASKER_MAX && self.asked < IN_ALL_MAX) else {
            desk.counters.limited.fetch_add(1, Relaxed);
            return true;
        };
        its.last = now;
        its.asked += 1;
        self.asked += 1;
        desk.counters.questions.fetch_add(1, Relaxed);
        its.entry.carried(payload.len() as u64, 0);
        // The box answers no questions of its own to mapped clients: it would ask on their behalf past the upstream.
        let own = desk.ground.carried().is_some_and(|carried| carried.own.contains(&to.ip()));
        match target(mapped, to) {
            Some(_) if own && mapped.mapping.dns == Dns::Proxied => self.answer(desk, &asked, &asked.question.refusal(Code::Refused)),
            Some(target) => self.ask(desk, mapped, &target, asked, now),
            None => self.fail(desk, &asked),
        }
        true
    }

    fn asker(&mut self, desk: &mut Desk, mapped: &Arc<Mapped>, client: SocketAddr, to: SocketAddr, now: Instant) -> Option<u64> {
        let key = (client.ip(), to);
        if let Some(number) = self.asker_of.get(&key).copied() {
            if self
                .askers
                .get(&number)
                .is_some_and(|asker| asker.mapped.name == mapped.name && asker.mapped.mapping.dns == mapped.mapping.dns)
            {
                return Some(number);
            }
            self.end_asker(desk, number);
        }
        if self.askers.len() >= ASKERS_MAX {
            return None;
        }
        let route = desk.route(&mapped.mapping.via)?;
        let number = desk.number();
        let token = token(Kind::Asker, number);
        let begin = Begin { mapped, route: &route, protocol: "dns", client, destination: to, door: &desk.door, token };
        let entry = desk.ground.flows().begin(begin)?;
        self.asker_of.insert(key, number);
        self.askers.insert(number, Asker { entry, mapped: mapped.clone(), key, last: now, asked: 0 });
        Some(number)
    }

    /// Over a connection that there is, or a new one.
    fn ask(&mut self, desk: &mut Desk, mapped: &Arc<Mapped>, target: &Target, asked: Asked, now: Instant) {
        let Some(route) = desk.route(&mapped.mapping.via) else {
            desk.counters.no_upstream.fetch_add(1, Relaxed);
            return self.fail(desk, &asked);
        };
        if let Some(asker) = self.askers.get(&asked.asker) {
            asker.entry.take_route(&route);
        }
        let fits = |(_, connection): &(&u64, &Connection)| {
            !connection.closing
                && connection.target == *target
                && Arc::ptr_eq(&connection.route, &route)
                && connection.mapped.name == mapped.name
                && connection.mapped.mapping.dns == mapped.mapping.dns
        };
        let standing: Vec<(u64, usize, bool)> =
            self.connections.iter().filter(fits).map(|(number, one)| (*number, one.load(), one.over_https())).collect();
        let least = standing.iter().min_by_key(|(_, load, _)| *load).copied();
        let enough = match least {
            Some((_, 0, _)) => true,
            Some((_, load, true)) => standing.len() >= HTTPS_MAX && load < ASKED_MAX,
            Some((_, load, false)) => load < ASKED_MAX,
            None => false,
        };
        if let Some((number, ..)) = least.filter(|_| enough) {
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.ask(asked, now);
            }
            return self.turn(desk, number, now);
        }
        if self.connections.len() >= CONNECTIONS_MAX && !self.close_an_idle_one() {
            desk.counters.limited.fetch_add(1, Relaxed);
            return self.fail(desk, &asked);
        }
        let number = desk.number();
        match Connection::open(desk, number, mapped, &route, target, now) {
            Ok(mut connection) => {
                connection.ask(asked, now);
                self.connections.insert(number, connection);
            }
            Err(broken) => {
                desk.blame(&route, &broken);
                self.fail(desk, &asked);
            }
        }
    }

    fn close_an_idle_one(&mut self) -> bool {
        let idle = self.connections.iter().find(|(_, connection)| connection.load() == 0).map(|(number, _)| *number);
        idle.is_some_and(|number| self.connections.remove(&number).is_some())
    }

    /// A connection has something to say, or is to be told something.
    pub fn turn(&mut self, desk: &mut Desk, number: u64, now: Instant) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let (answers, outcome) = connection.turn(desk, number, now);
        for (asked, answer) in answers {
            self.answer(desk, &asked, &answer);
        }
        let over = self.connections.get(&number).and_then(|connection| connection.over(now));
        if let Some(broken) = outcome.err().or(over) {
            self.broken(desk, number, &broken, now);
        }
    }

    /// What was on the way is asked once more, unless whom we ask refused us.
    fn broken(&mut self, desk: &mut Desk, number: u64, broken: &Broken, now: Instant) {
        let Some(connection) = self.connections.remove(&number) else { return };
        desk.blame(&connection.route, broken);
        let (mapped, target) = (connection.mapped.clone(), connection.target.clone());
        let refused = matches!(broken, Broken::Destination(_)) && connection.answered == 0;
        for mut asked in connection.unanswered() {
            if refused || asked.again || asked.deadline <= now {
                self.fail(desk, &asked);
            } else {
                asked.again = true;
                self.ask(desk, &mapped, &target, asked, now);
            }
        }
    }

    fn fail(&mut self, desk: &mut Desk, asked: &Asked) {
        desk.counters.servfail.fetch_add(1, Relaxed);
        if let Some(asker) = self.askers.get(&asked.asker) {
            asker.entry.tally.failed.fetch_add(1, Relaxed);
        }
        self.answer(desk, asked, &asked.question.refusal(Code::ServFail));
    }

    fn answer(&mut self, desk: &mut Desk, asked: &Asked, answer: &[u8]) {
        self.asked = self.asked.saturating_sub(1);
        // Whose permit went meanwhile gets no answer any more.
        let Some(asker) = self.askers.get_mut(&asked.asker) else { return };
        asker.asked = asker.asked.saturating_sub(1);
        let answer = asked.question.answer(answer, matches!(asked.from, Origin::Datagram { .. }));
        let sent = match asked.from {
            Origin::Datagram { client, asked } => desk.answer(asked, client, &answer),
            Origin::Stream(number) => {
                let stream = self.streams.get_mut(&number);
                let open = stream.is_some_and(|stream| stream.answer(&desk.epoll, token(Kind::Stream, number), &answer));
                if !open {
                    self.streams.remove(&number);
                }
                open
            }
        };
        if sent && let Some(asker) = self.askers.get(&asked.asker) {
            asker.entry.carried(0, answer.len() as u64);
        }
    }

    /// A client's connection has something to say.
    pub fn stream(&mut self, desk: &mut Desk, number: u64, now: Instant) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let Some(questions) = stream.turn(&desk.epoll, token(Kind::Stream, number), now) else {
            self.streams.remove(&number);
            return;
        };
        let (mapped, client, to) = (stream.mapped.clone(), stream.client, stream.to);
        for question in questions {
            if !self.question(desk, &mapped, client, to, Origin::Stream(number), &question, now) {
                self.streams.remove(&number);
                return;
            }
        }
    }

    pub fn end_asker(&mut self, desk: &Desk, number: u64) {
        let Some(asker) = self.askers.remove(&number) else { return };
        desk.ground.flows().end(&asker.entry);
        self.asker_of.remove(&asker.key);
        let (client, to) = asker.key;
        self.streams.retain(|_, stream| stream.client.ip() != client || stream.to != to);
    }

    /// Connections of what is not carried so any more.
    pub fn become_(&mut self, desk: &mut Desk, now: Instant) {
        let carried = desk.ground.carried();
        let stays = |connection: &Connection| {
            let route = carried.as_ref().and_then(|carried| carried.route(&connection.route.name));
            let mapping = carried.as_ref().and_then(|carried| carried.proxy.mappings.get(&connection.mapped.name));
            route.is_some_and(|route| Arc::ptr_eq(route, &connection.route))
                && mapping.is_some_and(|mapping| mapping.dns == connection.mapped.mapping.dns)
        };
        let gone: Vec<u64> = self.connections.iter().filter(|(_, one)| !stays(one)).map(|(number, _)| *number).collect();
        for number in gone {
            self.broken(desk, number, &Broken::Closed, now);
        }
    }

    pub fn tick(&mut self, desk: &mut Desk, now: Instant) {
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            let late = connection.late(now);
            if !late.is_empty() {
                // It may be the server that is silent, or the upstream.
                desk.ground.doubt(&connection.route.name);
            }
            let over = connection.over(now).map(|over| match connection.silent() {
                true => Broken::Upstream("it did not answer in time".into()),
                false => over,
            });
            for asked in late {
                self.fail(desk, &asked);
            }
            if let Some(broken) = over {
                self.broken(desk, number, &broken, now);
            }
        }
        let quiet: Vec<u64> = self
            .askers
            .iter()
            .filter(|(_, one)| one.asked == 0 && now.duration_since(one.last) > ASKER_IDLE)
            .map(|(number, _)| *number)
            .collect();
        for number in quiet {
            self.end_asker(desk, number);
        }
        self.streams.retain(|_, stream| !stream.idle(now));
    }
}

/// Whom it is asked of.
fn target(mapped: &Mapped, to: SocketAddr) -> Option<Target> {
    match &mapped.mapping.dns {
        Dns::Drop => None,
        Dns::Proxied => Some(Target::Address(to)),
        Dns::DohStub { url, server, .. } => {
            let url = Url::read(url)?;
            let address = server.or_else(|| url.name.parse().ok());
            Some(
                address.map_or_else(
                    || Target::Name(url.name.clone(), url.port),
                    |address| Target::Address(SocketAddr::new(address, url.port)),
                ),
            )
        }
    }
}
