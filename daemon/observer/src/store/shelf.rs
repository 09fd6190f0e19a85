//! What partitions there are, for the one who fills and for those who ask.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::partition::Files;

#[derive(Debug, Default)]
pub struct Shelf {
    inner: Mutex<Vec<Shelved>>,
}

#[derive(Debug, Clone)]
pub struct Shelved {
    pub files: Files,
    /// Microseconds since the epoch; nothing in it is outside. Empty while `first` is after `last`.
    pub first: i64,
    pub last: i64,
    pub rows: u64,
    pub bytes: u64,
    pub sealed: bool,
}

impl Shelf {
    /// Newest first, as they are now.
    pub fn newest_first(&self) -> Vec<Shelved> {
        self.lock().iter().rev().cloned().collect()
    }

    pub fn find(&self, number: u32) -> Option<Shelved> {
        self.lock().iter().find(|shelved| shelved.files.number == number).cloned()
    }

    /// Adds it, or says anew how it stands.
    pub fn put(&self, shelved: Shelved) {
        let mut inner = self.lock();
        match inner.iter_mut().find(|other| other.files.number == shelved.files.number) {
            Some(other) => *other = shelved,
            None => {
                inner.push(shelved);
                inner.sort_by_key(|shelved| shelved.files.number);
            }
        }
    }

    pub fn is_sealed_now(&self, number: u32, bytes: u64) {
        if let Some(shelved) = self.lock().iter_mut().find(|shelved| shelved.files.number == number) {
            shelved.sealed = true;
            shelved.bytes = bytes;
        }
    }

    pub fn take(&self, number: u32) -> Option<Shelved> {
        let mut inner = self.lock();
        let place = inner.iter().position(|shelved| shelved.files.number == number)?;
        Some(inner.remove(place))
    }

    pub fn oldest(&self) -> Option<Shelved> {
        self.lock().first().cloned()
    }

    pub fn bytes(&self) -> u64 {
        self.lock().iter().map(|shelved| shelved.bytes).sum()
    }

    pub fn count(&self) -> u64 {
        self.lock().len() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Shelved>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
