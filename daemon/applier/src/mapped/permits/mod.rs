//! Who is let in to the forwarder: decided from what stands, what the forwarder says, and time. Nothing here touches the kernel.
//!
//! A permit is an element of a set in the kernel that lasts for a minute and a half. It is given while everything speaks for it, given
//! anew while that stays so, and taken away with the first thing that speaks against it. Whatever is not known speaks against it.

mod reasons;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod stories;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use policy::messages::forwarder::{FromForwarder, Health, MappingState};
use policy::messages::proxy::{Blocked, Effect as Shown};
use policy::name::Name;
use policy::plan::proxy::Proxy;

use super::same_way;
use crate::clock::Now;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A table with no permits in it took the place of the last one. None is lockdown.
    Stands(Option<Carried>),
    /// The same table was put in anew: its permits are gone.
    Emptied,
    Connected,
    Disconnected,
    Said(FromForwarder),
    /// The box's own addresses.
    Own(BTreeSet<IpAddr>),
    /// Names of the secrets that are set.
    Secrets(BTreeSet<String>),
    /// For every mapping that carried anything.
    Used(BTreeMap<Name, Used>),
    /// The kernel refused.
    NotGranted(u16),
    NotWithdrawn {
        mapping: Name,
        id: u16,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// In the kernel from now on for that long, whether or not it is there already.
    Grant { id: u16, lasts: Duration },
    /// Out of the kernel, and all that it let in ended.
    Withdraw { mapping: Name, id: u16, why: String },
    /// It has no permit in the table that stands now; what another let in is ended.
    End { mapping: Name, id: u16, why: String },
    /// Nothing is known of these.
    Probe(Vec<Name>),
}

/// What the forwarder has to say it became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    pub generation: u64,
    pub proxy: Rc<Proxy>,
    /// Mappings that get no permit before one of their upstreams was probed in this generation.
    pub unproven: BTreeSet<Name>,
}

/// Bytes of this day and of this month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    pub today: u64,
    pub this_month: u64,
}

#[derive(Debug)]
pub struct Permits {
    /// How long the kernel keeps a permit by itself.
    lasts: Duration,
    carried: Option<Carried>,
    link: Link,
    states: BTreeMap<Name, MappingState>,
    words: BTreeMap<Name, Word>,
    own: BTreeSet<IpAddr>,
    secrets: BTreeSet<String>,
    used: BTreeMap<Name, Used>,
    held: BTreeMap<Name, Held>,
    /// Their permits went with a table, and what those let in may go on if they come back.
    waiting: BTreeMap<Name, u16>,
    /// Taken away, but the kernel refused: tried again with every decision.
    owed: BTreeMap<u16, Name>,
    since: BTreeMap<Name, (Option<Blocked>, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Gone,
    /// It may still carry by something else than what stands.
    Waiting,
    /// It carries what stands. `asked`: whether what it should know of its upstreams was asked for.
    Ready {
        asked: bool,
    },
}

/// The last that was said of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    health: Health,
    /// Where it last came out: a failed connection tells nothing about that.
    exit: Option<IpAddr>,
    /// When it was said, by the boot clock, and whether it was asked for again since.
    heard: Duration,
    asked: bool,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    id: u16,
    /// Boot clock.
    renewed: Duration,
}

/// Words of a peer are kept and shown, so they are cut.
const LONGEST_WORDS: usize = 300;

/// A round comes every 30 seconds and takes 5 at most. Then the word is asked for; a forwarder that does not give it although it is
/// connected has stopped, and nobody knows any more where its flows come out.
const ASKED_AFTER: Duration = Duration::from_secs(36);
const BELIEVED_FOR: Duration = Duration::from_secs(45);

impl Permits {
    pub fn new(lasts: Duration) -> Permits {
        Permits {
            lasts,
            carried: None,
            link: Link::Gone,
            states: BTreeMap::new(),
            words: BTreeMap::new(),
            own: BTreeSet::new(),
            secrets: BTreeSet::new(),
            used: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            owed: BTreeMap::new(),
            since: BTreeMap::new(),
        }
    }

    /// All that happened since the last call, and then one decision: a storm of messages costs one look at the mappings.
    pub fn handle(&mut self, inputs: impl IntoIterator<Item = Input>, now: Now) -> Vec<Effect> {
        let mut effects = vec![];
        for input in inputs {
            effects.extend(self.hear(input, now));
        }
        effects.extend(self.decide(now));
        effects
    }

    pub fn is_connected(&self) -> bool {
        self.link != Link::Gone
    }

    /// The forwarder carries what stands.
    pub fn is_ready(&self) -> bool {
        matches!(self.link, Link::Ready { .. })
    }

    pub fn health(&self) -> BTreeMap<Name, Health> {
        self.words.iter().map(|(name, word)| (name.clone(), word.health.clone())).collect()
    }

