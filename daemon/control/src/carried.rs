//! Mapped clients and their upstreams: what the applier lets in, what the forwarder carries, and both beside each other.

use std::sync::{Arc, Mutex, PoisonError};

use policy::messages::forwarder::{ForwarderStatus, Health, HealthStatus, MappingState, MappingTraffic};
use policy::messages::proxy::{Blocked, Effect, ProxyStatus};
use policy::messages::{ApplierRequest, ApplierResponse};
use policy::name::Name;

use crate::actor::Actor;
use crate::applier::unexpected;
use crate::audit::Note;
use crate::site::Site;
use crate::trouble::Trouble;

/// What both last said. Asked again when it is older than a second and somebody wants to know: a box that nobody looks at asks nothing.
#[derive(Debug, Default)]
pub struct Carrying {
    known: Mutex<Option<Arc<Known>>>,
}

/// None where nobody answered; why, in the system's words.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub applier: Option<ProxyStatus>,
    pub forwarder: Option<ForwarderStatus>,
    pub applier_away: Option<String>,
    pub forwarder_away: Option<String>,
    /// Milliseconds since the epoch.
    pub at: u64,
}

/// Milliseconds for which an answer is good enough for everybody who asks.
const FRESH: u64 = 1_000;

impl Carrying {
    pub fn look(&self, site: &Site) -> Arc<Known> {
        // Held while asking, so that many who look at once ask once.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = site.now();
        if let Some(known) = known.as_ref().filter(|known| now.abs_diff(known.at) < FRESH) {
            return known.clone();
        }
        let (applier, applier_away) = told(site.applier.proxy());
        let (forwarder, forwarder_away) = told(site.forwarder.status());
        let fresh = Arc::new(Known { applier, forwarder, applier_away, forwarder_away, at: now });
        *known = Some(fresh.clone());
        fresh
    }

    /// Something was just changed: the next look asks.
    pub fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn told<T>(answer: Result<T, Trouble>) -> (Option<T>, Option<String>) {
    match answer {
        Ok(value) => (Some(value), None),
        Err(Trouble::ApplierAway(why) | Trouble::ForwarderAway(why)) => (None, Some(why)),
        Err(trouble) => (None, Some(trouble.to_string())),
    }
}

impl Known {
    pub fn effect(&self, mapping: &Name) -> Option<&Effect> {
        self.applier.as_ref()?.mappings.get(mapping)
    }

    pub fn traffic(&self, mapping: &Name) -> Option<&MappingTraffic> {
        self.forwarder.as_ref()?.mappings.get(mapping)
    }

    /// The later of the two words on an upstream.
    pub fn health(&self, upstream: &Name) -> Option<&Health> {
        let forwarders = self.forwarder.as_ref().and_then(|status| Some(&status.upstreams.get(upstream)?.health));
        let appliers = self.applier.as_ref().and_then(|status| status.upstreams.get(upstream));
        [forwarders, appliers].into_iter().flatten().max_by_key(|health| health.at)
    }

    /// Oldest first.
    pub fn history(&self, upstream: &Name) -> &[Health] {
        self.forwarder.as_ref().and_then(|status| status.upstreams.get(upstream)).map_or(&[], |upstream| &upstream.history)
    }

    /// The upstream that carries the mapping now.
    pub fn upstream_of(&self, mapping: &Name) -> Option<&Name> {
        let states = [self.traffic(mapping).map(|traffic| &traffic.state), self.effect(mapping).and_then(|effect| effect.state.as_ref())];
        states.into_iter().flatten().find_map(|state| match state {
            MappingState::Up { upstream } => Some(upstream),
            MappingState::Down { .. } => None,
        })
    }

    /// Permitted and blocked mappings; None while the applier does not tell.
    pub fn permits(&self) -> Option<(usize, usize)> {
        let mappings = &self.applier.as_ref()?.mappings;
        let permitted = mappings.values().filter(|effect| effect.permitted).count();
        Some((permitted, mappings.len() - permitted))
    }

    pub fn flows(&self) -> Option<u64> {
        Some(self.forwarder.as_ref()?.flows)
    }
}

/// Whether an upstream in this state is given new flows.
pub fn carries(status: HealthStatus) -> bool {
    matches!(status, HealthStatus::Healthy | HealthStatus::Degraded)
}

/// A reason as a stable word, for programs.
pub fn reason(blocked: &Blocked) -> &'static str {
    match blocked {
        Blocked::NoForwarder => "no-forwarder",
        Blocked::UpstreamDown { .. } => "upstream-down",
        Blocked::WrongExit { .. } => "wrong-exit",
        Blocked::DailyQuota => "daily-quota",
        Blocked::MonthlyQuota => "monthly-quota",
        Blocked::Schedule => "schedule",
        Blocked::Disabled => "disabled",
        Blocked::SecretMissing { .. } => "secret-missing",
    }
}

/// Why a mapping is blocked, as a sentence for people.
pub fn why(blocked: &Blocked) -> String {
    match blocked {
        Blocked::NoForwarder => "The forwarder is not there or has not taken this generation yet.".to_owned(),
        Blocked::UpstreamDown { why } => format!("No upstream carries it: {why}."),
        Blocked::WrongExit { why } => format!("It would come out at a wrong address: {why}."),
        Blocked::DailyQuota => "The bytes of this day are spent.".to_owned(),
        Blocked::MonthlyQuota => "The bytes of this month are spent.".to_owned(),
        Blocked::Schedule => "It is outside of its hours.".to_owned(),
        Blocked::Disabled => "The policy switches it off.".to_owned(),
        Blocked::SecretMissing { name } => format!("The secret {name} is not set."),
    }
}

/// Longer than any password that a proxy takes (RFC 1929 has 255 bytes for it).
const MOST_SECRET: usize = 255;

/// Keeps a secret with the applier. Its value is in no log, no answer and no database of ours.
pub fn set_secret(site: &Site, actor: &Actor, name: &str, value: &str) -> Result<(), Trouble> {
    if value.is_empty() {
        return Err(Trouble::field("value", "is empty; remove the secret instead"));
    }
    if value.len() > MOST_SECRET || value.chars().any(char::is_control) {
        return Err(Trouble::field("value", format!("must be one line of at most {MOST_SECRET} bytes")));
    }
    keep(site, actor, name, value, Note::new("secret.set", format!("secret {name}"), ""))
}

pub fn remove_secret(site: &Site, actor: &Actor, name: &str) -> Result<(), Trouble> {
    let known = site.applier.proxy()?;
    if !known.secrets.iter().any(|secret| secret == name) {
        return Err(Trouble::no_such("secret", name));
    }
    keep(site, actor, name, "", Note::new("secret.remove", format!("secret {name}"), ""))
}

fn keep(site: &Site, actor: &Actor, name: &str, value: &str, note: Note) -> Result<(), Trouble> {
    let name = Name::try_from(name).map_err(|bad| Trouble::field("name", bad.to_string()))?;
    let request = ApplierRequest::SetSecret { name: name.to_string(), value: value.to_owned(), by: actor.principal() };
    match site.applier.ask(&request)? {
        ApplierResponse::Done => {}
        other => return Err(unexpected(&other)),
    }
    site.carried.forget();
    site.change(actor, |ledger| ledger.note(note))
}
