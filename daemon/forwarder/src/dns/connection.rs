//! A connection to a server, through a tunnel, and the questions that it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::plan::proxy::Dns;

use super::framing;
use super::http::{self, Url};
use super::message;
use super::resolver::Asked;
use crate::config::{Mapped, Route};
use crate::dial::Target;
use crate::dial::tls::Tls;
use crate::udp::tunnel::{Broken, Tunnel};
use crate::udp::{Desk, Kind, token};

pub struct Connection {
    pub mapped: Arc<Mapped>,
    pub route: Arc<Route>,
    /// Whom it reaches.
    pub target: Target,
    tunnel: Tunnel,
    speaks: Speaks,
    arrived: Vec<u8>,
    /// By the id on the wire.
    asked: BTreeMap<u16, Asked>,
    /// HTTP/1.1 answers one after the other; these wait for their turn.
    waiting: VecDeque<Asked>,
    began: Instant,
    last: Instant,
    told: bool,
    pub answered: u64,
    /// It is asked nothing more.
    pub closing: bool,
}

/// A question and the message that answers it.
pub type Answered = (Asked, Vec<u8>);

enum Speaks {
    Tcp,
    Https(Url),
}

/// How many questions may be on the way over one connection.
pub const ASKED_MAX: usize = 200;
const OPENING_MAX: Duration = Duration::from_secs(5);
/// RFC 7766 section 6.2.3 wants few seconds; a handshake through an upstream costs several ways.
const IDLE: Duration = Duration::from_secs(20);
const ARRIVED_MAX: usize = 640 << 10;

impl Connection {
    /// `number` is already ours; the connection watches its socket with it.
    pub fn open(
        desk: &Desk,
        number: u64,
        mapped: &Arc<Mapped>,
        route: &Arc<Route>,
        target: &Target,
        now: Instant,
    ) -> Result<Connection, Broken> {
        let (speaks, inner) = match &mapped.mapping.dns {
            Dns::DohStub { url, authority, .. } => {
                let url = Url::read(url).ok_or_else(|| Broken::Destination("the URL cannot be read".into()))?;
                let tls = Tls::to_server(&url.name, authority.as_deref()).map_err(|refused| Broken::Destination(refused.why))?;
                (Speaks::Https(url), Some(tls))
            }
            _ => (Speaks::Tcp, None),
        };
        let tunnel = Tunnel::connect(route, target, desk.ground.pipelined(&route.name), inner)?;
        tunnel.watch(&desk.epoll, token(Kind::Lookup, number)).map_err(|error| Broken::Destination(error.to_string()))?;
        Ok(Connection {
            mapped: mapped.clone(),
            route: route.clone(),
            target: target.clone(),
            tunnel,
            speaks,
            arrived: Vec::new(),
            asked: BTreeMap::new(),
            waiting: VecDeque::new(),
            began: now,
            last: now,
            told: false,
            answered: 0,
            closing: false,
        })
    }

    /// How many questions are on the way.
    pub fn load(&self) -> usize {
        self.asked.len() + self.waiting.len()
    }

    pub fn over_https(&self) -> bool {
        matches!(self.speaks, Speaks::Https(_))
    }

    /// The caller looked at [`Connection::load`].
    pub fn ask(&mut self, asked: Asked, now: Instant) {
        self.last = now;
        self.waiting.push_back(asked);
        self.send_waiting();
    }

    fn send_waiting(&mut self) {
        match &self.speaks {
            Speaks::Tcp => {
                while let Some(asked) = self.waiting.pop_front() {
                    let id = free_id(&self.asked, asked.question.id());
                    self.tunnel.send(&framing::framed(&asked.question.with_id(id)));
                    self.asked.insert(id, asked);
                }
            }
            Speaks::Https(url) => {
                if self.asked.is_empty()
                    && !self.closing
                    && let Some(asked) = self.waiting.pop_front()
                {
                    // RFC 8484 section 4.1: the id is 0; the exchange itself says whose answer it is.
                    self.tunnel.send(&url.post(&asked.question.with_id(0)));
                    self.asked.insert(0, asked);
                }
            }
        }
    }

