//! Puts a bundle into the slot that does not run.
//!
//! ```text
//! judge      everything that can be known before anything is changed
//! 1  the slot's boot entry goes        from here on the loader knows one slot, the one that runs
//! 2  the slot is called _empty
//! 3  root and verity are written, the rest is zeroed, all of it is synced
//! 4  and read back from the disk
//! 5  labels and UUIDs are set
//! 6  the manifest, then the kernel under a name that the loader does not see; synced, read back
//! 7  it gets its name, with three boots to be found good
//! ```
//! Cut off anywhere, the slot that runs boots again: its partitions, its label and its entry are not touched by any step.

use std::io::{self, Read};

use policy::messages::updater::{Refusal, Step};
use sha2::{Digest, Sha256};

use crate::bundle::{Manifest, Part, PartName, Refused, Signed, hex, refused};
use crate::entries::{Counted, Entry, TRIES};
use crate::medium::{EMPTY, LINUX, MANIFESTS, Medium, Partition, SlotPlace, UNFINISHED};
use crate::version::Version;

pub const PRODUCT: &str = "portcullis";
/// Small in tests, so that power can be lost between pieces.
const PIECE: usize = if cfg!(test) { 512 } else { 1 << 20 };

/// How far it is: step, bytes done, bytes in all.
pub type Told<'a> = &'a mut dyn FnMut(Step, u64, u64);

/// What has to hold before the first byte is changed. Answers the slot to write to.
pub fn judge(medium: &mut impl Medium, manifest: &Manifest, running: &Version, downgrade: bool) -> Result<SlotPlace, Refused> {
    if manifest.product != PRODUCT {
        return Err(refused(Refusal::WrongProduct, format!("this is an update for {:?}, and this box is {PRODUCT:?}", manifest.product)));
    }
    let version = &manifest.version;
    if version == running {
        return Err(refused(Refusal::SameVersion, format!("version {version} is what runs already")));
    }
    if version < running && !downgrade {
        return Err(refused(
            Refusal::Downgrade,
            format!("version {version} is older than {running}, which runs; ask for a downgrade if that is what you want"),
        ));
    }
    if *running < manifest.least_version {
        let least = &manifest.least_version;
        return Err(refused(
            Refusal::TooOldForIt,
            format!("version {version} can be installed from {least} on, and {running} runs; install {least} first"),
        ));
    }
    let broken = |error: io::Error| refused(Refusal::NoOtherSlot, format!("the slots cannot be read: {error}"));
    let slots = medium.slots().map_err(broken)?;
    if !slots.iter().any(|slot| slot.booted) {
        return Err(refused(Refusal::NoOtherSlot, "this box does not run from one of its slots"));
    }
    let found = entries(medium).map_err(broken)?;
    let trying = |entry: &&Entry| entry.version == *running && matches!(entry.counted, Counted::Trying(..));
    if found.iter().any(|entry| trying(&entry)) {
        return Err(refused(
            Refusal::Busy,
            format!("version {running} has not been found good yet; until then the other slot is the way back"),
        ));
    }
    let other = slots.into_iter().find(|slot| !slot.booted).ok_or_else(|| refused(Refusal::NoOtherSlot, "there is no second slot"))?;
    for (name, partition) in [(PartName::Root, &other.root), (PartName::Verity, &other.verity)] {
        let size = manifest.part(name).map_or(0, |part| part.size);
        if size > partition.size {
            return Err(refused(Refusal::TooBigForSlot, format!("{name:?} has {size} bytes and the slot {}", partition.size)));
        }
    }
    // The old entry of that slot goes first, and its room counts.
    let mut room = medium.free().map_err(broken)?;
    for name in medium.files(LINUX).map_err(broken)? {
        if is_unfinished(&name) || Entry::parse(&name).is_some_and(|entry| entry.version != *running) {
            medium.read_file(&format!("{LINUX}/{name}"), &mut |bytes| room += bytes.len() as u64).map_err(broken)?;
        }
    }
    let kernel = manifest.part(PartName::Kernel).map_or(0, |part| part.size);
    if kernel + MARGIN > room {
        return Err(refused(
            Refusal::TooLittleSpace,
            format!("its kernel has {kernel} bytes, and the boot partition has room for {}", room.saturating_sub(MARGIN)),
        ));
    }
    Ok(other)
}

