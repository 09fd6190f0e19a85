//! Events on the disk, bounded in bytes: a row of partitions, the newest of which is filled, the oldest of which is removed whole.
//!
//! Nothing is ever vacuumed or deleted row by row. A partition that cannot be read is set aside and told, and the others go on.

pub mod partition;
pub mod query;
pub mod raw;
pub mod shelf;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use tracing::{info, warn};

use crate::seen::Batch;
pub use partition::{Files, Partition, StoreError};
pub use shelf::{Shelf, Shelved};

pub struct Store {
    folder: PathBuf,
    limits: Limits,
    pub shelf: Arc<Shelf>,
    pub troubles: Arc<Troubles>,
    current: Option<Partition>,
    sealer: mpsc::Sender<Files>,
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all partitions together.
    pub bytes: u64,
    /// Rows after which a partition is full. So many are searched without an index in a tenth of a second.
    pub rows: u64,
}

impl Limits {
    pub const fn of(bytes: u64) -> Self {
        Limits { bytes, rows: 500_000 }
    }

    /// What one partition may hold, so that removing one loses an eighth at most.
    fn partition(&self) -> u64 {
        self.bytes / 8
    }
}

/// The last things that went wrong, in words, for the page.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<VecDeque<String>>);

impl Troubles {
    const KEPT: usize = 20;

    pub fn tell(&self, words: String) {
        warn!("{words}");
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| *other != words);
        if all.len() == Self::KEPT {
            all.pop_front();
        }
        all.push_back(words);
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Store {
    /// Takes up what an earlier process left. Only an unusable folder is an error.
    pub fn open(folder: &Path, limits: Limits) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let (shelf, troubles) = (Arc::new(Shelf::default()), Arc::new(Troubles::default()));
        let sealer = start_sealer(shelf.clone(), troubles.clone())?;
        let store = Store { folder: folder.to_owned(), limits, shelf, troubles, current: None, sealer };
        for number in numbers(folder)? {
            store.take_up(Files::of(folder, number));
        }
        Ok(store)
    }

    fn take_up(&self, files: Files) {
        match files.span() {
            Ok((first, last, rows)) => {
                let (sealed, bytes) = (files.is_sealed(), files.bytes());
                self.shelf.put(Shelved { files: files.clone(), first, last, rows, bytes, sealed });
            }
            Err(error) => self.set_aside(&files, &error),
        }
    }

    fn set_aside(&self, files: &Files, error: &StoreError) {
        self.shelf.take(files.number);
        let aside = files.set_aside();
        self.troubles.tell(format!("events of one stretch of time could not be read ({}): they lie in {}", said(error), aside.display()));
    }

    /// Stores all events of the batches, or none; the id of the first. Where the disk is full, the oldest partition makes room.
    pub fn append(&mut self, batches: &[Batch]) -> Result<u64, StoreError> {
        loop {
            match self.try_append(batches) {
                Err(error) if error.is_full() && self.shelf.count() > 1 => {
                    self.troubles.tell("the disk is full: the oldest events were removed to make room".to_owned());
                    self.remove_oldest();
                }
                other => return other,
            }
        }
    }

    fn try_append(&mut self, batches: &[Batch]) -> Result<u64, StoreError> {
        let current = match &mut self.current {
            Some(current) => current,
            none => none.insert(open_current(&self.folder, &self.shelf, &self.limits, &self.troubles)?),
        };
        let first = match current.append(batches) {
            Ok(first) => first,
            Err(error) => {
                let files = current.files.clone();
                // What was written of it is rolled back; it is opened, and if it must be set aside, at the next try.
                self.current = None;
                if !error.is_full() {
                    self.set_aside(&files, &error);
                }
                return Err(error);
            }
        };
        let (rows, bytes) = (current.rows, current.bytes());
        self.shelf.put(Shelved { files: current.files.clone(), first: current.first, last: current.last, rows, bytes, sealed: false });
        if rows >= self.limits.rows || bytes >= self.limits.partition() {
            self.turn();
        }
        while self.shelf.bytes() > self.limits.bytes && self.shelf.count() > 1 {
            self.remove_oldest();
        }
        Ok(first)
    }

    /// The current one is full. Its connection is closed first: sealing folds its log in.
    fn turn(&mut self) {
        if let Some(full) = self.current.take() {
            let files = full.files.clone();
            drop(full);
            let _ = self.sealer.send(files);
        }
    }

    fn remove_oldest(&mut self) {
        let Some(oldest) = self.shelf.oldest() else { return };
        if self.current.as_ref().is_some_and(|current| current.files == oldest.files) {
            self.current = None;
        }
        self.shelf.take(oldest.files.number);
        oldest.files.remove();
        info!(partition = oldest.files.number, rows = oldest.rows, "the oldest events made room");
    }
}

/// The newest that is not full, or a new one.
fn open_current(folder: &Path, shelf: &Shelf, limits: &Limits, troubles: &Troubles) -> Result<Partition, StoreError> {
    let newest = shelf.newest_first().into_iter().next();
    let next = newest.as_ref().map_or(1, |newest| newest.files.number + 1);
    if let Some(newest) = newest.filter(|newest| !newest.sealed && newest.rows < limits.rows && newest.bytes < limits.partition()) {
        match Partition::open(newest.files.clone()) {
            Ok(partition) => return Ok(partition),
            Err(error) if error.is_full() => return Err(error),
            Err(error) => {
                shelf.take(newest.files.number);
                let aside = newest.files.set_aside();
                troubles.tell(format!("the newest events could not be read ({}): they lie in {}", said(&error), aside.display()));
            }
        }
    }
    let files = Files::of(folder, next);
    // A number that was used and whose files are in the way belongs to nobody.
    files.remove();
    Partition::open(files)
}

fn start_sealer(shelf: Arc<Shelf>, troubles: Arc<Troubles>) -> io::Result<mpsc::Sender<Files>> {
    let (sender, full) = mpsc::channel::<Files>();
    thread::Builder::new().name("seal".into()).spawn(move || {
        for files in full {
            match files.seal() {
                Ok(()) => shelf.is_sealed_now(files.number, files.bytes()),
                // It was removed meanwhile, or cannot be indexed: it is searched row by row.
                Err(error) if shelf.find(files.number).is_some() => troubles.tell(format!("events could not be indexed: {}", said(&error))),
                Err(_) => files.remove(),
            }
        }
    })?;
    Ok(sender)
}

fn numbers(folder: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number: Option<u32> = name.to_str().and_then(|name| name.strip_prefix("events-")?.strip_suffix(".db")?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests;

pub fn said(error: &StoreError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
