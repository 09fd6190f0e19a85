//! The policy that is being worked on: one for the box, with a version that every editor must name.

use std::sync::Arc;

use policy::{Judged, Sources};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::actor::Actor;
use crate::audit::Note;
use crate::revision;
use crate::site::Site;
use crate::trouble::Trouble;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Grows with every change; 0 is what runs, untouched.
    pub version: u64,
    /// The revision that it was begun from.
    pub base: Option<i64>,
    pub sources: Sources,
    pub author: String,
    /// Milliseconds since the epoch.
    pub changed_at: u64,
    /// Whether someone changed something that has not been applied.
    pub dirty: bool,
}

/// Everything that is shown before a change; its digest is what `apply` must name.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    pub version: u64,
    pub digest: String,
    /// What runs now; None while the box is locked down.
    pub running: Option<String>,
    /// Line by line against what runs.
    pub text_diff: String,
    /// What is newly permitted and what no longer, computed from both plans.
    pub changes: String,
    /// Of that, what is about mapped clients and their upstreams.
    pub carried: Vec<String>,
    /// The plan as text.
    pub plan: String,
}

/// Bytes of all files together; what fits into one message to the applier, with room for the envelope.
const MAX_BYTES: usize = 24 << 20;
const MAX_FILES: usize = 1000;

/// The candidate, or while nobody has begun one, a copy of what runs.
pub fn get(site: &Site) -> Result<Candidate, Trouble> {
    if let Some(candidate) = site.db.read(stored)?.filter(|candidate| candidate.dirty) {
        return Ok(candidate);
    }
    let version = site.db.read(stored)?.map_or(0, |candidate| candidate.version);
    let running = site.applier.running();
    let base = running.as_ref().map(|running| revision::of_generation(site, running.generation)).transpose()?.flatten();
    Ok(Candidate {
        version,
        base: base.as_ref().map(|base| base.id),
        sources: running.map(|running| running.sources.clone()).unwrap_or_default(),
        author: base.as_ref().map(|base| base.author.clone()).unwrap_or_default(),
        changed_at: base.as_ref().map_or(0, |base| base.outcome_at),
        dirty: false,
    })
}

/// Replaces the text. Refused when `version` is not the current one: somebody else has changed it meanwhile.
pub fn save(site: &Site, actor: &Actor, version: u64, sources: Sources) -> Result<Candidate, Trouble> {
    save_noted(site, actor, version, sources, None)
}

/// The same, with what it was about.
pub fn save_noted(site: &Site, actor: &Actor, version: u64, sources: Sources, about: Option<Note>) -> Result<Candidate, Trouble> {
    bounded(&sources)?;
    let current = get(site)?;
    let digest = |sources: &Sources| match &*site.judgements.of(sources) {
        Ok(judged) => judged.digest.0.clone(),
        Err(problems) => format!("{} problem(s)", problems.0.len()),
    };
    let (before, after) = (digest(&current.sources), digest(&sources));
    let text = revision::text_of(&sources)?;
    site.change(actor, |ledger| {
        let current_version = stored(ledger.tx)?.map_or(0, |candidate| candidate.version);
        if current_version != version {
            return Err(changed_meanwhile());
        }
        let row = "INSERT INTO candidate (one, version, base, sources, author, changed_at, dirty) VALUES (1, ?1, ?2, ?3, ?4, ?5, 1)
                   ON CONFLICT (one) DO UPDATE SET version = ?1, base = ?2, sources = ?3, author = ?4, changed_at = ?5, dirty = 1";
        ledger.tx.execute(row, params![version + 1, current.base, text, actor.user, ledger.now])?;
        ledger.note(Note::new("candidate.save", format!("candidate version {}", version + 1), "").from(before).to(after))?;
        about.map_or(Ok(()), |note| ledger.note(note))
    })?;
    site.ticks.tick();
    get(site)
}

/// For the audit log: what of mapped clients was edited, in which version it stands. Other kinds are told by the candidate alone.
pub fn edited(kind: &str, name: &str, what: &str, version: u64) -> Option<Note> {
    let (action, word) = match kind {
        "ProxyMapping" => ("mapping.edit", "mapping"),
        "Upstream" => ("upstream.edit", "upstream"),
        "UpstreamGroup" => ("group.edit", "group"),
        _ => return None,
    };
    Some(Note::new(action, format!("{word} {name}"), format!("{what}, candidate version {version}")))
}

