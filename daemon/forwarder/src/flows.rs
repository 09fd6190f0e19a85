//! Every flow there is, over all workers and protocols: who, where to, how much, and how to end it.
//!
//! A worker keeps its flows to itself; here is what others may know of them. Bytes are counted by atomics and nothing is locked
//! but when a flow begins or ends.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use policy::messages::forwarder::Flow;
use policy::name::Name;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};

use crate::config::{Mapped, Route};

pub struct Flows {
    register: Mutex<Register>,
    tallies: Mutex<BTreeMap<Name, Arc<Tally>>>,
    limits: Limits,
    refused: AtomicU64,
}

#[derive(Default)]
struct Register {
    next: u64,
    flows: BTreeMap<u64, Arc<Entry>>,
    per_client: HashMap<IpAddr, usize>,
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub flows: usize,
    pub per_client: usize,
}

/// Of a mapping, since the forwarder started.
#[derive(Default)]
pub struct Tally {
    pub up: AtomicU64,
    pub down: AtomicU64,
    pub connections: AtomicU64,
    pub failed: AtomicU64,
}

#[derive(Debug, Default)]
pub struct Counts {
    pub mappings: BTreeMap<Name, u64>,
    pub upstreams: BTreeMap<Name, u64>,
    pub protocols: BTreeMap<String, u64>,
}

/// One flow.
pub struct Entry {
    pub id: u64,
    pub mapped: Arc<Mapped>,
    pub client: SocketAddr,
    pub destination: SocketAddr,
    pub tally: Arc<Tally>,
    protocol: &'static str,
    /// A flow that begins may try several.
    route: Mutex<Arc<Route>>,
    began: u64,
    up: AtomicU64,
    down: AtomicU64,
    door: Arc<Door>,
    token: u64,
}

/// What a flow begins with. `token` is what `door` gives back when the flow shall end.
pub struct Begin<'a> {
    pub mapped: &'a Arc<Mapped>,
    pub route: &'a Arc<Route>,
    pub protocol: &'static str,
    pub client: SocketAddr,
    pub destination: SocketAddr,
    pub door: &'a Arc<Door>,
    pub token: u64,
}

impl Flows {
    pub fn new(limits: Limits) -> Flows {
        Flows { register: Mutex::default(), tallies: Mutex::default(), limits, refused: AtomicU64::new(0) }
    }

    /// None when a limit is reached. Whoever begins a flow ends it by `end`.
    pub fn begin(&self, begin: Begin<'_>) -> Option<Arc<Entry>> {
        let tally = self.tally(&begin.mapped.name);
        let mut register = lock(&self.register);
        let of_client = register.per_client.get(&begin.client.ip()).copied().unwrap_or(0);
        if register.flows.len() >= self.limits.flows || of_client >= self.limits.per_client {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        register.per_client.insert(begin.client.ip(), of_client + 1);
        register.next += 1;
        tally.connections.fetch_add(1, Relaxed);
        let entry = Arc::new(Entry {
            id: register.next,
            mapped: begin.mapped.clone(),
            client: begin.client,
            destination: begin.destination,
            tally,
            protocol: begin.protocol,
            route: Mutex::new(begin.route.clone()),
            began: now(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            door: begin.door.clone(),
            token: begin.token,
        });
        register.flows.insert(entry.id, entry.clone());
        Some(entry)
    }

    pub fn end(&self, entry: &Entry) {
        let mut register = lock(&self.register);
        if register.flows.remove(&entry.id).is_none() {
            return;
        }
        match register.per_client.get_mut(&entry.client.ip()) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = register.per_client.remove(&entry.client.ip()),
        }
    }

    /// Asks for the end of those that `which` names; says how many.
    pub fn close(&self, which: impl Fn(&Entry) -> bool) -> u64 {
        let chosen: Vec<_> = lock(&self.register).flows.values().filter(|entry| which(entry)).cloned().collect();
        chosen.iter().for_each(|entry| entry.door.ring(entry.token));
        chosen.len() as u64
    }

    /// Those with the most bytes first, and how many there are in all.
    pub fn list(&self, which: impl Fn(&Entry) -> bool, limit: usize) -> (Vec<Flow>, u64) {
        let mut flows: Vec<Flow> = lock(&self.register).flows.values().filter(|entry| which(entry)).map(|entry| entry.told()).collect();
        let total = flows.len() as u64;
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.up_bytes + flow.down_bytes));
        flows.truncate(limit);
        (flows, total)
    }

    pub fn count(&self) -> u64 {
        lock(&self.register).flows.len() as u64
    }

    /// How many are open, by what they have in common.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in lock(&self.register).flows.values() {
            *counts.mappings.entry(entry.mapped.name.clone()).or_default() += 1;
            *counts.upstreams.entry(entry.route().name.clone()).or_default() += 1;
            *counts.protocols.entry(entry.protocol.to_owned()).or_default() += 1;
        }
        counts
    }

    pub fn tally(&self, mapping: &Name) -> Arc<Tally> {
        let mut tallies = lock(&self.tallies);
        match tallies.get(mapping) {
            Some(tally) => tally.clone(),
            None => tallies.entry(mapping.clone()).or_default().clone(),
        }
    }

    /// Bytes of both directions, by mapping.
    pub fn usage(&self) -> BTreeMap<Name, u64> {
        lock(&self.tallies).iter().map(|(name, tally)| (name.clone(), tally.up.load(Relaxed) + tally.down.load(Relaxed))).collect()
    }

    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

