//! What was done, by whom, from where: appended in the transaction that did it, chained so that no entry can be changed,
//! taken out, put in or moved without `verify` finding it.
//!
//! ```text
//! hash(n) = SHA-256( hash(n-1) ‖ canonical bytes of entry n )        every 1,000 entries a Merkle root, also written to the log
//! anchor  = number and hash of the last entry, in a file beside the database: finds a tail that was cut off
//! ```
//! Whoever can write both files and the log can forge the whole; copies of checkpoints that left the box settle that.

mod chain;
#[cfg(test)]
mod tests;
mod verify;

pub use chain::{CHECKPOINT_EVERY, Entry, merkle_root};
pub use verify::{Fault, Verdict, verify};

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;

use crate::actor::Actor;
use crate::site::Site;
use crate::trouble::Trouble;

/// One thing that was done. `action` is a stable word: `candidate.save`, `policy.apply`, `login.failed`.
#[derive(Debug, Clone)]
pub struct Note {
    pub action: &'static str,
    /// What it was done to: a user's name, `revision 12`, `generation 4`.
    pub subject: String,
    /// Digests, roles or states on both sides of the change.
    pub before: Option<String>,
    pub after: Option<String>,
    /// In plain words. Never a secret.
    pub detail: String,
}

impl Note {
    pub fn new(action: &'static str, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Note { action, subject: subject.into(), before: None, after: None, detail: detail.into() }
    }

    pub fn from(mut self, before: impl Into<String>) -> Self {
        self.before = Some(before.into());
        self
    }

    pub fn to(mut self, after: impl Into<String>) -> Self {
        self.after = Some(after.into());
        self
    }
}

/// A transaction that is written down: changes go through `tx`, and each says what it was.
pub struct Ledger<'a> {
    pub tx: &'a Transaction<'a>,
    actor: &'a Actor,
    pub now: u64,
}

impl Ledger<'_> {
    pub fn note(&self, note: Note) -> Result<(), Trouble> {
        append(self.tx, self.actor, self.now, note)
    }
}

impl Site {
    /// Changes config.db on behalf of someone: all of it, with its audit entries, or nothing.
    pub fn change<T>(&self, actor: &Actor, work: impl FnOnce(&Ledger) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let now = self.now();
        let (done, last) = self.db.change(|tx| {
            let done = work(&Ledger { tx, actor, now })?;
            Ok((done, last_link(tx)?))
        })?;
        if let Some((number, hash)) = last {
            write_anchor(&self.settings.state_dir, number, &hash);
        }
        Ok(done)
    }
}

