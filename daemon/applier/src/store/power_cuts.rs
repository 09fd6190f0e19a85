//! The store on a disk that loses whatever was not synced, cut off after every single operation.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What an operation did to names; content is durable with `write_synced`, names with `sync_folder`.
#[derive(Debug, Clone)]
pub enum Op {
    /// With `torn`, the power went while it was written.
    Write {
        path: String,
        bytes: Vec<u8>,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    RemoveFolder {
        path: String,
    },
    MakeFolder,
    SyncFolder {
        folder: String,
    },
}

type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default, Clone)]
pub struct Flaky {
    pub files: Files,
    pub log: Vec<Op>,
    /// No space for anything more.
    pub full: bool,
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

fn perform(files: &mut Files, op: &Op) {
    match op {
        Op::Write { path, bytes } => drop(files.insert(path.clone(), bytes.clone())),
        Op::Rename { from, to } => {
            let inside = |path: &str| path == from || path.starts_with(&format!("{from}/"));
            let moved: Vec<(String, Vec<u8>)> = files.extract_if(.., |path, _| inside(path)).collect();
            files.extend(moved.into_iter().map(|(path, bytes)| (format!("{to}{}", &path[from.len()..]), bytes)));
        }
        Op::Remove { path } => drop(files.remove(path)),
        Op::RemoveFolder { path } => files.retain(|file, _| !file.starts_with(&format!("{path}/"))),
        Op::MakeFolder | Op::SyncFolder { .. } => {}
    }
}

impl Op {
    /// The folder in which a name changes.
    fn folder(&self) -> Option<&str> {
        match self {
            Op::Write { path, .. } | Op::Remove { path } | Op::RemoveFolder { path } => Some(folder_of(path)),
            Op::Rename { to, .. } => Some(folder_of(to)),
            Op::MakeFolder | Op::SyncFolder { .. } => None,
        }
    }
}

impl Flaky {
    /// The disk after a power cut before operation `at`: names that were not synced are there or not, as `luck` decides, and the
    /// operation that was under way is half done.
    pub fn after_power_cut(&self, at: usize, mut luck: u64) -> Flaky {
        let mut coin = || {
            luck = luck.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            luck >> 63 == 1
        };
        let mut files = Files::new();
        for (place, op) in self.log[..at].iter().enumerate() {
            let synced = op.folder().is_none_or(|folder| {
                self.log[place..at].iter().any(|later| matches!(later, Op::SyncFolder { folder: synced } if synced == folder))
            });
            if synced || coin() {
                perform(&mut files, op);
            }
        }
        if let Some(Op::Write { path, bytes }) = self.log.get(at)
            && coin()
        {
            files.insert(path.clone(), bytes[..bytes.len() / 2].to_vec());
        }
        Flaky { files, log: vec![], full: false }
    }

    fn act(&mut self, op: Op) -> io::Result<()> {
        let grows = matches!(op, Op::Write { .. } | Op::MakeFolder);
        if self.full && grows {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        perform(&mut self.files, &op);
        self.log.push(op);
        Ok(())
    }
}

impl Disk for Flaky {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let below = |path: &String| Some(path.strip_prefix(folder)?.strip_prefix('/')?.split('/').next()?.to_owned());
        let mut names: Vec<String> = self.files.keys().filter_map(below).collect();
        names.dedup();
        Ok(names)
    }
    fn write_synced(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.act(Op::Write { path: path.into(), bytes: bytes.into() })
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.act(Op::Rename { from: from.into(), to: to.into() })
    }
    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.read(path)?;
        self.act(Op::Remove { path: path.into() })
    }
    fn make_folder(&mut self, _path: &str) -> io::Result<()> {
        self.act(Op::MakeFolder)
    }
    fn remove_folder(&mut self, path: &str) -> io::Result<()> {
        self.act(Op::RemoveFolder { path: path.into() })
    }
    fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        self.act(Op::SyncFolder { folder: folder.into() })
    }
}

fn policy(number: Number) -> Sources {
    Sources::single("box.yaml", format!("the text of {number}"))
}

fn digest(number: Number) -> Digest {
    Digest(format!("{number:064}"))
}

fn save(store: &mut Store<Flaky>, number: Number) {
    store.save(number, &policy(number), &digest(number), "anna", 1).unwrap();
}

