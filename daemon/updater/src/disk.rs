//! The real medium: one disk with a GPT, and the mounted ESP.
//!
//! The partition table is read and changed by sfdisk. A disk may also be a plain file, whose partitions are then reached by their offsets.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::syncfs;
use serde::Deserialize;

use crate::medium::{LINUX, MANIFESTS, Medium, Partition, SlotPlace};

pub struct Disk {
    device: PathBuf,
    /// Where the ESP is mounted.
    esp: PathBuf,
    /// UUID of the root that was booted; its hash begins with it.
    booted: Option<String>,
    open: BTreeMap<u32, Place>,
}

/// A partition that is being worked on.
struct Place {
    file: File,
    /// Of the partition, in the file.
    start: u64,
}

const ROOT: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
const VERITY: &str = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5";
const ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const PIECE: usize = 1 << 20;

#[derive(Debug, Deserialize)]
struct Dump {
    partitiontable: Table,
}

#[derive(Debug, Deserialize)]
struct Table {
    #[serde(default = "usual_sector")]
    sectorsize: u64,
    #[serde(default)]
    partitions: Vec<Row>,
}

#[derive(Debug, Clone, Deserialize)]
struct Row {
    node: PathBuf,
    start: u64,
    size: u64,
    #[serde(rename = "type")]
    kind: String,
    uuid: String,
    #[serde(default)]
    name: String,
}

fn usual_sector() -> u64 {
    512
}

impl Disk {
    pub fn new(device: PathBuf, esp: PathBuf, booted: Option<String>) -> Disk {
        Disk { device, esp, booted, open: BTreeMap::new() }
    }

    /// The ESP's device.
    pub fn boot_partition(device: &Path) -> io::Result<PathBuf> {
        let rows = rows(device)?;
        rows.into_iter()
            .find(|(_, row)| row.kind == ESP)
            .map(|(_, row)| row.node)
            .ok_or_else(|| io::Error::other("the disk has no EFI system partition"))
    }

    /// Number of the first partition of this name.
    pub fn number_of(device: &Path, label: &str) -> io::Result<Option<u32>> {
        Ok(rows(device)?.into_iter().find(|(_, row)| row.name == label).map(|(number, _)| number))
    }

    /// Takes a partition out of the table; what lies in it stays until something else is written there.
    pub fn forget_partition(device: &Path, number: u32) -> io::Result<()> {
        sfdisk(&["--no-reread", "--no-tell-kernel", "--quiet", "--delete"], device, &[&number.to_string()]).map(drop)
    }

    fn place(&mut self, partition: u32) -> io::Result<&Place> {
        if !self.open.contains_key(&partition) {
            let (_, row) = rows(&self.device)?
                .into_iter()
                .find(|(number, _)| *number == partition)
                .ok_or_else(|| io::Error::other(format!("there is no partition {partition}")))?;
            let own = fs::metadata(&row.node).is_ok_and(|found| found.file_type().is_block_device());
            let (path, start) = if own { (&row.node, 0) } else { (&self.device, row.start) };
            let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| on(path, error))?;
            self.open.insert(partition, Place { file, start });
        }
        self.open.get(&partition).ok_or_else(|| io::Error::other("a partition was not opened"))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.esp.join(path)
    }
}

