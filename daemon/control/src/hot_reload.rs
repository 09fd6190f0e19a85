//! A changed file in the policy folder becomes a revision: checked, and then it waits for someone, or goes on trial, as the
//! policy that runs says (`System.hotReload`).
//!
//! Editors write a file in pieces, or write another one and rename it over the first; `git pull` changes many, one after the other. So the
//! folder is read only after it was quiet for a moment, and read again until two readings agree.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use inotify::{Inotify, WatchMask};
use policy::Sources;
use policy::model::HotReload;

use crate::actor::Actor;
use crate::audit::Note;
use crate::candidate::check_file_name;
use crate::revision::{self, FoundIn, New, Outcome};
use crate::site::Site;
use crate::trial;
use crate::trouble::Trouble;

/// The name under which the box itself applies.
pub const NAME: &str = "hot-reload";

/// So long nothing may happen in the folder before it is read.
const QUIET: Duration = Duration::from_millis(300);
/// A folder that never rests is read all the same.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of all files together, as for any revision.
const MAX_BYTES: u64 = 24 << 20;

/// Watches until control stops.
pub fn watch(site: &Site) {
    let Some(folder) = site.settings.policy_dir.clone() else { return };
    // What changed while control was down is found once the applier has told what runs.
    while site.applier.seen().status.is_none() && !site.ticks.stopped() {
        thread::sleep(QUIET);
    }
    let mut last = None;
    while !site.ticks.stopped() {
        if let Err(error) = follow(site, &folder, &mut last) {
            tracing::warn!(folder = %folder.display(), %error, "the policy folder cannot be watched; trying again");
            thread::sleep(PATIENCE);
        }
    }
}

fn follow(site: &Site, folder: &Path, last: &mut Option<Sources>) -> io::Result<()> {
    let mut inotify = Inotify::init()?;
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF;
    inotify.watches().add(folder, mask | WatchMask::ONLYDIR)?;
    let mut buffer = [0; 4096];
    loop {
        settle(&mut inotify, &mut buffer)?;
        if site.ticks.stopped() {
            return Ok(());
        }
        let sources = read_twice(folder)?;
        if last.as_ref() != Some(&sources) {
            if let Err(trouble) = take_in(site, &sources) {
                tracing::error!(%trouble, "a change in the policy folder could not be taken in");
            }
            *last = Some(sources);
        }
        let gone = inotify.read_events_blocking(&mut buffer)?.any(|event| {
            event.mask.intersects(inotify::EventMask::IGNORED | inotify::EventMask::DELETE_SELF | inotify::EventMask::MOVE_SELF)
        });
        if gone {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the folder itself was removed or renamed"));
        }
    }
}

/// Waits until nothing has happened for a moment.
fn settle(inotify: &mut Inotify, buffer: &mut [u8]) -> io::Result<()> {
    let begun = Instant::now();
    let mut quiet_since = begun;
    while quiet_since.elapsed() < QUIET && begun.elapsed() < PATIENCE {
        thread::sleep(QUIET / 6);
        match inotify.read_events(buffer) {
            Ok(events) => {
                if events.count() > 0 {
                    quiet_since = Instant::now();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Until two readings agree: no file is half written.
fn read_twice(folder: &Path) -> io::Result<Sources> {
    let mut before = read(folder)?;
    for _ in 0..20 {
        thread::sleep(QUIET / 6);
        let now = read(folder)?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    Err(io::Error::other("the files change all the time"))
}

/// The `*.yaml` and `*.yml` right inside the folder.
fn read(folder: &Path) -> io::Result<Sources> {
    let (mut sources, mut room) = (BTreeMap::new(), MAX_BYTES);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if check_file_name(name).is_err() || !path.is_file() {
            continue;
        }
        let mut text = String::new();
        let length = match File::open(&path).and_then(|file| file.take(room + 1).read_to_string(&mut text)) {
            Ok(length) => length as u64,
            // Removed since the folder was listed: the next event tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io::Error::new(error.kind(), format!("{name}: {error}"))),
        };
        room = room
            .checked_sub(length)
            .ok_or_else(|| io::Error::other(format!("the files are longer than {} MiB together", MAX_BYTES >> 20)))?;
        sources.insert(name.to_owned(), text);
    }
    Ok(Sources(sources))
}

/// Decides what becomes of the files' new state.
pub fn take_in(site: &Site, sources: &Sources) -> Result<(), Trouble> {
    let running = site.applier.running();
    if sources.0.is_empty() {
        tracing::info!("the policy folder holds no *.yaml; what runs stays");
        return Ok(());
    }
    if running.as_ref().is_some_and(|running| running.sources == *sources) || site_knows(site, sources)? {
        return Ok(());
    }
    let actor = Actor::the_box(NAME);
    let verdict = site.judgements.of(sources);
    let judged = match &*verdict {
        Err(problems) => {
            tracing::warn!(problems = problems.0.len(), "the policy folder has changed, but the policy has problems");
            return wait(site, &actor, sources, None, &format!("{} problem(s)", problems.0.len()));
        }
        Ok(judged) => judged,
    };
    let system = running.as_ref().and_then(|running| running.judged.as_ref()?.checked.config().system.as_ref());
    let apply = system.is_some_and(|(_, system)| system.spec.hot_reload == HotReload::Apply);
    let on_trial = site.applier.status().is_ok_and(|status| status.trial.is_some());
    if apply && !on_trial {
        tracing::info!(digest = %judged.digest, "the policy folder has changed; applying on trial");
        supersede(site, &actor)?;
        return trial::put_on_trial(site, &actor, sources, &judged.digest, "from the policy folder", None, FoundIn::HotReload).map(drop);
    }
    tracing::info!(digest = %judged.digest, "the policy folder has changed; the revision waits");
    wait(site, &actor, sources, Some(&judged.digest.0), "from the policy folder")
}

/// After a restart the same files must not become a second revision.
fn site_knows(site: &Site, sources: &Sources) -> Result<bool, Trouble> {
    let newest = revision::newest_from(site, FoundIn::HotReload)?;
    newest.map_or(Ok(false), |newest| Ok(revision::sources(site, newest.id)? == *sources))
}

fn wait(site: &Site, actor: &Actor, sources: &Sources, digest: Option<&str>, message: &str) -> Result<(), Trouble> {
    supersede(site, actor)?;
    let new = New { author: NAME, origin: FoundIn::HotReload, message, sources, digest, generation: None, outcome: Outcome::Waiting };
    site.change(actor, |ledger| {
        let id = revision::add(ledger, &new)?;
        ledger.note(Note { after: digest.map(str::to_owned), ..Note::new("revision.found", format!("revision {id}"), message) })
    })?;
    site.ticks.tick();
    Ok(())
}

/// Only the newest waits.
fn supersede(site: &Site, actor: &Actor) -> Result<(), Trouble> {
    match revision::waiting(site)? {
        Some(older) => revision::dismiss(site, actor, older.id),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