    /// Sends and receives what can be now; says what was answered. After an error there may still be answers.
    pub fn turn(&mut self, desk: &Desk, number: u64, now: Instant) -> (Vec<Answered>, Result<(), Broken>) {
        let mut answers = Vec::new();
        let token = token(Kind::Lookup, number);
        let mut outcome = self.tunnel.turn(&desk.epoll, token, &mut self.arrived).and_then(|()| self.read(&mut answers));
        if self.tunnel.ready() && !self.told {
            self.told = true;
            desk.ground.succeeded(&self.route.name);
        }
        if !answers.is_empty() {
            self.last = now;
            self.answered += answers.len() as u64;
            self.send_waiting();
            outcome = outcome.and_then(|()| self.tunnel.turn(&desk.epoll, token, &mut self.arrived));
        }
        (answers, outcome)
    }

    fn read(&mut self, answers: &mut Vec<Answered>) -> Result<(), Broken> {
        let malformed = || Broken::Destination("its answer is none".into());
        match &self.speaks {
            Speaks::Tcp => {
                while let Some(answer) = framing::take(&mut self.arrived) {
                    let id = message::id(&answer).ok_or_else(malformed)?;
                    // An answer to what was given up meanwhile is no reason to end.
                    if self.asked.get(&id).is_some_and(|asked| asked.question.is_answered_by(&answer)) {
                        answers.extend(self.asked.remove(&id).map(|asked| (asked, answer)));
                    }
                }
            }
            Speaks::Https(_) => {
                while let Some(response) = http::take(&mut self.arrived).map_err(|_| malformed())? {
                    let asked = self.asked.remove(&0).ok_or_else(malformed)?;
                    self.closing |= !response.keep;
                    let good = response.status == 200 && response.dns && asked.question.is_answered_by(&response.body);
                    let answer = if good { response.body } else { asked.question.refusal(message::Code::ServFail) };
                    answers.push((asked, answer));
                }
            }
        }
        if self.arrived.len() > ARRIVED_MAX { Err(malformed()) } else { Ok(()) }
    }

    /// Questions that have waited too long.
    pub fn late(&mut self, now: Instant) -> Vec<Asked> {
        let late: Vec<u16> = self.asked.iter().filter(|(_, asked)| asked.deadline <= now).map(|(id, _)| *id).collect();
        // Whoever does not answer one is given no more. Over HTTP, its answer would be taken for the next one's.
        self.closing |= !late.is_empty();
        let mut gone: Vec<Asked> = late.iter().filter_map(|id| self.asked.remove(id)).collect();
        let (late, waiting): (VecDeque<_>, VecDeque<_>) = self.waiting.drain(..).partition(|asked| asked.deadline <= now);
        self.waiting = waiting;
        gone.extend(late);
        gone
    }

    /// Why it is to end, if it is.
    pub fn over(&self, now: Instant) -> Option<Broken> {
        if !self.tunnel.ready() && now.duration_since(self.began) >= OPENING_MAX {
            return Some(Broken::Closed);
        }
        let useless = self.closing && (self.over_https() || self.load() == 0);
        (useless || (self.load() == 0 && now.duration_since(self.last) > IDLE)).then_some(Broken::Closed)
    }

    /// The tunnel never came to be.
    pub fn silent(&self) -> bool {
        !self.tunnel.ready()
    }

    /// Ends it: what was not answered.
    pub fn unanswered(self) -> impl Iterator<Item = Asked> {
        self.asked.into_values().chain(self.waiting)
    }
}

/// The question's own, unless another one bears it. There are fewer questions than ids.
fn free_id(taken: &BTreeMap<u16, Asked>, wanted: u16) -> u16 {
    (0..=u16::MAX).map(|step| wanted.wrapping_add(step)).find(|id| !taken.contains_key(id)).unwrap_or(wanted)
}
