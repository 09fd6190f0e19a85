//! Which upstreams can carry now, and which of a group does.
//!
//! ```text
//!  flows ──failed, succeeded──▶ Board ──choose──▶ flows
//!                                │  ▲
//!                            due │  │ probed              Board decides and holds no socket, no clock, no thread;
//!                                ▼  │                     rounds act.
//!                               rounds ──▶ upstreams
//! ```
//!
//! A failure is followed by a probe at once, so that a dead upstream is failed within milliseconds, by two failures, and a single
//! accident is not taken for death. What a destination refuses is no failure of the upstream and does not come here.

mod answer;
mod attempt;
mod breaker;
mod entry;
pub mod probe;
pub mod rounds;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use policy::messages::forwarder::{Health, MappingState, UpstreamStatus};
use policy::name::Name;
use policy::plan::proxy::{Group, Proxy, Strategy, Upstream, Via};

use breaker::{Limits, SINGLE};
use entry::Entry;

/// All upstreams and groups of the generation that is carried.
#[derive(Debug)]
pub struct Board {
    upstreams: BTreeMap<Name, Entry>,
    groups: BTreeMap<Name, Member>,
    /// An exit that is one of these is none.
    own: BTreeSet<IpAddr>,
    next_round: Instant,
    rounds: u64,
    /// Counts upstreams that became another one, so that a probe of what was is not taken for one of what is.
    epochs: u64,
}

/// A group, and what its strategy remembers.
#[derive(Debug)]
struct Member {
    group: Group,
    turn: usize,
    /// For `Latency`: who carries, until somebody is clearly shorter.
    current: Option<Name>,
}

/// The time, for both of its uses: how long ago, and what the clock says.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub instant: Instant,
    /// Milliseconds since the epoch.
    pub clock: u64,
}

/// What is to be probed, and how.
#[derive(Debug, Clone)]
pub struct Job {
    pub name: Name,
    pub upstream: Upstream,
    pub epoch: u64,
    pub pipelined: bool,
    /// Only tries whether it may be pipelined; says nothing of its health.
    pub learning: bool,
    pub limit: Duration,
}

/// How a job ended.
#[derive(Debug, Clone)]
pub struct Probe {
    pub epoch: u64,
    pub began: Instant,
    pub outcome: Result<Good, Bad>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Good {
    pub latency_us: u64,
    pub exit: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    pub why: String,
    /// A second attempt failed too: it counts as two.
    pub confirmed: bool,
}

pub const ROUND: Duration = Duration::from_secs(30);
/// For one probe, from connecting to its last byte.
pub const PROBE_LIMIT: Duration = Duration::from_secs(5);

impl Board {
    pub fn new(proxy: &Proxy, own: &[IpAddr], now: Moment) -> Board {
        let mut board = Board {
            upstreams: BTreeMap::new(),
            groups: BTreeMap::new(),
            own: BTreeSet::new(),
            next_round: now.instant,
            rounds: 0,
            epochs: 0,
        };
        board.become_(proxy, own, now);
        board
    }

    /// What is the same keeps what is known of it; the rest is unknown, and due at once.
    pub fn become_(&mut self, proxy: &Proxy, own: &[IpAddr], now: Moment) {
        let own: BTreeSet<_> = own.iter().map(IpAddr::to_canonical).collect();
        let elsewhere = own != self.own;
        self.own = own;
        let mut before = std::mem::take(&mut self.upstreams);
        for (name, upstream) in &proxy.upstreams {
            let mut entry = match before.remove(name) {
                Some(entry) if entry.upstream == *upstream => entry,
                _ => {
                    self.epochs += 1;
                    Entry::new(upstream.clone(), self.epochs, now)
                }
            };
            entry.judge_by(limits(name, proxy));
            if elsewhere {
                entry.next = now.instant;
            }
            self.upstreams.insert(name.clone(), entry);
        }
        let mut before = std::mem::take(&mut self.groups);
        for (name, group) in &proxy.groups {
            let member = match before.remove(name) {
                Some(member) if member.group == *group => member,
                _ => Member { group: group.clone(), turn: 0, current: None },
            };
            self.groups.insert(name.clone(), member);
        }
    }