/// For the manifest, folders and what a file system keeps to itself.
const MARGIN: u64 = 1 << 20;

/// The parts are read from `parts`, which stands at the first of them. An error leaves no boot entry of the new version.
pub fn install(
    medium: &mut impl Medium,
    signed: &Signed,
    parts: &mut impl Read,
    slot: &SlotPlace,
    running: &Version,
    told: Told,
) -> io::Result<()> {
    let manifest = &signed.manifest;
    forget_entries(medium, slot, manifest, running)?;
    for partition in [&slot.root, &slot.verity] {
        medium.relabel(partition.number, EMPTY, None)?;
    }
    let pairs = [(PartName::Root, &slot.root), (PartName::Verity, &slot.verity)];
    let total = manifest.parts.iter().map(|part| part.size).sum();
    let mut done = 0;
    for (name, partition) in pairs {
        let part = part(manifest, name)?;
        write_partition(medium, part, partition, parts, &mut |bytes| {
            done += bytes;
            told(Step::Writing, done, total);
        })?;
    }
    // The kernel comes last in the bundle, and the partitions must be known to be good before it: it waits in an unfinished file.
    let kernel = part(manifest, PartName::Kernel)?;
    write_kernel(medium, kernel, parts, &mut |bytes| {
        done += bytes;
        told(Step::Writing, done, total);
    })?;
    let mut done = 0;
    for (name, partition) in pairs {
        read_back(medium, part(manifest, name)?, partition, &mut |bytes| {
            done += bytes;
            told(Step::ReadingBack, done, total);
        })?;
    }
    let label = format!("portcullis_{}", manifest.version);
    medium.relabel(slot.verity.number, &format!("{label}_verity"), part(manifest, PartName::Verity)?.uuid.as_deref())?;
    medium.relabel(slot.root.number, &label, part(manifest, PartName::Root)?.uuid.as_deref())?;
    write_manifest(medium, signed)?;
    expect_file(medium, UNFINISHED, kernel)?;
    let entry = Entry { version: manifest.version.clone(), counted: Counted::Trying(TRIES, 0) };
    let place = format!("{LINUX}/{}", entry.name());
    medium.rename(UNFINISHED, &place)?;
    medium.sync_files()?;
    expect_file(medium, &place, kernel)?;
    if manifest.version < *running {
        put_aside(medium, running)?;
    }
    told(Step::Installed, total, total);
    Ok(())
}

/// Everything that the loader could boot from this slot, or under the new version's name.
fn forget_entries(medium: &mut impl Medium, slot: &SlotPlace, manifest: &Manifest, running: &Version) -> io::Result<()> {
    for name in medium.files(LINUX)? {
        // There are two slots: what is not the one that runs is the other.
        if is_unfinished(&name) || Entry::parse(&name).is_some_and(|entry| entry.version != *running) {
            medium.remove(&format!("{LINUX}/{name}"))?;
        }
    }
    for version in [slot.version(), Some(manifest.version.clone())].into_iter().flatten() {
        let name = manifest_name(&version);
        if version != *running && medium.files(MANIFESTS)?.contains(&name) {
            medium.remove(&format!("{MANIFESTS}/{name}"))?;
        }
    }
    medium.sync_files()
}

pub fn is_unfinished(name: &str) -> bool {
    UNFINISHED.rsplit('/').next() == Some(name)
}

fn write_partition(
    medium: &mut impl Medium,
    part: &Part,
    partition: &Partition,
    from: &mut impl Read,
    told: &mut dyn FnMut(u64),
) -> io::Result<()> {
    copy(part, from, told, |at, bytes| medium.write(partition.number, at, bytes))?;
    // Verity covers the whole partition, and what follows the files in it is zero.
    medium.zero(partition.number, part.size, partition.size)?;
    medium.sync(partition.number)
}

fn write_kernel(medium: &mut impl Medium, part: &Part, from: &mut impl Read, told: &mut dyn FnMut(u64)) -> io::Result<()> {
    medium.create(UNFINISHED)?;
    copy(part, from, told, |_, bytes| medium.append(UNFINISHED, bytes))?;
    medium.sync_files()
}

