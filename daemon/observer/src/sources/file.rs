//! EVE from a file that somebody else writes and rotates: read to its end, and again when there is more. The fall-back where no socket can be.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Gauge, lines::Lines};
use crate::eve;
use crate::queue::Queue;

const PIECE: usize = 1 << 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Begins at the file's end, so that a restart counts nothing twice.
pub fn start(path: PathBuf, queue: Arc<Queue>, gauge: Arc<Gauge>) -> io::Result<()> {
    thread::Builder::new().name("eve-file".into()).spawn(move || {
        let mut tail = Tail::at_the_end(&path);
        while !queue.is_closed() {
            let read = tail.read(&path, |piece, lines| {
                let now = eve::now();
                if let Some(batch) = lines.push(piece, now) {
                    gauge.read(batch.seen.len() as u64, batch.garbled, now);
                    queue.push(batch);
                }
            });
            gauge.is_open(read.is_ok());
            thread::sleep(PAUSE);
        }
    })?;
    Ok(())
}

struct Tail {
    open: Option<Open>,
    lines: Lines,
}

struct Open {
    file: File,
    inode: u64,
    offset: u64,
}

impl Tail {
    fn at_the_end(path: &Path) -> Self {
        let open = Open::of(path).and_then(|mut open| {
            open.offset = open.file.seek(SeekFrom::End(0))?;
            Ok(open)
        });
        Tail { open: open.ok(), lines: Lines::default() }
    }

    /// Everything new, also the rest of a file that was renamed away, and a file that was cut from its beginning.
    fn read(&mut self, path: &Path, mut with: impl FnMut(&[u8], &mut Lines)) -> io::Result<()> {
        loop {
            let Some(open) = &mut self.open else {
                self.open = Some(Open::of(path)?);
                continue;
            };
            if open.file.metadata()?.len() < open.offset {
                open.offset = open.file.seek(SeekFrom::Start(0))?;
                self.lines = Lines::default();
            }
            let mut piece = vec![0; PIECE];
            loop {
                let length = open.file.read(&mut piece)?;
                if length == 0 {
                    break;
                }
                open.offset += length as u64;
                with(piece.get(..length).unwrap_or_default(), &mut self.lines);
            }
            if path.metadata().is_ok_and(|meta| meta.ino() == open.inode) {
                return Ok(());
            }
            // Renamed: the old one was read to its end above. Until the new one is there, the old one may still grow.
            self.open = Some(Open::of(path)?);
            self.lines = Lines::default();
        }
    }
}

impl Open {
    fn of(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Open { file, inode, offset: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn event(n: u64) -> String {
        format!("{{\"timestamp\":\"2026-11-28T06:33:01.123456+0000\",\"event_type\":\"flow\",\"flow_id\":{n}}}\n")
    }

    fn flows(tail: &mut Tail, path: &Path) -> Vec<u64> {
        let mut flows = Vec::new();
        let _ = tail.read(path, |piece, lines| {
            flows.extend(lines.push(piece, 0).iter().flat_map(|batch| &batch.seen).filter_map(|seen| seen.flow))
        });
        flows
    }

    #[test]
    fn rotation_truncation_and_absence_lose_and_double_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eve.json");
        fs::write(&path, event(1)).unwrap();
        let mut tail = Tail::at_the_end(&path);
        let mut writer = File::options().append(true).open(&path).unwrap();
        write!(writer, "{}", event(2)).unwrap();
        assert_eq!(flows(&mut tail, &path), [2], "what was there before is not told again");

        write!(writer, "{}", event(3)).unwrap();
        fs::rename(&path, folder.path().join("eve.json.1")).unwrap();
        assert_eq!(flows(&mut tail, &path), [3], "the end of a file that was renamed away");
        write!(writer, "{}", event(4)).unwrap();
        assert_eq!(flows(&mut tail, &path), [4], "and what its writer still adds to it");
        fs::write(&path, event(5) + &event(6)).unwrap();
        assert_eq!(flows(&mut tail, &path), [5, 6], "then the new one");

        fs::write(&path, event(7)).unwrap();
        assert_eq!(flows(&mut tail, &path), [7], "a file that was cut is read from its beginning");
        fs::remove_file(&path).unwrap();
        assert!(flows(&mut tail, &path).is_empty());
        fs::write(&path, event(8)).unwrap();
        assert_eq!(flows(&mut tail, &path), [8]);
    }
}