    /// A probe ended. True if what [`Board::state`] says may be different now.
    pub fn probed(&mut self, name: &Name, probe: Probe, now: Moment) -> bool {
        let next_round = self.next_round;
        let own = &self.own;
        self.upstreams.get_mut(name).is_some_and(|entry| entry.probed(probe, own, next_round, now))
    }

    /// A job with `learning` ended.
    pub fn learned(&mut self, name: &Name, epoch: u64, may: bool) {
        if let Some(entry) = self.upstreams.get_mut(name) {
            entry.learned(epoch, may);
        }
    }

    /// A job could not be tried, for a reason of this box (no descriptor left, ...). It says nothing of the upstream.
    pub fn postponed(&mut self, name: &Name, epoch: u64, now: Moment) {
        if let Some(entry) = self.upstreams.get_mut(name) {
            entry.postponed(epoch, now);
        }
    }

    /// A client's connection failed, and it was the upstream's fault ([`crate::dial::Refused::upstream_at_fault`], or no connection
    /// to it). True if the state may be different now; in any case a probe may be due.
    pub fn failed(&mut self, name: &Name, why: &str, now: Moment) -> bool {
        self.upstreams.get_mut(name).is_some_and(|entry| entry.failed(why, now))
    }

    /// A client's connection was carried, or refused by its destination alone.
    pub fn succeeded(&mut self, name: &Name, now: Moment) {
        if let Some(entry) = self.upstreams.get_mut(name) {
            entry.succeeded(now);
        }
    }

    /// Nothing failed yet, but it should be looked at: it does not answer, every destination refuses, or it broke off what it carried.
    pub fn doubt(&mut self, name: &Name, now: Moment) {
        if let Some(entry) = self.upstreams.get_mut(name) {
            entry.doubt(now);
        }
    }

    /// Somebody wants to know, without waiting for the round.
    pub fn demand(&mut self, names: &[Name], now: Moment) {
        for name in names {
            if let Some(entry) = self.upstreams.get_mut(name) {
                entry.next = now.instant;
            }
        }
    }

    /// Who carries the next connection.
    pub fn choose(&mut self, via: &Via) -> Result<Name, String> {
        let chosen = self.chosen(via)?;
        if let Via::Group(group) = via
            && let Some(member) = self.groups.get_mut(group)
        {
            member.turn = member.turn.wrapping_add(1);
            member.current = Some(chosen.clone());
        }
        Ok(chosen)
    }

    pub fn state(&self, via: &Via) -> MappingState {
        let stands = match via {
            // Everybody takes a turn; the first that is up stands for all, so that the state does not change with each connection.
            Via::Group(name) if self.groups.get(name).is_some_and(|member| member.group.strategy == Strategy::RoundRobin) => {
                self.up(name).map(|up| up[0].0.clone())
            }
            _ => self.chosen(via),
        };
        match stands {
            Ok(upstream) => MappingState::Up { upstream },
            Err(why) => MappingState::Down { why },
        }
    }

    /// Whether a SOCKS server may be sent everything at once.
    pub fn pipelined(&self, name: &Name) -> bool {
        self.upstreams.get(name).is_some_and(Entry::pipelined)
    }

    /// What is to be probed now. Each is handed out once, until [`Board::probed`] or [`Board::learned`] brings it back.
    pub fn due(&mut self, now: Moment) -> Vec<Job> {
        if now.instant >= self.next_round {
            self.rounds += 1;
            self.next_round = now.instant + ROUND;
            self.upstreams.values_mut().for_each(|entry| entry.next = now.instant);
        }
        self.upstreams.iter_mut().filter_map(|(name, entry)| entry.job(name, now)).collect()
    }

    /// When something will be due, if nothing happens before.
    pub fn next(&self) -> Instant {
        self.upstreams.values().filter_map(Entry::due_at).min().map_or(self.next_round, |due| due.min(self.next_round))
    }

    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    pub fn health(&self, name: &Name) -> Option<&Health> {
        self.upstreams.get(name).map(|entry| &entry.health)
    }

