//! Every policy that was ever put into effect from here, found in the policy folder, or found running.

use policy::Sources;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::applier::Seen;
use crate::audit::{Ledger, Note};
use crate::site::Site;
use crate::trouble::Trouble;

/// A revision without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    pub id: i64,
    pub parent: Option<i64>,
    /// Milliseconds since the epoch.
    pub created_at: u64,
    pub author: String,
    pub origin: FoundIn,
    pub message: String,
    /// None while it has problems.
    pub digest: Option<String>,
    pub generation: Option<u64>,
    pub outcome: Outcome,
    pub outcome_at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FoundIn {
    /// Written on a page or through the API.
    Candidate,
    /// The policy folder.
    HotReload,
    /// Installed by someone at the console.
    Applier,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// From the policy folder; nobody has decided yet.
    Waiting,
    Dismissed,
    Trial,
    Confirmed,
    WentBack,
    Failed,
}

/// Newest first.
pub fn list(site: &Site, before: Option<i64>, limit: u32) -> Result<Vec<Revision>, Trouble> {
    site.db.read(|db| {
        let mut query = db.prepare_cached(&format!("{SELECT} WHERE id < ?1 ORDER BY id DESC LIMIT ?2"))?;
        let rows = query.query_map(params![before.unwrap_or(i64::MAX), limit.clamp(1, 500)], revision)?;
        Ok(rows.collect::<Result<_, _>>()?)
    })
}

pub fn get(site: &Site, id: i64) -> Result<Revision, Trouble> {
    let found = site.db.read(|db| find(db, "id = ?1", id))?;
    found.ok_or_else(|| Trouble::no_such("revision", &id.to_string()))
}

pub fn sources(site: &Site, id: i64) -> Result<Sources, Trouble> {
    let text: Option<String> =
        site.db.read(|db| Ok(db.query_row("SELECT sources FROM revisions WHERE id = ?1", [id], |row| row.get(0)).optional()?))?;
    sources_from(&text.ok_or_else(|| Trouble::no_such("revision", &id.to_string()))?)
}

/// The newest one from the policy folder that nobody has decided about.
pub fn waiting(site: &Site) -> Result<Option<Revision>, Trouble> {
    site.db.read(|db| Ok(db.query_row(&format!("{SELECT} WHERE outcome = 'waiting' ORDER BY id DESC LIMIT 1"), [], revision).optional()?))
}

pub(crate) fn newest_from(site: &Site, origin: FoundIn) -> Result<Option<Revision>, Trouble> {
    let query = format!("{SELECT} WHERE origin = ?1 ORDER BY id DESC LIMIT 1");
    site.db.read(|db| Ok(db.query_row(&query, [word(origin)?], revision).optional()?))
}

pub fn dismiss(site: &Site, actor: &Actor, id: i64) -> Result<(), Trouble> {
    site.change(actor, |ledger| {
        let changed = "UPDATE revisions SET outcome = 'dismissed', outcome_at = ?2 WHERE id = ?1 AND outcome = 'waiting'";
        if ledger.tx.execute(changed, params![id, ledger.now])? == 0 {
            return Err(Trouble::Conflict(format!("revision {id} does not wait for anything")));
        }
        ledger.note(Note::new("revision.dismiss", format!("revision {id}"), "").from("waiting").to("dismissed"))
    })
}

/// The revision that the given generation was installed from.
pub fn of_generation(site: &Site, generation: u64) -> Result<Option<Revision>, Trouble> {
    site.db.read(|db| {
        let query = format!("{SELECT} WHERE generation = ?1 ORDER BY id DESC LIMIT 1");
        Ok(db.query_row(&query, [generation], revision).optional()?)
    })
}

pub(crate) struct New<'a> {
    pub author: &'a str,
    pub origin: FoundIn,
    pub message: &'a str,
    pub sources: &'a Sources,
    pub digest: Option<&'a str>,
    pub generation: Option<u64>,
    pub outcome: Outcome,
}

pub(crate) fn add(ledger: &Ledger, new: &New) -> Result<i64, Trouble> {
    let parent: Option<i64> = {
        let query = "SELECT id FROM revisions WHERE outcome IN ('confirmed', 'trial') ORDER BY outcome_at DESC, id DESC LIMIT 1";
        ledger.tx.query_row(query, [], |row| row.get(0)).optional()?
    };
    let row = "INSERT INTO revisions (parent, created_at, author, origin, message, sources, digest, generation, outcome, outcome_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?2)";
    let sources = text_of(new.sources)?;
    ledger.tx.execute(
        row,
        params![parent, ledger.now, new.author, word(new.origin)?, new.message, sources, new.digest, new.generation, word(new.outcome)?],
    )?;
    Ok(ledger.tx.last_insert_rowid())
}