impl Medium for Disk {
    fn slots(&mut self) -> io::Result<Vec<SlotPlace>> {
        let rows = rows(&self.device)?;
        let of =
            |kind: &str| rows.iter().filter(|(_, row)| row.kind == kind).map(|(number, row)| row.partition(*number)).collect::<Vec<_>>();
        let slots = of(ROOT).into_iter().zip(of(VERITY)).map(|(root, verity)| {
            let booted = self.booted.as_ref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(&root.uuid));
            SlotPlace { root, verity, booted }
        });
        Ok(slots.collect())
    }

    fn write(&mut self, partition: u32, at: u64, bytes: &[u8]) -> io::Result<()> {
        let place = self.place(partition)?;
        place.file.write_all_at(bytes, place.start + at)
    }

    fn zero(&mut self, partition: u32, from: u64, to: u64) -> io::Result<()> {
        let place = self.place(partition)?;
        let (mut at, end) = (place.start + from, place.start + to);
        if at < end
            && fallocate(
                &place.file,
                FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
                at as i64,
                (end - at) as i64,
            )
            .is_ok()
        {
            return Ok(());
        }
        let zeros = vec![0; PIECE];
        while at < end {
            let length = (end - at).min(PIECE as u64);
            place.file.write_all_at(&zeros[..length as usize], at)?;
            at += length;
        }
        Ok(())
    }

    fn sync(&mut self, partition: u32) -> io::Result<()> {
        self.place(partition)?.file.sync_all()
    }

    fn read(&mut self, partition: u32, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let place = self.place(partition)?;
        forget_cached(&place.file, place.start + at, bytes.len());
        place.file.read_exact_at(bytes, place.start + at)
    }

    fn relabel(&mut self, partition: u32, label: &str, uuid: Option<&str>) -> io::Result<()> {
        let (number, flags) = (partition.to_string(), ["--no-reread", "--no-tell-kernel", "--quiet"]);
        if let Some(uuid) = uuid {
            sfdisk(&[flags.as_slice(), &["--part-uuid"]].concat(), &self.device, &[&number, uuid])?;
        }
        sfdisk(&[flags.as_slice(), &["--part-label"]].concat(), &self.device, &[&number, label])?;
        File::open(&self.device)?.sync_all()?;
        let found = rows(&self.device)?.into_iter().find(|(number, _)| *number == partition);
        let same = found.is_some_and(|(_, row)| row.name == label && uuid.is_none_or(|uuid| uuid.eq_ignore_ascii_case(&row.uuid)));
        if same { Ok(()) } else { Err(io::Error::other(format!("partition {partition} did not become {label}"))) }
    }

    fn files(&mut self, folder: &str) -> io::Result<Vec<String>> {
        let listed = match fs::read_dir(self.path(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            listed => listed?,
        };
        let names: io::Result<Vec<String>> = listed.map(|file| Ok(file?.file_name().to_string_lossy().into_owned())).collect();
        names.map(|mut names| {
            names.sort();
            names
        })
    }

    fn read_file(&mut self, path: &str, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut file = File::open(self.path(path)).map_err(|error| on(&self.path(path), error))?;
        forget_cached(&file, 0, 0);
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(()),
                length => take(&piece[..length]),
            }
        }
    }

    fn create(&mut self, path: &str) -> io::Result<()> {
        let path = self.path(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        File::create(&path).map(drop).map_err(|error| on(&path, error))
    }

    fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(path);
        OpenOptions::new().append(true).open(&path).and_then(|mut file| file.write_all(bytes)).map_err(|error| on(&path, error))
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path)).map_err(|error| on(&self.path(path), error))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to)).map_err(|error| on(&self.path(from), error))
    }

    fn sync_files(&mut self) -> io::Result<()> {
        syncfs(File::open(&self.esp)?)?;
        // syncfs writes FAT out and does not empty the disk's own cache; fsync of a folder does.
        for folder in [LINUX, MANIFESTS] {
            match File::open(self.path(folder)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => opened?.sync_all()?,
            }
        }
        Ok(())
    }

    fn free(&mut self) -> io::Result<u64> {
        let found = fstatvfs(File::open(&self.esp)?)?;
        Ok(found.blocks_available() * found.fragment_size())
    }
}

impl Row {
    fn partition(&self, number: u32) -> Partition {
        Partition { number, label: self.name.clone(), uuid: self.uuid.clone(), size: self.size }
    }
}

/// Partitions with their numbers, in the order of the table; starts and sizes in bytes.
fn rows(device: &Path) -> io::Result<Vec<(u32, Row)>> {
    let text = sfdisk(&["--json"], device, &[])?;
    let dump: Dump = serde_json::from_slice(&text).map_err(io::Error::other)?;
    let sector = dump.partitiontable.sectorsize;
    let numbered = dump.partitiontable.partitions.into_iter().map(|row| {
        let node = row.node.to_string_lossy().into_owned();
        let digits = node.len() - node.trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
        let number = node[node.len() - digits..].parse().map_err(|_| io::Error::other(format!("{node} has no number")))?;
        Ok((number, Row { start: row.start * sector, size: row.size * sector, ..row }))
    });
    numbered.collect()
}

fn sfdisk(flags: &[&str], device: &Path, values: &[&str]) -> io::Result<Vec<u8>> {
    let output = Command::new("sfdisk").args(flags).arg(device).args(values).env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.map_err(|error| io::Error::other(format!("sfdisk cannot be started: {error}")))?;
    if !output.status.success() {
        return Err(io::Error::other(format!("sfdisk {}: {}", flags.join(" "), String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(output.stdout)
}

/// Only for what is on the disk already: memory is asked to forget its copy, so that the next read is of the disk.
fn forget_cached(file: &File, at: u64, length: usize) {
    let _ = posix_fadvise(file, at as i64, length as i64, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

fn on(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
