//! Mapped clients: who of them is let in to the forwarder, and everything that this takes.
//!
//! ```text
//!  forwarder ◀──▶ link ──┐               ┌──▶ kernel   permits, the ends of flows
//!  plan, time ───────────┼──▶ permits ───┼──▶ link     End, Probe
//!  secrets, usage ───────┘   (decides)   └──▶ status
//!                                 proof: whether a change may go on trial
//! ```

mod deeds;
mod link;
mod permits;
mod proof;
mod rates;
mod record;
#[cfg(test)]
pub mod samples;
mod secrets;
mod sockets;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::poll::PollFlags;
use policy::messages::forwarder::{FromForwarder, ToForwarder};
use policy::messages::proxy::ProxyStatus;
use policy::name::Name;
use policy::plan::proxy::{Mapping, Proxy, Via};
use tracing::{info, warn};

use crate::clock::{Now, now};
use crate::flows;
use crate::store::Folder;
use deeds::Deeds;
use link::{Heard, Link};
use permits::{Carried, Effect, Input, Permits};
use proof::Proof;
use record::Recorder;
use secrets::Secrets;
use sockets::Sockets;
use usage::Usage;

pub use proof::{PATIENCE as PROBED_WITHIN, to_prove};
pub use rates::rates;
pub use secrets::Secret;

/// What the kernel does for mapped clients; the gate.
pub trait Door {
    fn grant(&mut self, permits: &[(u16, Duration)]) -> Result<(), String>;
    fn withdraw(&mut self, ids: &[u16]) -> Result<(), String>;
    /// Connections that carry these mappings' marks.
    fn end_flows(&mut self, ids: &[u16]) -> Result<(), String>;
}

pub struct Mapped {
    permits: Permits,
    link: Link,
    secrets: Secrets<Folder>,
    usage: Usage,
    recorder: Recorder,
    proof: Option<Proof>,
    stands: Stands,
    own: BTreeSet<IpAddr>,
    /// Results that the next decision takes into account.
    heard: Vec<Input>,
}

/// What the forwarder is to carry. Generation 0 is lockdown, and nothing.
struct Stands {
    generation: u64,
    proxy: Rc<Proxy>,
    timezone: String,
}

pub struct Setup<'a> {
    pub run_dir: &'a Path,
    pub state_dir: PathBuf,
    pub forwarder: u32,
    /// How long a permit outlives us.
    pub lasts: Duration,
}

impl Mapped {
    pub fn open(setup: Setup) -> Result<Mapped, String> {
        let (secrets, remarks) = Secrets::open(Folder(setup.state_dir.clone()));
        let (usage, remark) = Usage::read(&Folder(setup.state_dir.clone()));
        let (sockets, closed) = Sockets::new(open_sockets);
        let closed = closed.map(|why| format!("the forwarder's sockets could not be opened: {why}"));
        remarks.into_iter().chain(remark).chain(closed).for_each(|remark| warn!("{remark}"));
        let place = setup.run_dir.join("forwarder-link.sock");
        let link =
            Link::open(&place, setup.forwarder, sockets).map_err(|error| format!("could not listen at {}: {error}", place.display()))?;
        let mut permits = Permits::new(setup.lasts);
        permits.handle([Input::Secrets(secrets.names())], now());
        let stands = Stands { generation: 0, proxy: Rc::default(), timezone: String::new() };
        let recorder = Recorder::start(setup.state_dir);
        Ok(Mapped { permits, link, secrets, usage, recorder, proof: None, stands, own: BTreeSet::new(), heard: vec![] })
    }

