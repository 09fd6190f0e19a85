//! `last-update.json` in the state folder: how the last update ended, over reboots and slots.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use policy::messages::updater::LastUpdate;

const NAME: &str = "last-update.json";

/// None also when what is there cannot be read: a record is for people, and nothing depends on it.
pub fn read(folder: &Path) -> Option<LastUpdate> {
    serde_json::from_slice(&fs::read(folder.join(NAME)).ok()?).ok()
}

pub fn write(folder: &Path, last: &LastUpdate) -> io::Result<()> {
    let beside = folder.join(format!("{NAME}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(last)?)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(NAME))?;
    File::open(folder)?.sync_all()
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