    /// No failure waits to be looked into. What is not there is settled.
    pub fn settled(&self, name: &Name) -> bool {
        self.upstreams.get(name).is_none_or(Entry::settled)
    }

    /// How many probes of it have ended.
    pub fn probes(&self, name: &Name) -> u64 {
        self.upstreams.get(name).map_or(0, |entry| entry.probes)
    }

    /// Without the number of flows, which is not known here.
    pub fn statuses(&self) -> BTreeMap<Name, UpstreamStatus> {
        let status =
            |entry: &Entry| UpstreamStatus { health: entry.health.clone(), history: entry.history.iter().cloned().collect(), flows: 0 };
        self.upstreams.iter().map(|(name, entry)| (name.clone(), status(entry))).collect()
    }

    fn chosen(&self, via: &Via) -> Result<Name, String> {
        let group = match via {
            Via::Upstream(name) => {
                let entry = self.upstreams.get(name).ok_or_else(|| format!("there is no upstream {name}"))?;
                return if entry.is_up(SINGLE) { Ok(name.clone()) } else { Err(entry.why_not(name)) };
            }
            Via::Group(group) => group,
        };
        let up = self.up(group)?;
        let member = &self.groups[group];
        let chosen = match member.group.strategy {
            Strategy::Priority => up[0].0,
            Strategy::RoundRobin => up[member.turn % up.len()].0,
            Strategy::Latency => shortest(&up, member.current.as_ref()),
        };
        Ok(chosen.clone())
    }

    /// The members that are up, in the group's order and never none; those with a failure that no probe has explained yet only
    /// where there are no others.
    fn up(&self, group: &Name) -> Result<Vec<(&Name, &Entry)>, String> {
        let member = self.groups.get(group).ok_or_else(|| format!("there is no group {group}"))?;
        let limits = limits_of(&member.group);
        let known: Vec<_> = member.group.members.iter().filter_map(|name| self.upstreams.get_key_value(name)).collect();
        let mut up: Vec<_> = known.iter().copied().filter(|(_, entry)| entry.is_up(limits)).collect();
        if up.iter().any(|(_, entry)| entry.failures == 0) {
            up.retain(|(_, entry)| entry.failures == 0);
        }
        if up.is_empty() {
            let why: Vec<_> = known.iter().map(|(name, entry)| entry.why_not(name)).collect();
            return Err(format!("no member of {group} is up: {}", why.join("; ")));
        }
        Ok(up)
    }
}

impl Moment {
    pub fn now() -> Moment {
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Moment { instant: Instant::now(), clock: clock.as_millis() as u64 }
    }
}

/// Whoever carries goes on unless another is shorter by a tenth and by more than chance: connections that belong together
/// should not come out here and there.
fn shortest<'a>(up: &[(&'a Name, &Entry)], current: Option<&Name>) -> &'a Name {
    let latency = |entry: &Entry| entry.latency.unwrap_or(u64::MAX);
    let best = up.iter().fold(up[0], |best, candidate| if latency(candidate.1) < latency(best.1) { *candidate } else { best });
    match up.iter().find(|(name, _)| Some(*name) == current) {
        Some((name, entry)) if latency(entry) <= latency(best.1).saturating_add((latency(best.1) / 10).max(500)) => name,
        _ => best.0,
    }
}

/// By which limits this upstream is judged.
fn limits(name: &Name, proxy: &Proxy) -> BTreeSet<Limits> {
    let groups = proxy.groups.values().filter(|group| group.members.contains(name));
    let mut limits: BTreeSet<_> = groups.map(limits_of).collect();
    if limits.is_empty() || proxy.mappings.values().any(|mapping| mapping.via == Via::Upstream(name.clone())) {
        limits.insert(SINGLE);
    }
    limits
}

fn limits_of(group: &Group) -> Limits {
    Limits { fail_after: group.fail_after, recover_after: group.recover_after }
}
