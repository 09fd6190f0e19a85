//! Pipes for bulk. They belong to whoever has bytes in one, not to connections: a flow takes one to move what has arrived and gives
//! it back when it is empty, so that one or two serve thousands of flows whose receivers keep up.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

pub struct Pipe {
    pub read: OwnedFd,
    pub write: OwnedFd,
    /// Bytes in it.
    pub holds: usize,
}

pub struct Pipes {
    idle: Vec<Pipe>,
    made: usize,
}

/// Pipes that exist, over all workers.
pub static MADE: AtomicU64 = AtomicU64::new(0);

/// Of one worker. `fs.pipe-user-pages-soft` lets a user have 1,024 of ordinary size.
pub const MOST: usize = 256;
/// So many are larger than ordinary: fewer system calls for each megabyte.
const LARGE: usize = 8;
const LARGE_BYTES: usize = 512 << 10;
/// So many are kept when nobody needs them.
const KEPT: usize = 8;

impl Pipes {
    pub fn new() -> Pipes {
        Pipes { idle: vec![], made: 0 }
    }

    /// None: all are full of bytes that somebody does not take, or there is no descriptor left. Bulk is copied then.
    pub fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.made >= MOST {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        if self.made < LARGE {
            // Refused when the user has too many already: it then stays as it is.
            _ = fcntl_setpipe_size(&write, LARGE_BYTES);
        }
        self.made += 1;
        MADE.fetch_add(1, Relaxed);
        Some(Pipe { read, write, holds: 0 })
    }

    /// One that still holds bytes of a flow that ended is closed: nobody else may get them.
    pub fn give_back(&mut self, pipe: Pipe) {
        if pipe.holds == 0 && self.idle.len() < KEPT {
            return self.idle.push(pipe);
        }
        self.made -= 1;
        MADE.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_with_bytes_in_it_is_never_given_to_another() {
        let mut pipes = Pipes::new();
        let mut pipe = pipes.take().unwrap();
        rustix::io::write(&pipe.write, b"private").unwrap();
        pipe.holds = 7;
        pipes.give_back(pipe);
        let pipe = pipes.take().unwrap();
        assert!(rustix::io::read(&pipe.read, &mut [0; 8]).is_err(), "bytes of another");
    }

    #[test]
    fn there_is_an_end_of_pipes() {
        let mut pipes = Pipes::new();
        let taken: Vec<Pipe> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(taken.len(), MOST);
        taken.into_iter().for_each(|pipe| pipes.give_back(pipe));
        assert_eq!((pipes.idle.len(), pipes.made), (KEPT, KEPT));
    }
}
