//! Used quotas on their way to the disk: on a thread of its own, since a slow disk must not keep a permit in the kernel.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::warn;

use super::usage::Usage;
use crate::store::Folder;

pub struct Recorder {
    sender: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
    changed: bool,
    kept: Instant,
}

/// What a power cut may take of what was counted.
const EVERY: Duration = Duration::from_secs(10);

impl Recorder {
    pub fn start(folder: PathBuf) -> Recorder {
        let (sender, inbox) = sync_channel::<Vec<u8>>(1);
        let work = move || {
            let mut disk = Folder(folder);
            for bytes in inbox {
                if let Err(error) = Usage::write(&mut disk, &bytes) {
                    warn!(%error, "used quotas could not be recorded");
                }
            }
        };
        let thread = thread::Builder::new().name("record".into()).spawn(work);
        let thread = thread.map_err(|error| warn!(%error, "used quotas will not be recorded")).ok();
        Recorder { sender: thread.is_some().then_some(sender), thread, changed: false, kept: Instant::now() }
    }

    pub fn changed(&mut self) {
        self.changed = true;
    }

    /// When it is time, or at once. A disk that is busy with the last record gets this one a moment later.
    pub fn keep(&mut self, usage: &Usage, at_once: bool) {
        let Some(sender) = self.sender.as_ref().filter(|_| self.changed && (at_once || self.kept.elapsed() >= EVERY)) else { return };
        match sender.try_send(usage.sealed()) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {
                self.changed = false;
                self.kept = Instant::now();
            }
            Err(TrySendError::Full(_)) => {}
        }
    }

    /// Waits until everything is written.
    pub fn finish(&mut self, usage: &Usage) {
        if let Some(sender) = self.sender.take().filter(|_| self.changed) {
            sender.send(usage.sealed()).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A process of this boot. One that took another's number says less than was said before, and is found by that.
pub fn identity(pid: i32) -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("{} {pid}", boot.trim())
}
