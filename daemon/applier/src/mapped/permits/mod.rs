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

use super::alike;
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
}

#[derive(Debug, Clone, Copy)]
struct Held {
    id: u16,
    /// Boot clock.
    renewed: Duration,
}

/// Words of a peer are kept and shown, so they are cut.
const LONGEST_WORDS: usize = 300;

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
            owed: BTreeMap::new(),
            since: BTreeMap::new(),
        }
    }

    /// All that happened since the last call, and then one decision: a storm of messages costs one look at the mappings.
    pub fn handle(&mut self, inputs: impl IntoIterator<Item = Input>, now: Now) -> Vec<Effect> {
        let mut effects = vec![];
        for input in inputs {
            effects.extend(self.hear(input));
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

    fn hear(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Stands(carried) => return self.stands(carried),
            Input::Emptied => {
                self.held.clear();
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
            Input::Said(message) => self.said(message),
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
        let held = std::mem::take(&mut self.held);
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
            same_id && before.zip(after).is_some_and(|(before, after)| alike(before, after, name))
        };
        let ended = held.into_iter().filter(|(name, held)| !goes_on(name, held.id));
        let why = "another policy stands".to_owned();
        ended.map(|(mapping, held)| Effect::End { mapping, id: held.id, why: why.clone() }).collect()
    }

    fn said(&mut self, message: FromForwarder) {
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
                let exit = health.exit.or_else(|| self.words.get(&upstream)?.exit);
                self.words.insert(upstream, Word { health, exit });
            }
            // Usage is counted elsewhere; what is said of another generation is of no use here.
            FromForwarder::Became { .. } | FromForwarder::Mappings { .. } | FromForwarder::Health { .. } | FromForwarder::Usage { .. } => {}
        }
    }

    fn decide(&mut self, now: Now) -> Vec<Effect> {
        let mut withdrawn: Vec<Effect> = vec![];
        let mut granted = vec![];
        let mut asked = None;
        if let Some(carried) = self.carried.take() {
            for (name, mapping) in &carried.proxy.mappings {
                let open = reasons::open_for(mapping, now.wall);
                let blocked = self.blocked(&carried, name, mapping, open);
                match (&blocked, self.held.get(name)) {
                    (None, held) => {
                        if held.is_none_or(|held| now.boot >= held.renewed + self.lasts / RENEWED_WITHIN) {
                            let lasts = open.map_or(self.lasts, |left| left.min(self.lasts));
                            self.held.insert(name.clone(), Held { id: mapping.id, renewed: now.boot });
                            self.owed.remove(&mapping.id);
                            granted.push(Effect::Grant { id: mapping.id, lasts });
                        }
                    }
                    (Some(blocked), Some(held)) => {
                        withdrawn.push(Effect::Withdraw { mapping: name.clone(), id: held.id, why: reasons::told(blocked) });
                        self.held.remove(name);
                    }
                    (Some(_), None) => {}
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
                asked = Some(carried.proxy.upstreams.keys().filter(|name| !self.words.contains_key(*name)).cloned().collect());
            }
            self.carried = Some(carried);
        }
        let again = std::mem::take(&mut self.owed).into_iter();
        withdrawn.extend(again.map(|(id, mapping)| Effect::Withdraw { mapping, id, why: "its permit is gone".into() }));
        withdrawn.into_iter().chain(granted).chain(asked.filter(|names: &Vec<Name>| !names.is_empty()).map(Effect::Probe)).collect()
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