/// What is written is what was signed, also when the file changed since it was checked.
fn copy(
    part: &Part,
    from: &mut impl Read,
    told: &mut dyn FnMut(u64),
    mut write: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut hash = Sha256::new();
    let (mut piece, mut at) = (vec![0; PIECE], 0);
    while at < part.size {
        let want = (part.size - at).min(PIECE as u64) as usize;
        from.read_exact(&mut piece[..want])?;
        hash.update(&piece[..want]);
        write(at, &piece[..want])?;
        at += want as u64;
        told(want as u64);
    }
    same(part, &hex(&hash.finalize()), "the update changed while it was read")
}

fn read_back(medium: &mut impl Medium, part: &Part, partition: &Partition, told: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut hash = Sha256::new();
    let (mut piece, mut at) = (vec![0; PIECE], 0);
    while at < partition.size {
        let want = (partition.size - at).min(PIECE as u64) as usize;
        medium.read(partition.number, at, &mut piece[..want])?;
        let signed = (part.size.saturating_sub(at) as usize).min(want);
        hash.update(&piece[..signed]);
        if piece[signed..want].iter().any(|byte| *byte != 0) {
            return Err(io::Error::other(format!("partition {} holds something behind its files", partition.number)));
        }
        at += want as u64;
        told(signed as u64);
    }
    same(part, &hex(&hash.finalize()), "what was read back from the disk is not what was written to it")
}

fn expect_file(medium: &mut impl Medium, path: &str, part: &Part) -> io::Result<()> {
    same(part, &file_digest(medium, path)?, "the kernel that was read back from the boot partition is not what was written to it")
}

pub fn file_digest(medium: &mut impl Medium, path: &str) -> io::Result<String> {
    let mut hash = Sha256::new();
    medium.read_file(path, &mut |bytes| hash.update(bytes))?;
    Ok(hex(&hash.finalize()))
}

fn same(part: &Part, found: &str, otherwise: &str) -> io::Result<()> {
    if part.sha256.eq_ignore_ascii_case(found) { Ok(()) } else { Err(io::Error::other(format!("{otherwise} ({:?})", part.name))) }
}

fn write_manifest(medium: &mut impl Medium, signed: &Signed) -> io::Result<()> {
    let path = format!("{MANIFESTS}/{}", manifest_name(&signed.manifest.version));
    medium.create(&path)?;
    medium.append(&path, &signed.head)?;
    medium.sync_files()?;
    let mut found = vec![];
    medium.read_file(&path, &mut |bytes| found.extend_from_slice(bytes))?;
    if found == signed.head {
        Ok(())
    } else {
        Err(io::Error::other("the manifest that was read back from the boot partition is not what was written to it"))
    }
}

pub fn manifest_name(version: &Version) -> String {
    format!("{version}.manifest")
}

fn part(manifest: &Manifest, name: PartName) -> io::Result<&Part> {
    manifest.part(name).ok_or_else(|| io::Error::other(format!("the manifest has no {name:?}")))
}

pub fn entries(medium: &mut impl Medium) -> io::Result<Vec<Entry>> {
    Ok(medium.files(LINUX)?.iter().filter_map(|name| Entry::parse(name)).collect())
}

/// The loader takes the newest first, so a newer version has to step back for an older one.
pub fn put_aside(medium: &mut impl Medium, version: &Version) -> io::Result<()> {
    recount(medium, version, |_| Counted::Aside)
}

/// Gives the entry of a version another count.
pub fn recount(medium: &mut impl Medium, version: &Version, count: impl Fn(Counted) -> Counted) -> io::Result<()> {
    for entry in entries(medium)?.into_iter().filter(|entry| entry.version == *version) {
        let renamed = Entry { counted: count(entry.counted), ..entry.clone() };
        if renamed != entry {
            medium.rename(&format!("{LINUX}/{}", entry.name()), &format!("{LINUX}/{}", renamed.name()))?;
        }
    }
    medium.sync_files()
}

/// The next boot tries the other slot; three boots, as for an update.
pub fn choose_other(medium: &mut impl Medium, running: &Version) -> io::Result<Option<Version>> {
    let slots = medium.slots()?;
    let Some(other) = slots.iter().find(|slot| !slot.booted).and_then(SlotPlace::version) else { return Ok(None) };
    if !entries(medium)?.iter().any(|entry| entry.version == other) {
        return Ok(None);
    }
    recount(medium, &other, |_| Counted::Trying(TRIES, 0))?;
    if other < *running {
        put_aside(medium, running)?;
    }
    Ok(Some(other))
}
