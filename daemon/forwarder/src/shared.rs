//! What all threads of the forwarder know together.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use policy::name::Name;
use policy::plan::proxy::{Proxy, Via};

use crate::config::Carried;
use crate::flows::{Door, Flows, Limits, lock};
use crate::health::{Board, Moment, rounds::Rounds};
use crate::udp;

pub struct Shared {
    carried: Arc<RwLock<Option<Arc<Carried>>>>,
    pub board: Arc<Mutex<Board>>,
    pub flows: Flows,
    /// Rung when the applier may have to be told something.
    pub news: Arc<Door>,
    /// Who probes; woken when a probe may be due.
    pub rounds: Rounds,
    /// Milliseconds since the epoch.
    pub started_at: u64,
    pub descriptors_max: u64,
    /// The threads that carry datagrams and answer questions.
    pub datagrams: Mutex<Vec<udp::Handle>>,
}

impl Shared {
    pub fn new(limits: Limits, descriptors_max: u64) -> io::Result<Shared> {
        let carried = Arc::new(RwLock::new(None::<Arc<Carried>>));
        let board = Arc::new(Mutex::new(Board::new(&Proxy::default(), &[], Moment::now())));
        let news = Arc::new(Door::new()?);
        let secrets = carried.clone();
        let secret = move |name: &str| {
            let carried = secrets.read().unwrap_or_else(PoisonError::into_inner);
            carried.as_ref().and_then(|carried| carried.secrets.get(name).cloned())
        };
        let told = news.clone();
        let rounds = Rounds::begin(board.clone(), Box::new(secret), Box::new(move |_, _, _| told.wake()))?;
        Ok(Shared {
            carried,
            board,
            flows: Flows::new(limits),
            news,
            rounds,
            started_at: crate::flows::now(),
            descriptors_max,
            datagrams: Mutex::default(),
        })
    }

    /// None: nothing is carried.
    pub fn carried(&self) -> Option<Arc<Carried>> {
        self.carried.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Carries by this from now on. Flows that would not begin the same way now end.
    pub fn become_(&self, next: Carried) {
        let next = Arc::new(next);
        // The board first: whoever asks by the new generation must find its upstreams.
        lock(&self.board).become_(&next.proxy, &next.own, Moment::now());
        *self.carried.write().unwrap_or_else(PoisonError::into_inner) = Some(next.clone());
        self.flows.close(|entry| !next.still(&entry.mapped, &entry.route(), entry.client.ip()));
        self.rounds.wake();
    }

    /// Nobody says any more who may be carried.
    pub fn carry_nothing(&self) -> u64 {
        *self.carried.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.flows.close(|_| true)
    }

    /// A client's connection did not come about, and it was the upstream's fault. The applier knows within a moment.
    pub fn failed(&self, upstream: &Name, why: &str) {
        lock(&self.board).failed(upstream, why, Moment::now());
        self.news.wake();
        self.rounds.wake();
    }

    pub fn succeeded(&self, upstream: &Name) {
        lock(&self.board).succeeded(upstream, Moment::now());
    }

    /// A silence that may be the destination's: a probe tells.
    pub fn doubt(&self, upstream: &Name) {
        lock(&self.board).doubt(upstream, Moment::now());
        self.rounds.wake();
    }
}

impl udp::Ground for Shared {
    fn carried(&self) -> Option<Arc<Carried>> {
        Shared::carried(self)
    }

    fn flows(&self) -> &Flows {
        &self.flows
    }

    fn choose(&self, via: &Via) -> Result<Name, String> {
        lock(&self.board).choose(via)
    }

    fn failed(&self, upstream: &Name, why: &str) {
        Shared::failed(self, upstream, why);
    }

    fn succeeded(&self, upstream: &Name) {
        Shared::succeeded(self, upstream);
    }

    fn doubt(&self, upstream: &Name) {
        Shared::doubt(self, upstream);
    }

    fn pipelined(&self, upstream: &Name) -> bool {
        lock(&self.board).pipelined(upstream)
    }
}