    /// Whether this upstream may carry, as far as one probe says. Err is why not, in words.
    pub fn judge(&self, upstream: &Name, health: &Health) -> Result<(), String> {
        let Some(carried) = &self.carried else { return Err("nothing stands".into()) };
        reasons::judge_probe(&carried.proxy, &self.own, upstream, health)
    }

    /// The secret that keeps this upstream from being used.
    pub fn missing_secret(&self, upstream: &Name) -> Option<String> {
        let upstream = self.carried.as_ref()?.proxy.upstreams.get(upstream)?;
        upstream.password.clone().filter(|name| !self.secrets.contains(name))
    }

    pub fn missing_secrets(&self) -> BTreeSet<String> {
        let upstreams = self.carried.iter().flat_map(|carried| carried.proxy.upstreams.values());
        upstreams.filter_map(|upstream| upstream.password.clone()).filter(|name| !self.secrets.contains(name)).collect()
    }

    pub fn shown(&self) -> BTreeMap<Name, Shown> {
        let Some(carried) = &self.carried else { return BTreeMap::new() };
        let shown = |(name, mapping): (&Name, &policy::plan::proxy::Mapping)| {
            let used = self.used.get(name).copied().unwrap_or_default();
            let (blocked, since) = self.since.get(name).cloned().unwrap_or((Some(Blocked::NoForwarder), 0));
            let effect = Shown {
                permitted: self.held.contains_key(name),
                blocked,
                since,
                state: self.states.get(name).cloned(),
                today: used.today,
                this_month: used.this_month,
                daily: mapping.quota.daily,
                monthly: mapping.quota.monthly,
            };
            (name.clone(), effect)
        };
        carried.proxy.mappings.iter().map(shown).collect()
    }

    fn hear(&mut self, input: Input, now: Now) -> Vec<Effect> {
        match input {
            Input::Stands(carried) => return self.stands(carried),
            Input::Emptied => {
                let held = std::mem::take(&mut self.held);
                self.waiting.extend(held.into_iter().map(|(name, held)| (name, held.id)));
                self.owed.clear();
            }
            Input::Connected => {
                self.link = Link::Waiting;
                self.states.clear();
                self.words.clear();
            }
            Input::Disconnected => {
                self.link = Link::Gone;
                self.states.clear();
            }
            Input::Said(message) => self.said(message, now),
            Input::Own(own) => self.own = own,
            Input::Secrets(secrets) => self.secrets = secrets,
            Input::Used(used) => self.used = used,
            Input::NotGranted(id) => self.held.retain(|_, held| held.id != id),
            Input::NotWithdrawn { mapping, id } => drop(self.owed.insert(id, mapping)),
        }
        vec![]
    }

    /// What let a mapping in that is not the same any more is ended; the others' flows wait until their permit is there again.
    fn stands(&mut self, carried: Option<Carried>) -> Vec<Effect> {
        let before = std::mem::replace(&mut self.carried, carried);
        let mut lost = std::mem::take(&mut self.waiting);
        lost.extend(std::mem::take(&mut self.held).into_iter().map(|(name, held)| (name, held.id)));
        self.owed.clear();
        self.states.clear();
        if self.link != Link::Gone {
            self.link = Link::Waiting;
        }
        let after = self.carried.as_ref().map(|carried| &*carried.proxy);
        let before = before.as_ref().map(|carried| &*carried.proxy);
        let upstream = |proxy: Option<&Proxy>, name: &Name| proxy.and_then(|proxy| proxy.upstreams.get(name).cloned());
        self.words.retain(|name, _| upstream(after, name).is_some() && upstream(after, name) == upstream(before, name));
        self.since.retain(|name, _| after.is_some_and(|after| after.mappings.contains_key(name)));
        let goes_on = |name: &Name, id: u16| {
            let same_id = after.and_then(|after| after.mappings.get(name)).is_some_and(|mapping| mapping.id == id);
            same_id && before.zip(after).is_some_and(|(before, after)| same_way(before, after, name))
        };
        let (waiting, ended) = lost.into_iter().partition(|(name, id)| goes_on(name, *id));
        self.waiting = waiting;
        let why = "another policy stands".to_owned();
        BTreeMap::into_iter(ended).map(|(mapping, id)| Effect::End { mapping, id, why: why.clone() }).collect()
    }