    /// What to poll, for `turn`.
    pub fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        self.link.interests()
    }

    /// What came over the link.
    pub fn turn(&mut self, door: &mut impl Door) {
        let heard = self.link.turn(now().boot);
        self.take(heard, door);
    }

    pub fn tick(&mut self, door: &mut impl Door) {
        // A link that is stuck is found here.
        let heard = self.link.turn(now().boot);
        self.look_at_addresses();
        let used = self.usage.used(&self.stands.timezone, now().wall);
        self.heard.push(Input::Used(used));
        self.take(heard, door);
        self.recorder.keep(&self.usage, false);
    }

    /// A table without permits was put in. None is lockdown.
    pub fn stand(&mut self, generation: Option<(u64, &Proxy, &str)>, unproven: BTreeSet<Name>, door: &mut impl Door) {
        self.proof = None;
        let (number, proxy, timezone) =
            generation.map_or((0, Rc::default(), ""), |(number, proxy, zone)| (number, Rc::new(proxy.clone()), zone));
        self.stands = Stands { generation: number, proxy, timezone: timezone.into() };
        self.look_at_addresses();
        let proxy = self.stands.proxy.clone();
        self.usage.forget(|name| proxy.mappings.contains_key(name));
        self.heard.push(Input::Used(self.usage.used(&self.stands.timezone, now().wall)));
        let carried = generation.map(|_| Carried { generation: number, proxy, unproven });
        self.heard.push(Input::Stands(carried));
        let lost = self.tell();
        self.take(lost, door);
    }

    /// The standing table was put in anew.
    pub fn emptied(&mut self, door: &mut impl Door) {
        self.heard.push(Input::Emptied);
        self.take(vec![], door);
    }

    /// Finds out whether these can be carried; `verdict` tells.
    pub fn prove(&mut self, mappings: &BTreeSet<Name>, door: &mut impl Door) {
        let mut proof = Proof::new(&self.stands.proxy, mappings, now().boot);
        for upstream in proof.upstreams() {
            if let Some(secret) = self.permits.missing_secret(&upstream) {
                proof.lacks_secret(&upstream, &secret);
            }
        }
        self.proof = Some(proof);
        self.take(vec![], door);
    }

    /// Once, when it is there.
    pub fn verdict(&mut self) -> Option<Result<(), String>> {
        let verdict = self.proof.as_ref()?.verdict(now().boot)?;
        self.proof = None;
        Some(verdict)
    }

    pub fn set_secret(&mut self, name: &str, value: Secret, door: &mut impl Door) -> Result<(), String> {
        self.secrets.set(name, value)?;
        self.heard.push(Input::Secrets(self.secrets.names()));
        let mut lost = self.tell();
        // Whether it is the right one is known at once, and not with the next round.
        let of_it = self.stands.proxy.upstreams.iter().filter(|(_, upstream)| upstream.password.as_deref() == Some(name));
        let upstreams: Vec<Name> = of_it.map(|(upstream, _)| upstream.clone()).collect();
        if !upstreams.is_empty() {
            lost.extend(self.link.say(&ToForwarder::Probe { upstreams }, now().boot));
        }
        self.take(lost, door);
        Ok(())
    }

    /// All upstreams when none is named.
    pub fn probe(&mut self, upstreams: Vec<String>, door: &mut impl Door) -> Result<(), String> {
        let known = |text: String| {
            let name = Name::try_from(text.as_str()).ok().filter(|name| self.stands.proxy.upstreams.contains_key(name));
            name.ok_or_else(|| format!("the policy that stands has no upstream {text}"))
        };
        let mut names: Vec<Name> = upstreams.into_iter().map(known).collect::<Result<_, _>>()?;
        if names.is_empty() {
            names = self.stands.proxy.upstreams.keys().cloned().collect();
        }
        if !self.permits.is_connected() {
            return Err("the forwarder is not there to probe anything".into());
        }
        let lost = self.link.say(&ToForwarder::Probe { upstreams: names }, now().boot);
        self.take(lost, door);
        Ok(())
    }

    pub fn status(&self, now: Now) -> ProxyStatus {
        ProxyStatus {
            now: now.wall,
            forwarder_connected: self.permits.is_connected(),
            mappings: self.permits.shown(),
            upstreams: self.permits.health(),
            secrets: self.secrets.names().into_iter().collect(),
            secrets_missing: self.permits.missing_secrets().into_iter().collect(),
        }
    }

    /// What was counted is written before the process ends.
    pub fn finish(&mut self) {
        self.recorder.finish(&self.usage);
    }

    /// Everything that was heard, one decision, and what follows from it; again for what was lost on the way.
    fn take(&mut self, heard: Vec<Heard>, door: &mut impl Door) {
        let mut heard = heard;
        for _ in 0..MOST_ROUNDS {
            for what in std::mem::take(&mut heard) {
                heard.extend(self.hear(what));
            }
            let inputs = std::mem::take(&mut self.heard);
            let effects = self.permits.handle(inputs, now());
            heard.extend(self.act(effects, door));
            heard.extend(self.go_on_proving());
            if heard.is_empty() {
                return;
            }
        }
    }

    /// Returns what was lost over it.
    fn hear(&mut self, heard: Heard) -> Vec<Heard> {
        match heard {
            Heard::Connected(pid) => {
                self.usage.connected(&record::identity(pid));
                self.heard.push(Input::Connected);
                self.tell()
            }
            Heard::Disconnected => {
                self.heard.push(Input::Disconnected);
                vec![]
            }
            Heard::Said(FromForwarder::Usage { bytes }) => {
                let zone = &self.stands.timezone;
                let mappings = &self.stands.proxy.mappings;
                if self.usage.said(&bytes, |name| mappings.contains_key(name), zone, now().wall) {
                    self.heard.push(Input::Used(self.usage.used(zone, now().wall)));
                    self.recorder.changed();
                }
                vec![]
            }
            Heard::Said(message) => {
                let again = self.test(&message);
                self.heard.push(Input::Said(message));
                again.map_or(vec![], |upstream| self.link.say(&ToForwarder::Probe { upstreams: vec![upstream] }, now().boot))
            }
        }
    }

    /// What a probe says to the health gate. Returns what should be probed again.
    fn test(&mut self, message: &FromForwarder) -> Option<Name> {
        let proof = self.proof.as_mut()?;
        match message {
            FromForwarder::Health { generation, upstream, health } if *generation == self.stands.generation => {
                proof.heard(upstream, health.at, self.permits.judge(upstream, health)).then(|| upstream.clone())
            }
            _ => None,
        }
    }

    fn go_on_proving(&mut self) -> Vec<Heard> {
        let Some(proof) = self.proof.as_mut().filter(|_| self.permits.is_ready()) else { return vec![] };
        match proof.begin(now().wall) {
            upstreams if upstreams.is_empty() => vec![],
            upstreams => self.link.say(&ToForwarder::Probe { upstreams }, now().boot),
        }
    }

    /// The kernel first, and in it what shuts; then the forwarder; what takes long last.
    fn act(&mut self, effects: Vec<Effect>, door: &mut impl Door) -> Vec<Heard> {
        let mut deeds = Deeds::of(effects);
        if !deeds.withdrawn.is_empty() {
            let ids: Vec<u16> = deeds.withdrawn.iter().map(|(_, id)| *id).collect();
            if let Err(why) = door.withdraw(&ids) {
                warn!(why, "permits could not be withdrawn; it is tried again, and the kernel lets them lapse");
                let again = deeds.withdrawn.drain(..).map(|(mapping, id)| Input::NotWithdrawn { mapping, id });
                self.heard.extend(again);
            }
        }
        if !deeds.granted.is_empty()
            && let Err(why) = door.grant(&deeds.granted)
        {
            warn!(why, "permits could not be granted");
            self.heard.extend(deeds.granted.iter().map(|(id, _)| Input::NotGranted(*id)));
        }
        let mut lost = vec![];
        for (why, mappings) in deeds.ended {
            info!(mappings = ?mappings.iter().map(Name::as_str).collect::<Vec<_>>(), why, "not let in any more");
            lost.extend(self.link.say(&ToForwarder::End { mappings, why }, now().boot));
        }
        let asked = |name: &Name| self.proof.as_ref().is_none_or(|proof| !proof.upstreams().contains(name));
        deeds.probed.retain(asked);
        if !deeds.probed.is_empty() {
            lost.extend(self.link.say(&ToForwarder::Probe { upstreams: deeds.probed }, now().boot));
        }
        if !deeds.ids.is_empty() {
            if let Err(why) = door.end_flows(&deeds.ids) {
                warn!(why, "connections of mapped clients could not be ended");
            }
            self.recorder.keep(&self.usage, true);
        }
        lost
    }

    /// What to carry by, with the secrets that it takes.
    fn tell(&mut self) -> Vec<Heard> {
        let proxy = (*self.stands.proxy).clone();
        let names = proxy.upstreams.values().filter_map(|upstream| upstream.password.clone());
        let secrets: BTreeMap<String, String> =
            names.filter_map(|name| Some((name.clone(), self.secrets.get(&name)?.reveal().to_owned()))).collect();
        let own = self.own.iter().copied().collect();
        let message = ToForwarder::Become { generation: self.stands.generation, proxy, secrets, own };
        self.link.say(&message, now().boot)
    }

    fn look_at_addresses(&mut self) {
        if self.stands.proxy.mappings.is_empty() {
            return;
        }
        match flows::own_addresses() {
            Ok(own) if own != self.own => {
                self.own = own.clone();
                self.heard.push(Input::Own(own));
                // A link that is lost over it is found by the next turn.
                self.tell();
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "the box's own addresses could not be read"),
        }
    }
}