/// Two changes, the first confirmed, the second going back, the third confirmed; with the place in the log at which each promise held.
struct Story {
    store: Store<Flaky>,
    /// From this operation on, a restart restores this.
    promises: Vec<(usize, Option<Number>)>,
    /// From operation to operation, a start must find a trial.
    trials: Vec<(usize, usize)>,
}

fn story() -> Story {
    let mut store = Store::new(Flaky::default());
    store.found().unwrap();
    let mut promises = vec![(store.disk.log.len(), None)];
    let mut trials = vec![];
    for (number, keep) in [(1, true), (2, false), (3, true)] {
        save(&mut store, number);
        store.record(number, None, "anna").unwrap();
        let begun = store.disk.log.len();
        if keep {
            let before = store.disk.log.len();
            store.point(Some(number), "anna").unwrap();
            promises.push((before, promises.last().unwrap().1));
            promises.push((store.disk.log.len(), Some(number)));
        }
        trials.push((begun, store.disk.log.len()));
        store.unrecord().unwrap();
    }
    Story { store, promises, trials }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_anywhere_restores_what_was_confirmed(luck in any::<u64>()) {
        let Story { store, promises, trials } = story();
        for at in 0..=store.disk.log.len() {
            let mut after = Store::new(store.disk.after_power_cut(at, luck));
            let found = after.found().unwrap();
            let held = promises.iter().rev().find(|(from, _)| *from <= at).and_then(|(_, number)| *number);
            // While a confirmation is being written, both the old and the new are true answers; nobody was told yet.
            let next = promises.iter().find(|(from, _)| *from > at).and_then(|(_, number)| *number);
            let writing = promises.windows(2).any(|pair| pair[0].0 <= at && at < pair[1].0 && pair[0].1 != pair[1].1);
            prop_assert!(found.confirmed == held || writing && found.confirmed == next, "cut at {at}: {found:?}, not {held:?}");
            if trials.iter().any(|(from, to)| (*from..=*to).contains(&at)) {
                prop_assert!(found.trial.is_some(), "cut at {at}: the trial is forgotten");
            }
            if let Some(number) = found.confirmed {
                prop_assert_eq!(after.load(number).unwrap().0, policy(number));
            }
            // And it goes on: the next change finds its place.
            save(&mut after, found.next);
            prop_assert!(after.load(found.next).is_ok());
        }
    }

    #[test]
    fn garbage_is_passed_over_and_told(victim in any::<prop::sample::Index>(), garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut disk = story().store.disk;
        let path = disk.files.keys().nth(victim.index(disk.files.len())).unwrap().clone();
        disk.files.insert(path.clone(), garbage);
        let mut store = Store::new(disk);
        let found = store.found().unwrap();
        // Generation 2 was never confirmed; nothing may bring it back.
        prop_assert!(found.confirmed == Some(3) || found.confirmed == Some(1), "{path}: {found:?}");
        prop_assert!(found.confirmed == Some(3) || !found.remarks.is_empty());
        prop_assert!(found.next > 3);
        store.kept();
    }
}

#[test]
fn without_its_pointer_the_newest_confirmed_generation_comes_back_and_not_the_one_on_trial() {
    let mut store = story().store;
    save(&mut store, 4);
    store.record(4, Some(3), "anna").unwrap();
    store.disk.files.insert("confirmed".into(), b"7".to_vec());
    let found = store.found().unwrap();
    assert_eq!(found.confirmed, Some(3));
    assert!(found.remarks.iter().any(|remark| remark.contains("damaged")), "{:?}", found.remarks);
    assert!(store.found().unwrap().remarks.is_empty(), "mended only once");
}

#[test]
fn a_full_disk_is_an_error_and_leaves_the_rest_as_it_was() {
    let mut store = story().store;
    store.disk.full = true;
    let error = store.save(4, &policy(4), &digest(4), "anna", 1).unwrap_err().to_string();
    assert!(error.contains("could not store generation 4"), "{error}");
    assert!(store.record(4, Some(3), "anna").is_err());
    assert!(store.point(Some(4), "anna").is_err());
    store.disk.full = false;
    assert_eq!(store.found().unwrap().confirmed, Some(3));
}

#[test]
fn only_the_newest_are_kept_and_always_the_confirmed_one() {
    let mut store = story().store;
    (4..40).for_each(|number| save(&mut store, number));
    store.prune(&[Some(3)]);
    let kept: Vec<Number> = store.kept().iter().map(|generation| generation.number).collect();
    assert_eq!((kept.len(), kept[0], kept[KEEP]), (KEEP + 1, 39, 3));
}
