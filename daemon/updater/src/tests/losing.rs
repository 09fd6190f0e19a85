//! A disk in memory. What was not synced when the power goes is kept, lost or torn, each write for itself.

use std::collections::BTreeMap;
use std::io;

use super::make::{KERNEL, ROOT, VERITY, bytes, uuid, version};
use crate::bundle::PartName;
use crate::entries::{Counted, Entry};
use crate::medium::{EMPTY, LINUX, Medium, Partition, SlotPlace};
use crate::version::Version;

#[derive(Debug, Clone)]
pub struct Losing {
    /// On the disk for certain.
    kept: State,
    /// As it looks while the power is on.
    seen: State,
    pending: Vec<Op>,
    /// Changes made so far.
    pub steps: usize,
    /// The power goes instead of this change.
    pub dies_at: Option<usize>,
    pub booted: Version,
    pub free: u64,
    /// Syncing does nothing: what the tests of power cuts must notice.
    pub never_syncs: bool,
    /// The disk keeps something else than what it was given, at this change.
    pub flips_at: Option<usize>,
    /// Reads come from memory instead of from the disk: what hides a flipped bit.
    pub reads_from_memory: bool,
}

#[derive(Debug, Clone, Default)]
struct State {
    partitions: BTreeMap<u32, (String, String, Vec<u8>)>,
    files: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Op {
    Write(u32, u64, Vec<u8>),
    Create(String),
    Append(String, Vec<u8>),
    Remove(String),
    Rename(String, String),
}

pub const ROOT_SPACE: usize = 8192;
const VERITY_SPACE: usize = 1024;

impl Losing {
    /// Slot A with a good version that runs, slot B with `other` or empty.
    pub fn new(running: &str, other: Option<&str>) -> Losing {
        let mut kept = State::default();
        for (number, of) in [(2, Some(running)), (4, other)] {
            for (number, name, size, space, end) in
                [(number, PartName::Root, ROOT, ROOT_SPACE, ""), (number + 1, PartName::Verity, VERITY, VERITY_SPACE, "_verity")]
            {
                let label = of.map_or(EMPTY.into(), |of| format!("portcullis_{of}{end}"));
                let mut content = of.map_or(vec![0xee; space], |of| bytes(of, name, size));
                content.resize(space, 0);
                kept.partitions.insert(number, (label, of.map_or_else(|| format!("empty-{number}"), |of| uuid(of, name)), content));
            }
            if let Some(of) = of {
                let entry = Entry { version: version(of), counted: Counted::Good };
                kept.files.insert(format!("{LINUX}/{}", entry.name()), bytes(of, PartName::Kernel, KERNEL));
            }
        }
        Losing {
            seen: kept.clone(),
            kept,
            pending: vec![],
            steps: 0,
            dies_at: None,
            booted: version(running),
            free: 1 << 30,
            never_syncs: false,
            flips_at: None,
            reads_from_memory: false,
        }
    }

    /// What a disk is after the power went, by this number's luck.
    pub fn after_the_cut(&self, luck: u64) -> Losing {
        let mut kept = self.kept.clone();
        let mut luck = luck.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for op in &self.pending {
            luck ^= luck << 13;
            luck ^= luck >> 7;
            luck ^= luck << 17;
            match (luck % 3, op) {
                (0, _) => {}
                (1, Op::Write(partition, at, bytes)) => kept.apply(&Op::Write(*partition, *at, bytes[..bytes.len() / 2].to_vec())),
                (1, Op::Append(path, bytes)) => kept.apply(&Op::Append(path.clone(), bytes[..bytes.len() / 2].to_vec())),
                // The new name was written and the old one not yet taken away.
                (1, Op::Rename(from, to)) => {
                    let old = kept.files.get(from).cloned();
                    kept.apply(&Op::Rename(from.clone(), to.clone()));
                    kept.files.extend(old.map(|old| (from.clone(), old)));
                }
                (_, op) => kept.apply(op),
            }
        }
        Losing { seen: kept.clone(), kept, pending: vec![], steps: 0, dies_at: None, ..self.clone() }
    }

    /// The loader and the kernel: whether this version would come up.
    pub fn boots(&self, of: &Version) -> bool {
        let text = of.to_string();
        let kernel = self
            .entries()
            .into_iter()
            .find(|entry| entry.version == *of)
            .and_then(|entry| self.seen.files.get(&format!("{LINUX}/{}", entry.name())));
        kernel == Some(&bytes(&text, PartName::Kernel, KERNEL))
            && self.holds(&text, PartName::Root, ROOT)
            && self.holds(&text, PartName::Verity, VERITY)
    }

    /// A partition that the kernel of this version would find by its UUID, with the right bytes and zeros after them.
    fn holds(&self, of: &str, name: PartName, size: usize) -> bool {
        let wanted = bytes(of, name, size);
        self.seen.partitions.values().any(|(_, found, content)| {
            *found == uuid(of, name) && content[..size] == wanted && content[size..].iter().all(|byte| *byte == 0)
        })
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.seen.files.keys().filter_map(|path| Entry::parse(path.strip_prefix(&format!("{LINUX}/"))?)).collect()
    }

