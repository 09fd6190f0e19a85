//! At each boot, before anything else: what a power cut left behind goes, and what became of an update is written down.

use std::io;

use policy::messages::updater::{LastUpdate, Outcome};

use crate::bundle::{PartName, Signed};
use crate::entries::{Counted, Entry};
use crate::install::{entries, file_digest, is_unfinished, manifest_name};
use crate::keys::Keys;
use crate::medium::{LINUX, MANIFESTS, Medium, UNFINISHED};
use crate::version::Version;

/// Removes entries that cannot boot, unless they did. Answers what was done, for the log.
pub fn clean(medium: &mut impl Medium, running: &Version, keys: &Keys) -> io::Result<Vec<String>> {
    let mut remarks = vec![];
    if medium.files(LINUX)?.iter().any(|name| is_unfinished(name)) {
        medium.remove(UNFINISHED)?;
        remarks.push("an unfinished kernel was removed".to_owned());
    }
    let slots = medium.slots()?;
    for entry in entries(medium)?.into_iter().filter(|entry| entry.version != *running) {
        let labelled = slots.iter().any(|slot| slot.version().as_ref() == Some(&entry.version));
        let wrong = if labelled { unlike_its_manifest(medium, &entry, keys)? } else { Some("no slot holds its version".to_owned()) };
        if let Some(why) = wrong {
            medium.remove(&format!("{LINUX}/{}", entry.name()))?;
            remarks.push(format!("boot entry {} was removed: {why}", entry.name()));
        }
    }
    if !remarks.is_empty() {
        medium.sync_files()?;
    }
    Ok(remarks)
}

/// What was written with the image, and not by us, has no manifest and is left alone.
fn unlike_its_manifest(medium: &mut impl Medium, entry: &Entry, keys: &Keys) -> io::Result<Option<String>> {
    let name = manifest_name(&entry.version);
    if !medium.files(MANIFESTS)?.contains(&name) {
        return Ok(None);
    }
    let mut head = vec![];
    medium.read_file(&format!("{MANIFESTS}/{name}"), &mut |bytes| head.extend_from_slice(bytes))?;
    let signed = match Signed::read(&mut head.as_slice(), keys) {
        Ok(signed) => signed,
        Err(why) => return Ok(Some(format!("its manifest is not good: {why}"))),
    };
    let found = file_digest(medium, &format!("{LINUX}/{}", entry.name()))?;
    let same = signed.manifest.part(PartName::Kernel).is_some_and(|part| part.sha256.eq_ignore_ascii_case(&found));
    Ok(if same { None } else { Some("its bytes are not those of its manifest".to_owned()) })
}

/// What the last update has come to, seen from the version that runs now.
pub fn judge_last(last: &LastUpdate, running: &Version, entries: &[Entry], now: u64) -> Option<LastUpdate> {
    let open = matches!(last.outcome, Outcome::Installed | Outcome::Trying);
    let version: Version = last.version.parse().ok()?;
    if !open {
        return None;
    }
    if version == *running {
        let outcome = if last.outcome == Outcome::Trying { return None } else { Outcome::Trying };
        return Some(LastUpdate { at: now, outcome, ..last.clone() });
    }
    let counted = entries.iter().find(|entry| entry.version == version).map(|entry| entry.counted);
    let reason = match counted {
        Some(Counted::Bad(tries)) => last.reason.clone().unwrap_or_else(|| {
            format!("it was started {tries} time(s) and each time it stopped, hung or restarted before it could say why")
        }),
        None => "its boot entry was damaged and has been removed".to_owned(),
        // It still has boots left and was not what the loader took: somebody chose the old one. The loader will take it next.
        Some(_) => return None,
    };
    Some(LastUpdate { at: now, outcome: Outcome::TakenBack, reason: Some(reason), ..last.clone() })
}
