//! Whether the log is what was written, and if not, where it first is not.

use serde::Serialize;

use super::{CHECKPOINT_EVERY, Checkpoint, Entry, chain, checkpoints, entry, merkle_root, read_anchor};
use crate::site::Site;
use crate::trouble::Trouble;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    pub intact: bool,
    /// How many entries were read.
    pub entries: u64,
    pub checkpoints: usize,
    /// The first thing that is wrong.
    pub fault: Option<Fault>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Up to the one before this, everything is as it was written.
    pub entry: u64,
    pub text: String,
}

/// Reads everything once, in order, in bounded memory.
pub fn verify(site: &Site) -> Result<Verdict, Trouble> {
    let mut checkpoint_count = 0;
    let mut follower = Follower::default();
    let fault = site.db.read(|db| {
        let checkpoints = checkpoints(db)?;
        checkpoint_count = checkpoints.len();
        let mut query =
            db.prepare("SELECT number, at, user, address, action, subject, before, after, detail, hash FROM audit ORDER BY number")?;
        let mut rows = query.query([])?;
        let anchor = read_anchor(&site.settings.state_dir);
        while let Some(row) = rows.next()? {
            if let Err(fault) = follower.follow(entry(row)?, &checkpoints, anchor.as_ref()) {
                return Ok(Some(fault));
            }
        }
        Ok(follower.end(&checkpoints, anchor.as_ref()).err())
    })?;
    Ok(Verdict { intact: fault.is_none(), entries: follower.last, checkpoints: checkpoint_count, fault })
}

struct Follower {
    last: u64,
    hash: String,
    /// Hashes since the last checkpoint.
    window: Vec<String>,
}

impl Default for Follower {
    fn default() -> Self {
        Follower { last: 0, hash: chain::genesis(), window: Vec::new() }
    }
}

impl Follower {
    fn follow(&mut self, entry: Entry, checkpoints: &[Checkpoint], anchor: Option<&(u64, String)>) -> Result<(), Fault> {
        let number = entry.number;
        let fault = |entry: u64, text: &str| Err(Fault { entry, text: text.to_owned() });
        if number != self.last + 1 {
            return fault(self.last + 1, "is missing");
        }
        if entry.link(&self.hash) != entry.hash {
            return fault(number, "is not what was written, or what stood before it was changed");
        }
        if anchor.is_some_and(|(anchored, hash)| *anchored == number && *hash != entry.hash) {
            return fault(number, "is not the entry that the anchor file names: the log was rewritten");
        }
        self.last = number;
        self.hash = entry.hash.clone();
        self.window.push(entry.hash);
        if number.is_multiple_of(CHECKPOINT_EVERY) {
            let window = std::mem::take(&mut self.window);
            match checkpoints.iter().find(|checkpoint| checkpoint.last == number) {
                None => return fault(number, "has lost its checkpoint"),
                Some(checkpoint) if checkpoint.root != merkle_root(&window) => {
                    return fault(
                        number + 1 - CHECKPOINT_EVERY,
                        "begins a thousand entries that do not give their checkpoint's Merkle root",
                    );
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn end(&self, checkpoints: &[Checkpoint], anchor: Option<&(u64, String)>) -> Result<(), Fault> {
        let expected = checkpoints.iter().map(|checkpoint| checkpoint.last).chain(anchor.map(|(number, _)| *number)).max().unwrap_or(0);
        if expected > self.last {
            let text = format!("is missing: the log was cut off, it once had {expected} entries");
            return Err(Fault { entry: self.last + 1, text });
        }
        Ok(())
    }
}