fn append(tx: &Transaction, actor: &Actor, at: u64, note: Note) -> Result<(), Trouble> {
    let (last, previous) = last_link(tx)?.unwrap_or((0, chain::genesis()));
    let mut entry = Entry {
        number: last + 1,
        at,
        user: actor.user.clone(),
        address: actor.client.address.map(|address| address.to_string()),
        action: note.action.to_owned(),
        subject: note.subject,
        before: note.before,
        after: note.after,
        detail: note.detail,
        hash: String::new(),
    };
    entry.hash = entry.link(&previous);
    tx.prepare_cached("INSERT INTO audit (number, at, user, address, action, subject, before, after, detail, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
        .execute(params![entry.number, entry.at, entry.user, entry.address, entry.action, entry.subject, entry.before, entry.after, entry.detail, entry.hash])?;
    tracing::info!(number = entry.number, user = entry.user, action = entry.action, subject = entry.subject, "audit");
    if entry.number.is_multiple_of(CHECKPOINT_EVERY) { checkpoint(tx, entry.number, at) } else { Ok(()) }
}

fn checkpoint(tx: &Transaction, last: u64, at: u64) -> Result<(), Trouble> {
    let first = last + 1 - CHECKPOINT_EVERY;
    let hashes = hashes(tx, first, last)?;
    let root = merkle_root(&hashes);
    tx.execute("INSERT INTO audit_checkpoints (first, last, root, at) VALUES (?1, ?2, ?3, ?4)", params![first, last, root, at])?;
    // The journal is a second witness.
    tracing::info!(first, last, root, "audit checkpoint");
    Ok(())
}

fn hashes(db: &Connection, first: u64, last: u64) -> Result<Vec<String>, Trouble> {
    let mut query = db.prepare_cached("SELECT hash FROM audit WHERE number BETWEEN ?1 AND ?2 ORDER BY number")?;
    let hashes = query.query_map([first, last], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(hashes)
}

fn last_link(db: &Connection) -> Result<Option<(u64, String)>, Trouble> {
    let mut query = db.prepare_cached("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")?;
    Ok(query.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

const ANCHOR: &str = "audit.anchor";

/// Best effort: an anchor that lags behind finds less, never something false.
fn write_anchor(state_dir: &Path, number: u64, hash: &str) {
    let (new, anchor) = (state_dir.join("audit.anchor.new"), state_dir.join(ANCHOR));
    let written = fs::write(&new, format!("{number} {hash}\n")).and_then(|()| fs::rename(&new, &anchor));
    if let Err(error) = written {
        tracing::warn!(%error, "the audit anchor could not be written; a log whose end was cut off would go unnoticed");
    }
}

fn read_anchor(state_dir: &Path) -> Option<(u64, String)> {
    let text = fs::read_to_string(state_dir.join(ANCHOR)).ok()?;
    let (number, hash) = text.trim().split_once(' ')?;
    Some((number.parse().ok()?, hash.to_owned()))
}

/// Which entries to show; empty fields do not narrow.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub user: Option<String>,
    /// The beginning of an action: `login`, `policy.`.
    pub action: Option<String>,
    /// Anywhere in subject, detail, address or user, whatever its case.
    pub text: Option<String>,
    /// Only entries with a smaller number: the next page goes on from there.
    pub before: Option<u64>,
    pub limit: u32,
}

/// Newest first, at most 500 at once.
pub fn list(site: &Site, filter: &Filter) -> Result<Vec<Entry>, Trouble> {
    site.db.read(|db| {
        let query = "SELECT number, at, user, address, action, subject, before, after, detail, hash FROM audit
                     WHERE number < ?1 AND (?2 IS NULL OR user = ?2) AND (?3 IS NULL OR substr(action, 1, length(?3)) = ?3)
                     AND (?4 IS NULL OR instr(lower(concat_ws(' ', user, subject, detail, address)), lower(?4)) > 0)
                     ORDER BY number DESC LIMIT ?5";
        let mut query = db.prepare_cached(query)?;
        let before = filter.before.unwrap_or(i64::MAX as u64);
        let limit = filter.limit.clamp(1, 500);
        let entries = query.query_map(params![before, filter.user, filter.action, filter.text, limit], entry)?.collect::<Result<_, _>>()?;
        Ok(entries)
    })
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    pub first: u64,
    pub last: u64,
    /// Merkle root over the hashes of the entries, RFC 6962 section 2.1.
    pub root: String,
    pub at: u64,
}

pub fn checkpoints(db: &Connection) -> Result<Vec<Checkpoint>, Trouble> {
    let mut query = db.prepare("SELECT first, last, root, at FROM audit_checkpoints ORDER BY last")?;
    let rows = query.query_map([], |row| Ok(Checkpoint { first: row.get(0)?, last: row.get(1)?, root: row.get(2)?, at: row.get(3)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Entries `from` to `from + 9,999` with the checkpoints, as JSON that anyone can verify again.
pub fn export(site: &Site, from: u64) -> Result<serde_json::Value, Trouble> {
    site.db.read(|db| {
        let mut query = db.prepare("SELECT number, at, user, address, action, subject, before, after, detail, hash FROM audit WHERE number >= ?1 ORDER BY number LIMIT 10000")?;
        let entries: Vec<Entry> = query.query_map([from], entry)?.collect::<Result<_, _>>()?;
        let next = entries.last().map(|entry| entry.number + 1).filter(|_| entries.len() == 10_000);
        Ok(serde_json::json!({
            "format": "portcullis audit 1",
            "chain": "hash(n) = SHA-256(hash(n-1) as 32 bytes || canonical(n)); canonical: number and at as u64, then user, address, action, subject, before, after, detail, each 00, or 01 and its length as u32 and its bytes; big endian",
            "genesis": chain::genesis(),
            "entries": entries,
            "checkpoints": checkpoints(db)?,
            "next": next,
        }))
    })
}

fn entry(row: &Row) -> rusqlite::Result<Entry> {
    Ok(Entry {
        number: row.get(0)?,
        at: row.get(1)?,
        user: row.get(2)?,
        address: row.get(3)?,
        action: row.get(4)?,
        subject: row.get(5)?,
        before: row.get(6)?,
        after: row.get(7)?,
        detail: row.get(8)?,
        hash: row.get(9)?,
    })
}
