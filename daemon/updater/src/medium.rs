//! What slots lie on: partitions, the partition table, and the EFI system partition's files.
//!
//! Decisions (`install`, `settle`, `bless`) speak to this alone. `disk` is the real one; tests have one that loses its power.

use std::io;

/// Root and verity, as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotPlace {
    pub root: Partition,
    pub verity: Partition,
    /// The kernel was started with this root's hash.
    pub booted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// In the partition table, from 1.
    pub number: u32,
    pub label: String,
    pub uuid: String,
    pub size: u64,
}

/// What a slot without a version is called.
pub const EMPTY: &str = "_empty";
/// Where the loader looks for entries.
pub const LINUX: &str = "EFI/Linux";
/// The heads of the bundles that entries came from.
pub const MANIFESTS: &str = "EFI/portcullis";
/// A kernel that is still being written; the loader looks only at `*.efi`.
pub const UNFINISHED: &str = "EFI/Linux/portcullis.unfinished";

pub trait Medium {
    /// In the order of the disk.
    fn slots(&mut self) -> io::Result<Vec<SlotPlace>>;
    fn write(&mut self, partition: u32, at: u64, bytes: &[u8]) -> io::Result<()>;
    fn zero(&mut self, partition: u32, from: u64, to: u64) -> io::Result<()>;
    /// What was written is on the disk, past its caches.
    fn sync(&mut self, partition: u32) -> io::Result<()>;
    /// From the disk, not from memory.
    fn read(&mut self, partition: u32, at: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// On the disk when it returns.
    fn relabel(&mut self, partition: u32, label: &str, uuid: Option<&str>) -> io::Result<()>;

    /// Names in a folder of the ESP; none when there is no such folder.
    fn files(&mut self, folder: &str) -> io::Result<Vec<String>>;
    fn read_file(&mut self, path: &str, take: &mut dyn FnMut(&[u8])) -> io::Result<()>;
    /// A new file, its folder too where it is missing; whatever had its name is replaced.
    fn create(&mut self, path: &str) -> io::Result<()>;
    fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;
    fn remove(&mut self, path: &str) -> io::Result<()>;
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Everything of the ESP is on the disk.
    fn sync_files(&mut self) -> io::Result<()>;
    /// Bytes of the ESP that are free.
    fn free(&mut self) -> io::Result<u64>;
}

impl SlotPlace {
    /// The version that its label speaks of.
    pub fn version(&self) -> Option<crate::version::Version> {
        self.root.label.strip_prefix("portcullis_")?.parse().ok()
    }
}
