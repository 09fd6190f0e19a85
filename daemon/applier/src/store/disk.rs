//! The few things that the store does to a disk, so that a test can cut the power between any two of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Paths are relative to the state folder. Every method has happened when it returns; what survives a power cut is
/// what the `sync` in its name or a later `sync_folder` of the folder says.
pub trait Disk {
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// The file's content is durable, its name not before `sync_folder`.
    fn write_synced(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&mut self, path: &str) -> io::Result<()>;
    fn make_folder(&mut self, path: &str) -> io::Result<()>;
    fn remove_folder(&mut self, path: &str) -> io::Result<()>;
    fn sync_folder(&mut self, folder: &str) -> io::Result<()>;
}

/// The real one.
pub struct Folder(pub PathBuf);

impl Disk for Folder {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(path))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.0.join(folder))?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn write_synced(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.0.join(path))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(path))
    }

    fn make_folder(&mut self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.0.join(path))
    }

    fn remove_folder(&mut self, path: &str) -> io::Result<()> {
        fs::remove_dir_all(self.0.join(path))
    }

    fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        File::open(self.0.join(folder))?.sync_all()
    }
}
