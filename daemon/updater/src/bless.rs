//! Whether the version that runs is good. Asked once a boot, by `portcullis-updater bless`.
//!
//! A version that comes up and is found wanting goes back at once: it would be found wanting again. One that does not come up is counted by
//! the loader. A version that was found good before stays up, shut, whatever fails: to restart it for ever would help nobody.

use std::io;
use std::time::Duration;

use policy::messages::updater::{LastUpdate, Outcome};

use crate::entries::{Counted, Entry};
use crate::install::{entries, recount};
use crate::medium::Medium;
use crate::version::Version;

/// How long a new version may take until everything answers.
pub const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was good before this boot.
    WasGood,
    /// It was found good and will be booted from now on.
    NowGood,
    /// It is not good; the other slot is booted next, and that should be soon.
    GoBack { why: String },
    /// It is not good, and there is nothing to go back to.
    StayUp { why: String },
}

/// `healthy` is asked until it says so or has no more patience; its error is the last reason.
pub fn bless(medium: &mut impl Medium, running: &Version, healthy: impl FnOnce() -> Result<(), String>) -> io::Result<Verdict> {
    let all = entries(medium)?;
    let Some(mine) = all.iter().find(|entry| entry.version == *running) else { return Ok(Verdict::WasGood) };
    let done = match mine.counted {
        Counted::Good | Counted::Aside => return Ok(Verdict::WasGood),
        Counted::Trying(_, done) | Counted::Bad(done) => done,
    };
    let Err(why) = healthy() else {
        recount(medium, running, |_| Counted::Good)?;
        return Ok(Verdict::NowGood);
    };
    if !all.iter().any(|entry| is_a_way_back(entry, running)) {
        return Ok(Verdict::StayUp { why });
    }
    recount(medium, running, |_| Counted::Bad(done.max(1)))?;
    Ok(Verdict::GoBack { why })
}

fn is_a_way_back(entry: &Entry, running: &Version) -> bool {
    entry.version != *running && !matches!(entry.counted, Counted::Bad(_))
}

/// What this verdict makes of the record of the last update.
pub fn record(verdict: &Verdict, last: &LastUpdate, running: &Version, now: u64) -> Option<LastUpdate> {
    let ours = last.version == running.to_string() && matches!(last.outcome, Outcome::Installed | Outcome::Trying);
    match verdict {
        Verdict::NowGood if ours => Some(LastUpdate { at: now, outcome: Outcome::Good, reason: None, ..last.clone() }),
        // The outcome is for the old version to write, once it runs.
        Verdict::GoBack { why } if ours => {
            Some(LastUpdate { at: now, outcome: Outcome::Trying, reason: Some(why.clone()), ..last.clone() })
        }
        _ => None,
    }
}
