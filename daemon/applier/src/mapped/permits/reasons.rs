//! Why a mapping is not let in.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use policy::messages::forwarder::{Health, HealthStatus, MappingState};
use policy::messages::proxy::Blocked;
use policy::name::Name;
use policy::plan::Schedule;
use policy::plan::proxy::{Mapping, Proxy};

use super::{BELIEVED_FOR, Carried, Link, Permits};
use crate::mapped::members;
use crate::schedule;

impl Permits {
    /// What lasts longest is told first. `open` is for how long the schedule lets it, where there is one.
    pub(super) fn blocked(
        &self,
        carried: &Carried,
        name: &Name,
        mapping: &Mapping,
        open: Option<Duration>,
        boot: Duration,
    ) -> Option<Blocked> {
        let proxy = &*carried.proxy;
        let members = members(proxy, name);
        let used = self.used.get(name).copied().unwrap_or_default();
        if !mapping.enabled {
            return Some(Blocked::Disabled);
        }
        if mapping.schedule.is_some() && open.is_none() {
            return Some(Blocked::Schedule);
        }
        if mapping.quota.monthly.is_some_and(|most| used.this_month >= most) {
            return Some(Blocked::MonthlyQuota);
        }
        if mapping.quota.daily.is_some_and(|most| used.today >= most) {
            return Some(Blocked::DailyQuota);
        }
        let lacking: Vec<String> = members.iter().filter_map(|member| self.missing_in(proxy, member)).collect();
        if lacking.len() == members.len() {
            let missing = lacking.into_iter().next();
            return Some(missing.map_or(down("it has no upstream"), |name| Blocked::SecretMissing { name }));
        }
        match (self.link, self.states.get(name)) {
            (Link::Gone | Link::Waiting, _) | (Link::Ready { .. }, None) => Some(Blocked::NoForwarder),
            (Link::Ready { .. }, Some(MappingState::Down { why })) => {
                Some(self.wrong_exit(proxy, &members, |_| true).unwrap_or_else(|| down(why.clone())))
            }
            (Link::Ready { .. }, Some(MappingState::Up { upstream })) if !members.contains(upstream) => {
                Some(down(format!("the forwarder would carry it by {upstream}, which is none of its upstreams")))
            }
            (Link::Ready { .. }, Some(MappingState::Up { upstream })) => self.not_usable(carried, name, upstream, &members, boot),
        }
    }

    /// The forwarder would carry it. A group's flows may take any member that is up, so one that comes out wrong speaks against all.
    fn not_usable(&self, carried: &Carried, name: &Name, chosen: &Name, members: &BTreeSet<Name>, boot: Duration) -> Option<Blocked> {
        let proxy = &*carried.proxy;
        if let Some(wrong) = self.wrong_exit(proxy, members, carries) {
            return Some(wrong);
        }
        if carried.unproven.contains(name) {
            return Some(down(format!("{chosen} was not probed since this policy stands")));
        }
        let is_usable = |member: &Name| {
            let word = self.words.get(member).filter(|word| carries(&word.health));
            let exit = word.and_then(|word| word.exit);
            self.missing_in(proxy, member).is_none() && exit.is_some_and(|exit| judge_exit(proxy, &self.own, member, exit).is_ok())
        };
        let is_new = |member: &&Name| self.words.get(*member).is_some_and(|word| boot < word.heard + BELIEVED_FOR);
        let mut usable = members.iter().filter(|member| is_usable(member)).peekable();
        if usable.peek().is_some() {
            let silent = || down(format!("no probe of {chosen} was heard of for {} seconds", BELIEVED_FOR.as_secs()));
            return if usable.any(|member| is_new(&member)) { None } else { Some(silent()) };
        }
        let why = self.words.get(chosen).and_then(|word| word.health.why.clone());
        Some(down(why.unwrap_or_else(|| format!("no probe of {chosen} has come back yet"))))
    }

    fn wrong_exit(&self, proxy: &Proxy, members: &BTreeSet<Name>, which: impl Fn(&Health) -> bool) -> Option<Blocked> {
        let words = members.iter().filter_map(|member| Some((member, self.words.get(member)?)));
        words
            .filter(|(_, word)| which(&word.health))
            .filter_map(|(member, word)| judge_exit(proxy, &self.own, member, word.exit?).err())
            .map(|why| Blocked::WrongExit { why })
            .next()
    }

    fn missing_in(&self, proxy: &Proxy, upstream: &Name) -> Option<String> {
        proxy.upstreams.get(upstream)?.password.clone().filter(|name| !self.secrets.contains(name))
    }
}

/// One probe, taken for itself: it came back, and from where it should. Err names what is wrong without the upstream's name.
pub(super) fn judge_probe(proxy: &Proxy, own: &BTreeSet<IpAddr>, upstream: &Name, health: &Health) -> Result<(), String> {
    match health.exit {
        Some(exit) => judge_exit(proxy, own, upstream, exit)?,
        None => return Err(health.why.clone().unwrap_or_else(|| "its probe did not say where it comes out".into())),
    }
    match health.status {
        HealthStatus::Failed => Err(health.why.clone().unwrap_or_else(|| "it failed".into())),
        HealthStatus::Unknown | HealthStatus::Healthy | HealthStatus::Degraded => Ok(()),
    }
}

fn judge_exit(proxy: &Proxy, own: &BTreeSet<IpAddr>, name: &Name, exit: IpAddr) -> Result<(), String> {
    let Some(upstream) = proxy.upstreams.get(name) else { return Err(format!("{name} is no upstream")) };
    if own.contains(&exit) {
        return Err(format!("{name} comes out at {exit}, which is this box itself"));
    }
    if !upstream.expect_exit.is_empty() && !upstream.expect_exit.iter().any(|net| net.contains(&exit)) {
        let expected: Vec<String> = upstream.expect_exit.iter().map(ToString::to_string).collect();
        return Err(format!("{name} comes out at {exit} and not in {}", expected.join(", ")));
    }
    Ok(())
}

/// For how long a mapping with a schedule may be open from now on; None is closed, or there is no schedule.
pub(super) fn open_for(mapping: &Mapping, wall: u64) -> Option<Duration> {
    let schedule = mapping.schedule.as_ref()?;
    let schedule = Schedule { set: String::new(), timezone: schedule.timezone.clone(), open: schedule.open.clone() };
    schedule::open_for(&schedule, wall)
}

pub(super) fn told(blocked: &Blocked) -> String {
    match blocked {
        Blocked::NoForwarder => "the forwarder is not there, or has not answered yet".into(),
        Blocked::UpstreamDown { why } | Blocked::WrongExit { why } => why.clone(),
        Blocked::DailyQuota => "the day's quota is spent".into(),
        Blocked::MonthlyQuota => "the month's quota is spent".into(),
        Blocked::Schedule => "its time is over".into(),
        Blocked::Disabled => "it is not enabled".into(),
        Blocked::SecretMissing { name } => format!("the secret {name} is not set"),
    }
}

fn carries(health: &Health) -> bool {
    matches!(health.status, HealthStatus::Healthy | HealthStatus::Degraded)
}

fn down(why: impl Into<String>) -> Blocked {
    Blocked::UpstreamDown { why: why.into() }
}