impl Entry {
    pub fn route(&self) -> Arc<Route> {
        lock(&self.route).clone()
    }

    pub fn take_route(&self, route: &Arc<Route>) {
        *lock(&self.route) = route.clone();
    }

    /// Bytes from the client, and to it, that have been delivered.
    pub fn carried(&self, up: u64, down: u64) {
        if up > 0 {
            self.up.fetch_add(up, Relaxed);
            self.tally.up.fetch_add(up, Relaxed);
        }
        if down > 0 {
            self.down.fetch_add(down, Relaxed);
            self.tally.down.fetch_add(down, Relaxed);
        }
    }

    fn told(&self) -> Flow {
        Flow {
            id: self.id,
            mapping: self.mapped.name.clone(),
            upstream: self.route().name.clone(),
            protocol: self.protocol.into(),
            client: self.client,
            destination: self.destination,
            began: self.began,
            up_bytes: self.up.load(Relaxed),
            down_bytes: self.down.load(Relaxed),
        }
    }
}

/// How a thread that waits for descriptors is told something by another.
pub struct Door {
    bell: OwnedFd,
    tokens: Mutex<Vec<u64>>,
}

impl Door {
    pub fn new() -> io::Result<Door> {
        Ok(Door { bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?, tokens: Mutex::default() })
    }

    pub fn ring(&self, token: u64) {
        lock(&self.tokens).push(token);
        self.wake();
    }

    pub fn wake(&self) {
        // It fails only when the count is full, and then the other side is awake anyhow.
        _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Nobody has taken what was said, or that he was woken.
    pub fn is_rung(&self) -> bool {
        let mut bell = [PollFd::new(&self.bell, PollFlags::IN)];
        rustix::event::poll(&mut bell, Some(&Timespec::default())).is_ok_and(|rung| rung > 0)
    }

    /// What was said since, in order; the bell is silent again.
    pub fn take(&self) -> Vec<u64> {
        _ = rustix::io::read(&self.bell, &mut [0; 8]);
        std::mem::take(&mut *lock(&self.tokens))
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// What these locks protect is whole at every moment: a panic elsewhere does not spoil it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::samples::{carried, name};

    fn begin(flows: &Flows, client: &str, door: &Arc<Door>, token: u64) -> Option<Arc<Entry>> {
        let carried = carried(|_, _| {});
        let client: SocketAddr = client.parse().unwrap();
        flows.begin(Begin {
            mapped: carried.mapping(7, client.ip()).unwrap(),
            route: carried.route(&name("one")).unwrap(),
            protocol: "tcp",
            client,
            destination: "198.51.100.1:80".parse().unwrap(),
            door,
            token,
        })
    }

    #[test]
    fn limits_hold_in_all_and_for_each_client_and_what_ends_makes_room() {
        let flows = Flows::new(Limits { flows: 3, per_client: 2 });
        let door = Arc::new(Door::new().unwrap());
        let first = begin(&flows, "10.0.0.1:1", &door, 1).unwrap();
        begin(&flows, "10.0.0.1:2", &door, 2).unwrap();
        assert!(begin(&flows, "10.0.0.1:3", &door, 3).is_none(), "a third of one client");
        begin(&flows, "10.0.0.2:1", &door, 4).unwrap();
        assert!(begin(&flows, "10.0.0.3:1", &door, 5).is_none(), "a fourth of all");
        assert_eq!(flows.refused(), 2);
        flows.end(&first);
        flows.end(&first);
        assert!(begin(&flows, "10.0.0.1:3", &door, 6).is_some());
        assert_eq!(flows.count(), 3);
    }

    #[test]
    fn the_door_names_what_shall_end() {
        let flows = Flows::new(Limits { flows: 9, per_client: 9 });
        let door = Arc::new(Door::new().unwrap());
        begin(&flows, "10.0.0.1:1", &door, 11).unwrap();
        begin(&flows, "10.0.0.2:1", &door, 12).unwrap();
        assert_eq!(flows.close(|entry| entry.client.ip() == "10.0.0.2".parse::<IpAddr>().unwrap()), 1);
        assert_eq!(door.take(), [12]);
        assert!(door.take().is_empty());
    }

    #[test]
    fn bytes_are_counted_for_flow_and_mapping() {
        let flows = Flows::new(Limits { flows: 9, per_client: 9 });
        let door = Arc::new(Door::new().unwrap());
        let (small, large) = (begin(&flows, "10.0.0.1:1", &door, 1).unwrap(), begin(&flows, "10.0.0.1:2", &door, 2).unwrap());
        small.carried(1, 2);
        large.carried(10, 20);
        flows.end(&small);
        let (list, total) = flows.list(|_| true, 5);
        assert_eq!((list.len(), total, list[0].up_bytes, list[0].down_bytes), (1, 1, 10, 20));
        assert_eq!(flows.usage(), [(name("desk"), 33)].into());
    }
}