pub(crate) fn became(ledger: &Ledger, id: i64, outcome: Outcome, generation: Option<u64>) -> Result<(), Trouble> {
    let change = "UPDATE revisions SET outcome = ?2, outcome_at = ?3, generation = coalesce(?4, generation) WHERE id = ?1";
    ledger.tx.execute(change, params![id, word(outcome)?, ledger.now, generation])?;
    Ok(())
}

/// After each poll: what became of the trials, and policies that others have installed.
pub fn follow(site: &Site, seen: &Seen) -> Result<(), Trouble> {
    let Some(status) = &seen.status else { return Ok(()) };
    let on_trial = status.trial.as_ref().map(|trial| trial.generation);
    for trial in with_outcome(site, Outcome::Trial)? {
        if trial.generation.is_none() || trial.generation == on_trial {
            continue;
        }
        let confirmed = status.kept.iter().chain(&status.running).any(|kept| Some(kept.number) == trial.generation && kept.confirmed);
        let outcome = if confirmed { Outcome::Confirmed } else { Outcome::WentBack };
        let why = status.last_event.as_ref().map(|event| event.text.clone()).unwrap_or_default();
        site.change(&Actor::the_box("applier"), |ledger| {
            became(ledger, trial.id, outcome, None)?;
            ledger.note(Note::new("policy.outcome", format!("revision {}", trial.id), why).from("trial").to(word(outcome)?))
        })?;
    }
    import(site, seen)
}

/// A generation that runs and that no revision knows came from the console: it becomes a revision with its author.
fn import(site: &Site, seen: &Seen) -> Result<(), Trouble> {
    let (Some(status), Some(running)) = (&seen.status, &seen.running) else { return Ok(()) };
    let Some(generation) = status.running.as_ref().filter(|generation| generation.number == running.generation) else { return Ok(()) };
    let known = site.db.read(|db| {
        let query = "SELECT EXISTS (SELECT 1 FROM revisions WHERE generation = ?1 AND digest = ?2)";
        Ok(db.query_row(query, params![generation.number, generation.digest.0], |row| row.get::<_, bool>(0))?)
    })?;
    if known {
        return Ok(());
    }
    let outcome = if generation.confirmed { Outcome::Confirmed } else { Outcome::Trial };
    let author = if generation.by.is_empty() { "console" } else { &generation.by };
    let new = New {
        author,
        origin: FoundIn::Applier,
        message: "installed without these pages",
        sources: &running.sources,
        digest: Some(&generation.digest.0),
        generation: Some(generation.number),
        outcome,
    };
    site.change(&Actor::the_box("applier"), |ledger| {
        let id = add(ledger, &new)?;
        let detail = format!("generation {} by {author} was found running", generation.number);
        ledger.note(Note::new("revision.import", format!("revision {id}"), detail).to(generation.digest.0.clone()))
    })
}

fn with_outcome(site: &Site, outcome: Outcome) -> Result<Vec<Revision>, Trouble> {
    site.db.read(|db| {
        let mut query = db.prepare_cached(&format!("{SELECT} WHERE outcome = ?1 ORDER BY id"))?;
        let rows = query.query_map([word(outcome)?], revision)?;
        Ok(rows.collect::<Result<_, _>>()?)
    })
}

const SELECT: &str = "SELECT id, parent, created_at, author, origin, message, digest, generation, outcome, outcome_at FROM revisions";

fn find(db: &Connection, by: &str, value: i64) -> Result<Option<Revision>, Trouble> {
    Ok(db.query_row(&format!("{SELECT} WHERE {by}"), [value], revision).optional()?)
}

pub(crate) fn text_of(sources: &Sources) -> Result<String, Trouble> {
    serde_json::to_string(sources).map_err(|error| Trouble::Internal(format!("a policy cannot be stored: {error}")))
}

pub(crate) fn sources_from(text: &str) -> Result<Sources, Trouble> {
    serde_json::from_str(text).map_err(|error| Trouble::Internal(format!("a stored policy cannot be read: {error}")))
}

/// The word that serde gives a variant, which is also what the database holds.
fn word(value: impl Serialize) -> Result<String, Trouble> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        other => Err(Trouble::Internal(format!("{other:?} is not a word"))),
    }
}

fn revision(row: &Row) -> rusqlite::Result<Revision> {
    fn known<T: serde::de::DeserializeOwned>(column: usize, word: String) -> rusqlite::Result<T> {
        serde_json::from_value(serde_json::Value::String(word.clone()))
            .map_err(|_| rusqlite::Error::InvalidColumnType(column, word, rusqlite::types::Type::Text))
    }
    Ok(Revision {
        id: row.get(0)?,
        parent: row.get(1)?,
        created_at: row.get(2)?,
        author: row.get(3)?,
        origin: known(4, row.get(4)?)?,
        message: row.get(5)?,
        digest: row.get(6)?,
        generation: row.get(7)?,
        outcome: known(8, row.get(8)?)?,
        outcome_at: row.get(9)?,
    })
}
