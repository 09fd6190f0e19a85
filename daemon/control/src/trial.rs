//! From the candidate to what runs: apply, confirm, go back. The applier decides; here it is asked, and written down.

use policy::messages::{ApplierRequest, ApplierResponse};
use policy::{Digest, Sources};
use serde::Serialize;
use std::collections::BTreeMap;

use crate::actor::Actor;
use crate::applier::unexpected;
use crate::audit::Note;
use crate::candidate;
use crate::hot_reload;
use crate::revision::{self, FoundIn, New, Outcome};
use crate::site::Site;
use crate::trouble::Trouble;

/// It runs, on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    pub revision: i64,
    pub generation: u64,
    /// Milliseconds since the epoch; without a confirmation until then it goes back by itself.
    pub deadline: u64,
    /// Microseconds by phase.
    pub phases: BTreeMap<String, u64>,
}

/// Applies the candidate, if it still is what was shown under this digest.
pub fn apply(site: &Site, actor: &Actor, digest: &str, message: &str, confirm_within: Option<u32>) -> Result<Applied, Trouble> {
    let candidate = candidate::get(site)?;
    let judged = candidate::judged(site, &candidate)?;
    if judged.digest.0 != digest {
        let text = "the candidate is no longer what you were shown; look at the preview again";
        return Err(Trouble::Conflict(text.to_owned()));
    }
    let applied = put_on_trial(site, actor, &candidate.sources, &judged.digest, message, confirm_within, FoundIn::Candidate)?;
    // It runs now, so nothing is left to be applied. Somebody may have written on meanwhile: theirs stays.
    site.db.change(|tx| {
        Ok(tx.execute("UPDATE candidate SET dirty = 0, version = version + 1, sources = '{}' WHERE version = ?1", [candidate.version])?)
    })?;
    Ok(applied)
}

/// Writes the revision down, asks the applier, and writes down what came of it.
pub(crate) fn put_on_trial(
    site: &Site,
    actor: &Actor,
    sources: &Sources,
    digest: &Digest,
    message: &str,
    confirm_within: Option<u32>,
    origin: FoundIn,
) -> Result<Applied, Trouble> {
    let before = site.applier.running().and_then(|running| Some(running.judged.as_ref()?.digest.0.clone())).unwrap_or_default();
    let message: String = message.chars().filter(|c| !c.is_control()).take(500).collect();
    let new =
        New { author: &actor.user, origin, message: &message, sources, digest: Some(&digest.0), generation: None, outcome: Outcome::Trial };
    let id = site.change(actor, |ledger| {
        let id = revision::add(ledger, &new)?;
        ledger.note(Note::new("policy.apply", format!("revision {id}"), message.clone()).from(before).to(digest.0.clone()))?;
        Ok(id)
    })?;
    let request = ApplierRequest::Apply { sources: sources.clone(), digest: digest.clone(), confirm_within, by: actor.principal() };
    let answer = site.applier.ask(&request).and_then(|answer| match answer {
        ApplierResponse::OnTrial { generation, deadline, phases } => Ok(Applied { revision: id, generation, deadline, phases }),
        other => Err(unexpected(&other)),
    });
    site.change(actor, |ledger| match &answer {
        Ok(applied) => {
            revision::became(ledger, id, Outcome::Trial, Some(applied.generation))?;
            ledger.note(Note::new("policy.trial", format!("revision {id}"), format!("runs on trial as generation {}", applied.generation)))
        }
        Err(trouble) => {
            revision::became(ledger, id, Outcome::Failed, None)?;
            ledger.note(Note::new("policy.failed", format!("revision {id}"), trouble.to_string()))
        }
    })?;
    refresh(site);
    answer
}

/// Keeps what is on trial. By whoever applied it, over a connection that was opened since.
pub fn confirm(site: &Site, actor: &Actor, generation: u64) -> Result<u64, Trouble> {
    let status = site.applier.status()?;
    let trial = status.trial.filter(|trial| trial.generation == generation);
    let trial = trial.ok_or_else(|| Trouble::Conflict(format!("generation {generation} is not on trial (any more)")))?;
    // The applier checks the same; asking here first lets the browser come again over a new connection by itself.
    if actor.client.connected_at.is_none_or(|at| at <= trial.installed_at) {
        return Err(Trouble::OldConnection);
    }
    // What the box put on trial by itself, anyone who may apply may keep; the record names the person.
    let mut by = actor.principal();
    if trial.by == hot_reload::NAME {
        by.name = trial.by;
    }
    let confirmed = site.applier.confirm(generation, by);
    site.change(actor, |ledger| match &confirmed {
        Ok(_) => ledger.note(Note::new("policy.confirm", format!("generation {generation}"), "confirmed")),
        Err(trouble) => ledger.note(Note::new("policy.confirm-refused", format!("generation {generation}"), trouble.to_string())),
    })?;
    refresh(site);
    confirmed
}

/// Keeps what the box itself put on trial because somebody wanted it so beforehand.
pub(crate) fn keep_own(site: &Site, actor: &Actor, generation: u64) -> Result<(), Trouble> {
    let confirmed = site.applier.confirm(generation, actor.principal());
    site.change(actor, |ledger| match &confirmed {
        Ok(_) => ledger.note(Note::new("policy.confirm", format!("generation {generation}"), "confirmed by the box")),
        Err(trouble) => ledger.note(Note::new("policy.confirm-refused", format!("generation {generation}"), trouble.to_string())),
    })?;
    refresh(site);
    confirmed.map(drop)
}

/// What became of it when someone asked to go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Back {
    /// The trial ended; this generation runs again (0 is lockdown).
    WentBack { generation: u64 },
    /// An earlier generation runs on trial.
    OnTrial { generation: u64, deadline: u64 },
}

/// Ends the trial now, or puts an earlier confirmed generation on trial.
pub fn go_back(site: &Site, actor: &Actor, generation: Option<u64>) -> Result<Back, Trouble> {
    let answer = site.applier.ask(&ApplierRequest::GoBack { generation, by: actor.principal() });
    let back = answer.and_then(|answer| match answer {
        ApplierResponse::WentBack { generation } => Ok(Back::WentBack { generation }),
        ApplierResponse::OnTrial { generation, deadline, .. } => Ok(Back::OnTrial { generation, deadline }),
        other => Err(unexpected(&other)),
    });
    let subject = generation.map_or_else(|| "trial".to_owned(), |generation| format!("generation {generation}"));
    site.change(actor, |ledger| {
        let detail = match &back {
            Ok(Back::WentBack { generation }) => format!("generation {generation} runs again"),
            Ok(Back::OnTrial { generation, .. }) => format!("on trial as generation {generation}"),
            Err(trouble) => trouble.to_string(),
        };
        ledger.note(Note::new(if back.is_ok() { "policy.go-back" } else { "policy.go-back-refused" }, subject, detail))
    })?;
    refresh(site);
    back
}

/// The next page shows what is now, not what was a second ago.
fn refresh(site: &Site) {
    site.applier.poll(site.now());
    if let Err(trouble) = revision::follow(site, &site.applier.seen()) {
        tracing::error!(%trouble, "what became of a trial could not be written down");
    }
    site.ticks.tick();
}
