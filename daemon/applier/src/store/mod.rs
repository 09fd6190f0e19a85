//! What must survive a power cut: the generations, which of them is confirmed, and whether a trial is on.
//!
//! ```text
//! confirmed                   which generation a restart restores
//! trial                       there while a change is on trial; written before anything is installed
//! safe-mode                   there while safe mode is on
//! generations/8/sources.json  the policy's text
//! generations/8/meta.json     number, digest, author, SHA-256 of sources.json
//! generations/8/confirmed     it was confirmed once: where to fall back to if the file above is lost
//! ```
//!
//! Nothing is written in place: a file is written beside, fsynced, renamed, and its folder fsynced. Small files carry their own
//! checksum. Whatever cannot be read is reported and passed over, never believed and never a panic.

mod disk;
#[cfg(test)]
mod power_cuts;
pub mod sealed;

pub use disk::{Disk, Folder};
#[cfg(test)]
pub use power_cuts::Flaky;

use std::io;

use policy::messages::Generation;
use policy::{Digest, Sources};
use serde::{Deserialize, Serialize};

use crate::machine::{Found, Interrupted, Number};

pub struct Store<D: Disk> {
    disk: D,
}

/// How many generations are kept; the confirmed one always.
const KEEP: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    pub number: Number,
    pub digest: Digest,
    pub by: String,
    /// Milliseconds since the epoch.
    pub saved_at: u64,
    pub sources_sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pointer {
    /// None: lockdown was confirmed, or rather nothing ever was.
    generation: Option<Number>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TrialNote {
    generation: Number,
    back_to: Option<Number>,
    by: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    by: String,
}

#[derive(Debug, thiserror::Error)]
#[error("could not {doing}: {source}")]
pub struct Error {
    doing: String,
    source: io::Error,
}

impl<D: Disk> Store<D> {
    pub fn new(disk: D) -> Self {
        Store { disk }
    }

    /// What a start finds. Damage is mended where it can be and told in the remarks.
    pub fn found(&mut self) -> Result<Found, Error> {
        self.disk.make_folder("generations").map_err(doing("make the folder of generations"))?;
        let mut remarks = vec![];
        let trial = self.trial();
        let pointer = self.pointer(&mut remarks);
        let on_trial = trial.as_ref().and_then(|trial| trial.number);
        let confirmed = match pointer {
            Some(Pointer { generation: None }) => None,
            Some(Pointer { generation: Some(number) }) if self.is_whole(number, &mut remarks) => Some(number),
            Some(Pointer { generation: Some(_) }) | None => self.newest_confirmed(on_trial, &mut remarks),
        };
        if let Some(number) = confirmed {
            // The mark follows the pointer; a crash may have come in between.
            if !self.is_marked(number) {
                self.mark(number, "the applier").unwrap_or_else(|error| remarks.push(error.to_string()));
            }
        }
        let known = self.numbers().into_iter().chain(confirmed).chain(on_trial).max().unwrap_or(0);
        self.sweep();
        let safe_mode = self.safe_mode();
        Ok(Found { confirmed, trial, next: known + 1, safe_mode, remarks })
    }

    /// Stores a generation; it is whole under its number, or not there.
    pub fn save(&mut self, number: Number, sources: &Sources, digest: &Digest, by: &str, at: u64) -> Result<(), Error> {
        let text = serde_json::to_vec(sources).map_err(|error| doing("write the policy as JSON")(error.into()))?;
        let meta = Meta { number, digest: digest.clone(), by: by.into(), saved_at: at, sources_sha256: sealed::hash(&text) };
        let written = self.save_files(number, &text, &sealed::seal(&meta));
        if written.is_err() {
            self.disk.remove_folder(&beside(number)).ok();
        }
        written.map_err(doing(format!("store generation {number}")))
    }

    fn save_files(&mut self, number: Number, sources: &[u8], meta: &[u8]) -> io::Result<()> {
        let folder = beside(number);
        self.disk.remove_folder(&folder).or_else(absent_is_fine)?;
        self.disk.make_folder(&folder)?;
        self.disk.write_synced(&format!("{folder}/sources.json"), sources)?;
        self.disk.write_synced(&format!("{folder}/meta.json"), meta)?;
        self.disk.sync_folder(&folder)?;
        self.disk.rename(&folder, &place(number))?;
        self.disk.sync_folder("generations")
    }

    /// Notes that a trial begins. Returns only when a power cut can no longer forget it.
    pub fn record(&mut self, number: Number, back_to: Option<Number>, by: &str) -> Result<(), Error> {
        let note = TrialNote { generation: number, back_to, by: by.into() };
        self.replace("trial", &sealed::seal(&note)).map_err(doing("note the trial"))
    }

    pub fn unrecord(&mut self) -> Result<(), Error> {
        let removed = self.disk.remove("trial").or_else(absent_is_fine).and_then(|()| self.disk.sync_folder("."));
        removed.map_err(doing("remove the note of the trial"))
    }

    /// Notes who switched safe mode on, or that it is off.
    pub fn keep_safe_mode(&mut self, by: Option<&str>) -> Result<(), Error> {
        let kept = match by {
            Some(by) => self.replace("safe-mode", &sealed::seal(&Mark { by: by.into() })),
            None => self.disk.remove("safe-mode").or_else(absent_is_fine).and_then(|()| self.disk.sync_folder(".")),
        };
        kept.map_err(doing("note that safe mode is on or off"))
    }

    /// Makes this the generation that a restart restores. Returns only when a power cut can no longer undo it.
    pub fn point(&mut self, to: Option<Number>, by: &str) -> Result<(), Error> {
        self.replace("confirmed", &sealed::seal(&Pointer { generation: to })).map_err(doing("store the confirmation"))?;
        match to {
            // Without its mark a generation is only passed over if `confirmed` is lost as well; the next start makes up for it.
            Some(number) => self.mark(number, by).or(Ok(())),
            None => Ok(()),
        }
    }

    pub fn load(&self, number: Number) -> Result<(Sources, Meta), String> {
        let read = |name: &str| {
            let path = format!("{}/{name}", place(number));
            self.disk.read(&path).map_err(|error| format!("generation {number}: {name} cannot be read: {error}"))
        };
        let meta: Meta = sealed::open(&read("meta.json")?).ok_or_else(|| format!("generation {number}: meta.json is damaged"))?;
        let text = read("sources.json")?;
        if meta.number != number || sealed::hash(&text) != meta.sources_sha256 {
            return Err(format!("generation {number}: sources.json is not what was stored"));
        }
        let sources = serde_json::from_slice(&text).map_err(|error| format!("generation {number}: sources.json: {error}"))?;
        Ok((sources, meta))
    }

    /// Newest first.
    pub fn kept(&self) -> Vec<Generation> {
        let numbers = self.numbers().into_iter().rev();
        numbers
            .filter_map(|number| {
                let meta: Meta = sealed::open(&self.disk.read(&format!("{}/meta.json", place(number))).ok()?)?;
                Some(Generation {
                    number,
                    digest: meta.digest,
                    by: meta.by,
                    installed_at: meta.saved_at,
                    confirmed: self.is_marked(number),
                })
            })
            .collect()
    }

    pub fn discard(&mut self, number: Number) {
        self.disk.remove_folder(&place(number)).ok();
    }

    /// Removes the oldest beyond the limit.
    pub fn prune(&mut self, keep: &[Option<Number>]) {
        let numbers = self.numbers();
        let surplus = numbers.len().saturating_sub(KEEP);
        for number in numbers.into_iter().take(surplus).filter(|number| !keep.contains(&Some(*number))) {
            self.discard(number);
        }
    }

    fn trial(&self) -> Option<Interrupted> {
        let bytes = match self.disk.read("trial") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            // Somebody began a trial, whatever can be read of it.
            Err(_) => vec![],
            Ok(bytes) => bytes,
        };
        let note: Option<TrialNote> = sealed::open(&bytes);
        Some(
            note.map_or(Interrupted { number: None, by: String::new() }, |note| Interrupted { number: Some(note.generation), by: note.by }),
        )
    }

    /// A note that is damaged was one that somebody wanted.
    fn safe_mode(&self) -> Option<String> {
        let bytes = self.disk.read("safe-mode").ok()?;
        Some(sealed::open::<Mark>(&bytes).map_or_else(|| "somebody".into(), |mark| mark.by))
    }

    /// None: it cannot be read, or was never written.
    fn pointer(&self, remarks: &mut Vec<String>) -> Option<Pointer> {
        match self.disk.read("confirmed") {
            Ok(bytes) => sealed::open(&bytes).or_else(|| {
                remarks.push("the file that names the confirmed generation is damaged".into());
                None
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                remarks.push(format!("the file that names the confirmed generation cannot be read: {error}"));
                None
            }
        }
    }

    /// A generation that never was confirmed is not fallen back to, least of all the one that was on trial.
    fn newest_confirmed(&mut self, on_trial: Option<Number>, remarks: &mut Vec<String>) -> Option<Number> {
        let marked: Vec<Number> =
            self.numbers().into_iter().rev().filter(|number| Some(*number) != on_trial && self.is_marked(*number)).collect();
        let found = marked.into_iter().find(|number| self.is_whole(*number, remarks))?;
        remarks.push(format!("falling back to generation {found}, the newest that was confirmed and is whole"));
        self.replace("confirmed", &sealed::seal(&Pointer { generation: Some(found) }))
            .unwrap_or_else(|error| remarks.push(format!("and it could not be noted: {error}")));
        Some(found)
    }

    fn is_whole(&self, number: Number, remarks: &mut Vec<String>) -> bool {
        self.load(number).map_err(|why| remarks.push(why)).is_ok()
    }

    fn is_marked(&self, number: Number) -> bool {
        self.disk.read(&format!("{}/confirmed", place(number))).is_ok_and(|bytes| sealed::open::<Mark>(&bytes).is_some())
    }

    fn mark(&mut self, number: Number, by: &str) -> Result<(), Error> {
        let path = format!("{}/confirmed", place(number));
        let written = self.disk.write_synced(&path, &sealed::seal(&Mark { by: by.into() }));
        written.and_then(|()| self.disk.sync_folder(&place(number))).map_err(doing(format!("mark generation {number} as confirmed")))
    }

    /// Ascending.
    fn numbers(&self) -> Vec<Number> {
        let names = self.disk.list("generations").unwrap_or_default();
        let mut numbers: Vec<Number> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Half-written generations.
    fn sweep(&mut self) {
        for name in self.disk.list("generations").unwrap_or_default().iter().filter(|name| name.starts_with(BESIDE)) {
            self.disk.remove_folder(&format!("generations/{name}")).ok();
        }
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let beside = format!("{path}.new");
        self.disk.write_synced(&beside, bytes)?;
        self.disk.rename(&beside, path)?;
        self.disk.sync_folder(".")
    }
}

const BESIDE: &str = ".new-";

fn place(number: Number) -> String {
    format!("generations/{number}")
}

fn beside(number: Number) -> String {
    format!("generations/{BESIDE}{number}")
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let doing = what.into();
    move |source| Error { doing, source }
}