/// What is lost while it acts makes it act again; each time there is less to lose.
const MOST_ROUNDS: usize = 8;

/// The upstreams that may carry a mapping.
pub fn members(proxy: &Proxy, mapping: &Name) -> BTreeSet<Name> {
    match proxy.mappings.get(mapping).map(|mapping| &mapping.via) {
        Some(Via::Upstream(name)) => BTreeSet::from([name.clone()]),
        Some(Via::Group(name)) => proxy.groups.get(name).map(|group| group.members.iter().cloned().collect()).unwrap_or_default(),
        None => BTreeSet::new(),
    }
}

/// Whether a mapping's clients go the same way in both: the same clients, by the same upstreams, in the same manner. How much and when
/// they may is not part of it, nor is its number.
pub fn same_way(before: &Proxy, after: &Proxy, name: &Name) -> bool {
    let (Some(old), Some(new)) = (before.mappings.get(name), after.mappings.get(name)) else { return false };
    let group = |proxy: &Proxy| match &new.via {
        Via::Group(group) => proxy.groups.get(group).cloned(),
        Via::Upstream(_) => None,
    };
    let Mapping { enabled, clients, macs, via, tcp, udp, dns, id: _, interfaces: _, quota: _, schedule: _ } = new;
    let same_manner = (enabled, clients, macs) == (&old.enabled, &old.clients, &old.macs)
        && (via, tcp, udp, dns) == (&old.via, &old.tcp, &old.udp, &old.dns);
    let same_upstream = |member: &Name| before.upstreams.get(member) == after.upstreams.get(member);
    same_manner && group(before) == group(after) && members(after, name).iter().all(same_upstream)
}

fn open_sockets() -> Result<Vec<OwnedFd>, String> {
    kernel::sockets::for_the_forwarder().map_err(|error| crate::gate::told(&error))
}
