//! Removable volumes: which there are, and files from and to them. Mounted for one request at a time, never executed from, never followed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use nix::unistd::syncfs;
use policy::messages::updater::{Refusal, Stick, StickFile};

use crate::bundle::{Refused, refused};
use crate::mount::Mounted;

pub struct Sticks {
    /// Mounts are made below it.
    pub state_dir: PathBuf,
    /// The disk that the system lies on is never one, wherever it is plugged in.
    pub own_disk: Option<PathBuf>,
    pub also: Vec<String>,
}

/// File systems that are mounted; the kernel has others, with more past faults.
const KINDS: [&str; 3] = ["vfat", "exfat", "ext4"];
const MOST_FILES: usize = 200;
const MOST_WRITTEN: u64 = 4 << 30;
const PIECE: usize = 1 << 20;

struct Volume {
    name: String,
    label: String,
    kind: String,
    size: u64,
    writable: bool,
}

impl Sticks {
    pub fn list(&self) -> Vec<Stick> {
        self.volumes().into_iter().map(|volume| self.look(volume)).collect()
    }

    fn look(&self, volume: Volume) -> Stick {
        let mounted = self.mount(&volume, false);
        let files = mounted.as_ref().map(|mounted| files(mounted.path())).unwrap_or_default();
        let free = mounted.as_ref().ok().and_then(|mounted| statvfs(mounted.path()).ok());
        let free = free.map_or(0, |found| found.blocks_available() * found.fragment_size());
        Stick {
            name: volume.name,
            label: volume.label,
            file_system: volume.kind,
            size: volume.size,
            free,
            writable: volume.writable,
            files,
        }
    }

    /// A file that goes on being readable when the stick's mount is gone.
    pub fn open(&self, stick: &str, path: &str) -> Result<File, Refused> {
        let mounted = self.mount(&self.volume(stick)?, false)?;
        let folder = folder(mounted.path())?;
        let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).resolve(within());
        let missing = |why: String| refused(Refusal::NoSuchFile, format!("{path:?} on {stick} cannot be opened: {why}"));
        let file = openat2(folder.as_fd(), path, how).map(File::from).map_err(|error| missing(error.to_string()))?;
        match file.metadata() {
            Ok(found) if found.is_file() => Ok(file),
            Ok(_) => Err(missing("it is not a file".into())),
            Err(error) => Err(missing(error.to_string())),
        }
    }

    /// Answers how many bytes lie there now.
    pub fn write(&self, stick: &str, name: &str, from: &OwnedFd) -> Result<u64, Refused> {
        let odd = name.is_empty()
            || name.len() > 100
            || name.starts_with('.')
            || name.chars().any(|letter| letter.is_control() || "/\\:*?\"<>|".contains(letter));
        if odd {
            return Err(refused(
                Refusal::NoSuchFile,
                format!("{name:?} is no name for a file on a stick: no slash, colon, star or the like, and no dot in front"),
            ));
        }
        let mounted = self.mount(&self.volume(stick)?, true)?;
        let folder = folder(mounted.path())?;
        let beside = format!("{name}.part");
        let written = copy(&folder, &beside, from).and_then(|size| {
            renameat(&folder, beside.as_str(), &folder, name)?;
            syncfs(&folder)?;
            folder.sync_all()?;
            Ok(size)
        });
        written.map_err(|error| {
            let _ = fs::remove_file(mounted.path().join(&beside));
            refused(Refusal::TooLittleSpace, format!("{name} was not written to {stick}: {error}"))
        })
    }

    fn volume(&self, name: &str) -> Result<Volume, Refused> {
        let found = self.volumes().into_iter().find(|volume| volume.name == name);
        found.ok_or_else(|| {
            refused(
                Refusal::NoSuchStick,
                format!("there is no stick {name:?}; plug it in, and give it a file system of vfat, exfat or ext4"),
            )
        })
    }

    fn mount(&self, volume: &Volume, writable: bool) -> Result<Mounted, Refused> {
        let device = Path::new("/dev").join(&volume.name);
        Mounted::new(&device, &self.state_dir.join("stick"), &volume.kind, writable)
            .map_err(|error| refused(Refusal::NoSuchStick, error.to_string()))
    }

    fn volumes(&self) -> Vec<Volume> {
        let own = self.own_disk.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let Ok(listed) = fs::read_dir("/sys/class/block") else { return vec![] };
        let names: BTreeSet<String> = listed.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.into_iter().filter(|name| self.is_a_stick(name, own.as_deref())).filter_map(|name| probe(&name)).collect()
    }

    fn is_a_stick(&self, name: &str, own: Option<&str>) -> bool {
        let Ok(place) = fs::canonicalize(Path::new("/sys/class/block").join(name)) else { return false };
        let is_part = place.join("partition").exists();
        let disk = if is_part { place.parent().unwrap_or(&place) } else { &place };
        if disk.file_name().and_then(|name| name.to_str()) == own && own.is_some() {
            return false;
        }
        let removable = fs::read_to_string(disk.join("removable")).is_ok_and(|text| text.trim() == "1");
        let by_usb = disk.components().any(|part| part.as_os_str().to_string_lossy().starts_with("usb"));
        removable || by_usb || self.also.iter().any(|also| also == name)
    }
}

/// None unless it holds a file system that we mount.
fn probe(name: &str) -> Option<Volume> {
    let device = Path::new("/dev").join(name);
    let output = Command::new("blkid").args(["--probe", "--output", "export"]).arg(&device).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or("").to_owned();
    let kind = field("TYPE");
    if !KINDS.contains(&kind.as_str()) {
        return None;
    }
    let number = |file: &str| fs::read_to_string(Path::new("/sys/class/block").join(name).join(file)).ok()?.trim().parse::<u64>().ok();
    let label = field("LABEL").chars().filter(|letter| !letter.is_control()).take(64).collect();
    Some(Volume { name: name.to_owned(), label, kind, size: number("size").unwrap_or(0) * 512, writable: number("ro") == Some(0) })
}

fn files(folder: &Path) -> Vec<StickFile> {
    let Ok(listed) = fs::read_dir(folder) else { return vec![] };
    let plain = listed.flatten().filter_map(|file| {
        let found = file.metadata().ok().filter(|found| found.is_file())?;
        Some(StickFile { name: file.file_name().into_string().ok()?, size: found.len() })
    });
    let mut files: Vec<StickFile> = plain.collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files.truncate(MOST_FILES);
    files
}

fn folder(path: &Path) -> Result<File, Refused> {
    File::open(path).map_err(|error| refused(Refusal::NoSuchStick, error.to_string()))
}

fn within() -> ResolveFlag {
    ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS
}

fn copy(folder: &File, name: &str, from: &OwnedFd) -> io::Result<u64> {
    let how = OpenHow::new()
        .flags(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC)
        .mode(Mode::from_bits_truncate(0o600))
        .resolve(within());
    let mut to = File::from(openat2(folder.as_fd(), name, how)?);
    let from = File::from(from.try_clone()?);
    let (mut piece, mut at) = (vec![0; PIECE], 0);
    loop {
        match from.read_at(&mut piece, at)? {
            0 => break,
            length => {
                to.write_all(&piece[..length])?;
                at += length as u64;
            }
        }
        if at > MOST_WRITTEN {
            return Err(io::Error::other("it is larger than 4 GiB"));
        }
    }
    to.sync_all()?;
    Ok(at)
}