    pub fn label(&self, partition: u32) -> &str {
        &self.seen.partitions[&partition].0
    }

    /// Everything that is on the disk, to compare.
    pub fn picture(&self) -> String {
        format!("{:?}", self.seen)
    }

    pub fn damage_file(&mut self, path: &str) {
        for state in [&mut self.kept, &mut self.seen] {
            state.files.get_mut(path).unwrap()[7] ^= 1;
        }
    }

    fn step(&mut self) -> io::Result<()> {
        if self.dies_at.is_some_and(|at| self.steps >= at) {
            return Err(io::Error::other("the power is gone"));
        }
        self.steps += 1;
        Ok(())
    }

    fn change(&mut self, op: Op) -> io::Result<()> {
        self.step()?;
        self.seen.apply(&op);
        let flipped = self.flips_at.is_some_and(|at| self.steps == at + 1);
        self.pending.push(match op {
            Op::Write(partition, at, mut bytes) if flipped => {
                bytes[0] ^= 4;
                Op::Write(partition, at, bytes)
            }
            Op::Append(path, mut bytes) if flipped => {
                bytes[0] ^= 4;
                Op::Append(path, bytes)
            }
            op => op,
        });
        Ok(())
    }

    fn keep(&mut self, which: impl Fn(&Op) -> bool) -> io::Result<()> {
        self.step()?;
        if self.never_syncs {
            return Ok(());
        }
        let (now, later): (Vec<Op>, Vec<Op>) = self.pending.drain(..).partition(which);
        now.iter().for_each(|op| self.kept.apply(op));
        self.pending = later;
        if !self.reads_from_memory && self.pending.is_empty() {
            self.seen = self.kept.clone();
        }
        Ok(())
    }
}

impl State {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write(partition, at, bytes) => {
                let content = &mut self.partitions.get_mut(partition).unwrap().2;
                content[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
            }
            Op::Create(path) => {
                self.files.insert(path.clone(), vec![]);
            }
            // Its name may be lost, and then it is nowhere.
            Op::Append(path, bytes) => {
                if let Some(file) = self.files.get_mut(path) {
                    file.extend(bytes);
                }
            }
            Op::Remove(path) => {
                self.files.remove(path);
            }
            Op::Rename(from, to) => {
                if let Some(file) = self.files.remove(from) {
                    self.files.insert(to.clone(), file);
                }
            }
        }
    }
}

impl Medium for Losing {
    fn slots(&mut self) -> io::Result<Vec<SlotPlace>> {
        let partition = |number: u32| {
            let (label, uuid, content) = &self.seen.partitions[&number];
            Partition { number, label: label.clone(), uuid: uuid.clone(), size: content.len() as u64 }
        };
        let booted = uuid(&self.booted.to_string(), PartName::Root);
        Ok([2, 4]
            .map(|number| SlotPlace { root: partition(number), verity: partition(number + 1), booted: partition(number).uuid == booted })
            .into())
    }

    fn write(&mut self, partition: u32, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Op::Write(partition, at, bytes.to_vec()))
    }

    fn zero(&mut self, partition: u32, from: u64, to: u64) -> io::Result<()> {
        self.change(Op::Write(partition, from, vec![0; (to - from) as usize]))
    }

    fn sync(&mut self, partition: u32) -> io::Result<()> {
        self.keep(|op| matches!(op, Op::Write(number, ..) if *number == partition))
    }

    fn read(&mut self, partition: u32, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let from = if self.reads_from_memory { &self.seen } else { &self.kept };
        bytes.copy_from_slice(&from.partitions[&partition].2[at as usize..][..bytes.len()]);
        Ok(())
    }

    fn relabel(&mut self, partition: u32, label: &str, uuid: Option<&str>) -> io::Result<()> {
        self.step()?;
        for state in [&mut self.kept, &mut self.seen] {
            let row = state.partitions.get_mut(&partition).unwrap();
            row.0 = label.to_owned();
            row.1 = uuid.unwrap_or(&row.1).to_owned();
        }
        Ok(())
    }

    fn files(&mut self, folder: &str) -> io::Result<Vec<String>> {
        Ok(self.seen.files.keys().filter_map(|path| Some(path.strip_prefix(folder)?.strip_prefix('/')?.to_owned())).collect())
    }

    fn read_file(&mut self, path: &str, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        take(self.seen.files.get(path).ok_or(io::ErrorKind::NotFound)?);
        Ok(())
    }

    fn create(&mut self, path: &str) -> io::Result<()> {
        self.change(Op::Create(path.to_owned()))
    }

    fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.change(Op::Append(path.to_owned(), bytes.to_vec()))
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.change(Op::Remove(path.to_owned()))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change(Op::Rename(from.to_owned(), to.to_owned()))
    }

    fn sync_files(&mut self) -> io::Result<()> {
        self.keep(|op| !matches!(op, Op::Write(..)))
    }

    fn free(&mut self) -> io::Result<u64> {
        Ok(self.free)
    }
}