    fn said(&mut self, message: FromForwarder, now: Now) {
        let Some(carried) = self.carried.as_mut() else { return };
        match message {
            FromForwarder::Became { generation } if generation == carried.generation && self.link == Link::Waiting => {
                self.link = Link::Ready { asked: false };
            }
            FromForwarder::Mappings { generation, states } if generation == carried.generation && self.link != Link::Gone => {
                let known = states.into_iter().filter(|(name, _)| carried.proxy.mappings.contains_key(name));
                self.states.extend(known.map(|(name, state)| (name, cut_state(state))));
            }
            FromForwarder::Health { generation, upstream, mut health }
                if generation == carried.generation && carried.proxy.upstreams.contains_key(&upstream) =>
            {
                health.why = health.why.map(cut);
                health.exit = health.exit.map(|exit| exit.to_canonical());
                if reasons::judge_probe(&carried.proxy, &self.own, &upstream, &health).is_ok() {
                    let proxy = carried.proxy.clone();
                    carried.unproven.retain(|name| !super::members(&proxy, name).contains(&upstream));
                }
                let last = self.words.get(&upstream);
                let exit = health.exit.or_else(|| last?.exit);
                // Said once more, for another generation, it is not newer.
                let same = last.filter(|last| last.health.at == health.at);
                let (heard, asked) = same.map_or((now.boot, false), |last| (last.heard, last.asked));
                self.words.insert(upstream, Word { health, exit, heard, asked });
            }
            // Usage is counted elsewhere; what is said of another generation is of no use here.
            FromForwarder::Became { .. } | FromForwarder::Mappings { .. } | FromForwarder::Health { .. } | FromForwarder::Usage { .. } => {}
        }
    }

    fn decide(&mut self, now: Now) -> Vec<Effect> {
        let mut withdrawn: Vec<Effect> = vec![];
        let mut granted = vec![];
        let mut asked = vec![];
        if let Some(carried) = self.carried.take() {
            for (name, mapping) in &carried.proxy.mappings {
                let open = reasons::open_for(mapping, now.wall);
                let blocked = self.blocked(&carried, name, mapping, open, now.boot);
                match (&blocked, self.held.get(name)) {
                    (None, held) => {
                        if held.is_none_or(|held| now.boot >= held.renewed + self.lasts / RENEWED_WITHIN) {
                            let lasts = open.map_or(self.lasts, |left| left.min(self.lasts));
                            self.held.insert(name.clone(), Held { id: mapping.id, renewed: now.boot });
                            self.owed.remove(&mapping.id);
                            self.waiting.remove(name);
                            granted.push(Effect::Grant { id: mapping.id, lasts });
                        }
                    }
                    (Some(blocked), Some(held)) => {
                        withdrawn.push(Effect::Withdraw { mapping: name.clone(), id: held.id, why: reasons::told(blocked) });
                        self.held.remove(name);
                    }
                    // It may be let in again in a moment.
                    (Some(Blocked::NoForwarder), None) if self.link != Link::Gone => {}
                    (Some(blocked), None) => {
                        let ended = self.waiting.remove(name);
                        let why = || reasons::told(blocked);
                        withdrawn.extend(ended.map(|id| Effect::End { mapping: name.clone(), id, why: why() }));
                    }
                }
                let changed = self
                    .since
                    .get(name)
                    .is_none_or(|(last, _)| last.as_ref().map(std::mem::discriminant) != blocked.as_ref().map(std::mem::discriminant));
                match self.since.get_mut(name) {
                    Some(since) if !changed => since.0 = blocked,
                    _ => drop(self.since.insert(name.clone(), (blocked, now.wall))),
                }
            }
            if self.link == (Link::Ready { asked: false }) {
                self.link = Link::Ready { asked: true };
                asked.extend(carried.proxy.upstreams.keys().filter(|name| !self.words.contains_key(*name)).cloned());
            }
            if self.is_ready() {
                asked.extend(self.grown_old(now.boot));
            }
            self.carried = Some(carried);
        }
        let again = std::mem::take(&mut self.owed).into_iter();
        withdrawn.extend(again.map(|(id, mapping)| Effect::Withdraw { mapping, id, why: "its permit is gone".into() }));
        withdrawn.into_iter().chain(granted).chain(Some(asked).filter(|names| !names.is_empty()).map(Effect::Probe)).collect()
    }

    /// Upstreams of which nothing was heard for longer than a round, each once.
    fn grown_old(&mut self, boot: Duration) -> Vec<Name> {
        let old = self.words.iter_mut().filter(|(_, word)| !word.asked && boot >= word.heard + ASKED_AFTER);
        old.map(|(name, word)| {
            word.asked = true;
            name.clone()
        })
        .collect()
    }
}

/// A permit is renewed when this part of its time has passed: after 15 of 90 seconds.
const RENEWED_WITHIN: u32 = 6;

fn cut(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(LONGEST_WORDS));
    words
}

fn cut_state(state: MappingState) -> MappingState {
    match state {
        MappingState::Down { why } => MappingState::Down { why: cut(why) },
        up @ MappingState::Up { .. } => up,
    }
}