/// One file of it; None removes the file.
pub fn save_file(site: &Site, actor: &Actor, version: u64, file: &str, text: Option<String>) -> Result<Candidate, Trouble> {
    check_file_name(file)?;
    let mut sources = get(site)?.sources;
    match text {
        Some(text) => drop(sources.0.insert(file.to_owned(), text)),
        None => drop(sources.0.remove(file).ok_or_else(|| Trouble::no_such("file", file))?),
    }
    save(site, actor, version, sources)
}

/// Begins anew from what runs.
pub fn discard(site: &Site, actor: &Actor) -> Result<(), Trouble> {
    site.change(actor, |ledger| {
        ledger.tx.execute("UPDATE candidate SET dirty = 0, version = version + 1, sources = '{}'", [])?;
        ledger.note(Note::new("candidate.discard", "candidate", "back to what runs"))
    })?;
    site.ticks.tick();
    Ok(())
}

/// Takes the text of a revision: to bring an old one back, or one that waits from the policy folder.
pub fn take_revision(site: &Site, actor: &Actor, version: u64, id: i64) -> Result<Candidate, Trouble> {
    let sources = revision::sources(site, id)?;
    let candidate = save(site, actor, version, sources)?;
    site.db.change(|tx| {
        Ok(tx.execute(
            "UPDATE revisions SET outcome = 'dismissed', outcome_at = ?2 WHERE id = ?1 AND outcome = 'waiting'",
            params![id, site.now()],
        )?)
    })?;
    Ok(candidate)
}

/// Begins from one of the policies that come with the box.
pub fn take_starting_point(site: &Site, actor: &Actor, version: u64, name: &str) -> Result<Candidate, Trouble> {
    let point =
        policy::starting_points().iter().find(|point| point.name == name).ok_or_else(|| Trouble::no_such("starting point", name))?;
    save(site, actor, version, Sources::single(format!("{name}.yaml"), point.text))
}

/// The candidate judged, or its problems.
pub fn judged(site: &Site, candidate: &Candidate) -> Result<Arc<Judged>, Trouble> {
    site.judgements.passed(&candidate.sources)
}

/// What applying it would do.
pub fn preview(site: &Site, candidate: &Candidate) -> Result<Preview, Trouble> {
    let judged = judged(site, candidate)?;
    let running = site.applier.running();
    let before = running.as_ref().and_then(|running| running.judged.as_ref());
    let (old_text, new_text) = (before.map(|old| old.plan.to_string()).unwrap_or_default(), judged.plan.to_string());
    let nothing = policy::Plan::default();
    let changes = policy::changes(before.map_or(&nothing, |old| &old.plan), &judged.plan);
    Ok(Preview {
        version: candidate.version,
        digest: judged.digest.0.clone(),
        running: before.map(|old| old.digest.0.clone()),
        text_diff: policy::diff_text(&old_text, &new_text),
        changes: changes.to_string(),
        carried: changes.carried,
        plan: new_text,
    })
}

fn stored(db: &Connection) -> Result<Option<Candidate>, Trouble> {
    let query = "SELECT version, base, sources, author, changed_at, dirty FROM candidate";
    let row = db
        .prepare_cached(query)?
        .query_row([], |row| {
            Ok((
                row.get::<_, String>(2)?,
                Candidate {
                    version: row.get(0)?,
                    base: row.get(1)?,
                    sources: Sources::default(),
                    author: row.get(3)?,
                    changed_at: row.get(4)?,
                    dirty: row.get(5)?,
                },
            ))
        })
        .optional()?;
    row.map(|(text, candidate)| Ok(Candidate { sources: revision::sources_from(&text)?, ..candidate })).transpose()
}

pub(crate) fn changed_meanwhile() -> Trouble {
    Trouble::Conflict("somebody changed the candidate meanwhile; reload, look at their version and make your change again".to_owned())
}

fn bounded(sources: &Sources) -> Result<(), Trouble> {
    if sources.0.len() > MAX_FILES {
        return Err(Trouble::field("sources", format!("has more than {MAX_FILES} files")));
    }
    sources.0.keys().try_for_each(|file| check_file_name(file))?;
    if sources.0.values().map(String::len).sum::<usize>() > MAX_BYTES {
        return Err(Trouble::field("sources", format!("is longer than {} MiB", MAX_BYTES >> 20)));
    }
    Ok(())
}

/// A plain name that ends in .yaml or .yml, as files in the policy folder do.
pub(crate) fn check_file_name(file: &str) -> Result<(), Trouble> {
    let plain =
        file.len() <= 100 && !file.starts_with('.') && file.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if plain && (file.ends_with(".yaml") || file.ends_with(".yml")) {
        return Ok(());
    }
    Err(Trouble::field("file", format!("{file:?} must be letters, digits, `.`, `_`, `-`, and end in .yaml")))
}
