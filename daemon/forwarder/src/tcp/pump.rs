//! Bytes of a tunnel, both ways: copied while they are few, spliced through a pipe when they are many.
//!
//! A direction takes no more from its source than its sink can be given: what a socket did not take is held, and nothing more is
//! read until it is gone. So a slow reader slows its sender down, and costs a bounded amount of memory.
//!
//! Sockets are watched edge by edge: readiness is remembered in [`Side`] and forgotten when the kernel says "not now".

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::{SpliceFlags, splice};

use super::pipes::{Pipe, Pipes};
use crate::dial::Refused;

/// What bytes come from and go to.
pub trait End {
    fn is_readable(&self) -> bool;
    fn is_writable(&self) -> bool;
    /// None: not now. Some(0): the end.
    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Trouble>;
    /// How much it took.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Trouble>;
    /// Tells the other side that no more comes.
    fn finish(&mut self);
    /// The socket, if what goes through it are the bytes themselves.
    fn bare(&mut self) -> Option<&mut Side>;
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("{0}")]
    Socket(#[from] Errno),
    #[error("{0}")]
    Upstream(#[from] Refused),
}

/// A socket, and what is known of it.
pub struct Side {
    pub fd: OwnedFd,
    pub readable: bool,
    pub writable: bool,
    /// Its end has been announced: a read that yields little is not yet the last.
    pub ending: bool,
}

/// One direction.
#[derive(Default)]
pub struct Half {
    /// Read, and not yet taken by the sink.
    held: Vec<u8>,
    held_from: usize,
    pipe: Option<Pipe>,
    moved: u64,
    ended: bool,
    done: bool,
}

/// What a worker lends to whichever flow has its turn.
pub struct Lent {
    pub buffer: Box<[u8]>,
    pub pipes: Pipes,
    /// Bytes that flows of this worker hold because their sinks do not take them.
    pub held: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing more can be done until a socket is ready.
    Waiting,
    /// It could go on, but the others have their turn first.
    Again,
    /// Its source ended and its sink has everything but the end, which the flow tells.
    Done,
}

/// A direction that moved so much is bulk.
const BULK: u64 = 64 << 10;
/// Moved in one turn.
const TURN: u64 = 1 << 20;
const BUFFER: usize = 64 << 10;
/// When flows hold so much together, each reads but little at a time.
const HELD_AMPLE: usize = 4 << 20;
const HELD_LITTLE: usize = 2 << 10;

impl Lent {
    pub fn new() -> Lent {
        Lent { buffer: vec![0; BUFFER].into(), pipes: Pipes::new(), held: 0 }
    }

    /// How much may be read at once, given that it may have to be held.
    pub fn portion(&mut self) -> &mut [u8] {
        let most = if self.held < HELD_AMPLE { BUFFER } else { HELD_LITTLE };
        &mut self.buffer[..most]
    }
}

impl Side {
    pub fn new(fd: OwnedFd) -> Side {
        Side { fd, readable: false, writable: true, ending: false }
    }
}

impl End for Side {
    fn is_readable(&self) -> bool {
        self.readable
    }

    fn is_writable(&self) -> bool {
        self.writable
    }

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Trouble> {
        match recv(&self.fd, &mut *into, RecvFlags::empty()).map(|(read, _)| read) {
            Ok(read) => {
                // A stream that gave less than was asked for has no more; the next edge tells.
                self.readable = read == into.len() || self.ending;
                Ok(Some(read))
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(None)
            }
            Err(Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Trouble> {
        match send(&self.fd, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.writable = sent == bytes.len();
                Ok(sent)
            }
            Err(Errno::AGAIN) => {
                self.writable = false;
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn finish(&mut self) {
        // The other side may be gone already; then there is nobody to tell.
        _ = shutdown(&self.fd, Shutdown::Write);
    }

    fn bare(&mut self) -> Option<&mut Side> {
        Some(self)
    }
}

impl Half {
    /// Bytes for the sink that did not come through `pump`, or that it did not take.
    pub fn hold(&mut self, bytes: &[u8], lent: &mut Lent) {
        self.held.extend_from_slice(bytes);
        lent.held += bytes.len();
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Moves what can be moved. Says what is next, and how many bytes the sink took.
    pub fn pump(&mut self, source: &mut impl End, sink: &mut impl End, lent: &mut Lent) -> Result<(Pumped, u64), Trouble> {
        let mut delivered = 0;
        let next = loop {
            if self.done {
                break Pumped::Done;
            }
            if delivered >= TURN {
                break Pumped::Again;
            }
            let holds = !self.held.is_empty() || self.pipe.as_ref().is_some_and(|pipe| pipe.holds > 0);
            if holds {
                if !sink.is_writable() {
                    break Pumped::Waiting;
                }
                delivered += if self.held.is_empty() { self.empty_pipe(sink)? } else { self.give_held(sink, lent)? };
                continue;
            }
            if self.ended {
                self.done = true;
                continue;
            }
            if !source.is_readable() || !sink.is_writable() {
                break Pumped::Waiting;
            }
            let bulk = self.moved + delivered >= BULK && sink.bare().is_some();
            match source.bare().filter(|_| bulk && self.has_pipe(lent)) {
                Some(socket) => self.fill_pipe(socket)?,
                None => delivered += self.copy(source, sink, lent)?,
            }
        };
        self.moved += delivered;
        if self.pipe.as_ref().is_some_and(|pipe| pipe.holds == 0) {
            self.pipe.take().into_iter().for_each(|pipe| lent.pipes.give_back(pipe));
        }
        Ok((next, delivered))
    }

    /// What it still holds goes back to where it was lent.
    pub fn end(&mut self, lent: &mut Lent) {
        lent.held -= self.held.len() - self.held_from;
        self.held = vec![];
        self.held_from = 0;
        self.pipe.take().into_iter().for_each(|pipe| lent.pipes.give_back(pipe));
    }

    fn copy(&mut self, source: &mut impl End, sink: &mut impl End, lent: &mut Lent) -> Result<u64, Trouble> {
        let portion = lent.portion();
        match source.read(portion)? {
            None => Ok(0),
            Some(0) => {
                self.ended = true;
                Ok(0)
            }
            Some(read) => {
                let taken = sink.write(&portion[..read])?;
                self.held.extend_from_slice(&portion[taken..read]);
                lent.held += read - taken;
                Ok(taken as u64)
            }
        }
    }

    fn give_held(&mut self, sink: &mut impl End, lent: &mut Lent) -> Result<u64, Trouble> {
        let taken = sink.write(&self.held[self.held_from..])?;
        self.held_from += taken;
        lent.held -= taken;
        if self.held_from == self.held.len() {
            // The memory too: held bytes are the exception.
            self.held = vec![];
            self.held_from = 0;
        }
        Ok(taken as u64)
    }

    fn has_pipe(&mut self, lent: &mut Lent) -> bool {
        if self.pipe.is_none() {
            self.pipe = lent.pipes.take();
        }
        self.pipe.is_some()
    }

    fn fill_pipe(&mut self, source: &mut Side) -> Result<(), Trouble> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        match splice(&source.fd, None, &pipe.write, None, TURN as usize, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(0) => self.ended = true,
            Ok(moved) => pipe.holds = moved,
            // The pipe is empty, so it is the socket that has nothing.
            Err(Errno::AGAIN) => source.readable = false,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn empty_pipe(&mut self, sink: &mut impl End) -> Result<u64, Trouble> {
        let (Some(pipe), Some(sink)) = (&mut self.pipe, sink.bare()) else { return Ok(0) };
        match splice(&pipe.read, None, &sink.fd, None, pipe.holds, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(taken) => {
                pipe.holds -= taken;
                Ok(taken as u64)
            }
            Err(Errno::AGAIN) => {
                sink.writable = false;
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// A source that we write to, a sink that we read from, and the two sides between them.
    fn line() -> (UnixStream, Side, Side, UnixStream) {
        let ((near, a), (b, far)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        let side = |stream: UnixStream| Side { readable: true, ..Side::new(stream.into()) };
        (near, side(a), side(b), far)
    }

    #[test]
    fn a_sink_that_takes_nothing_costs_one_portion_and_its_source_waits() {
        let (mut near, mut source, mut sink, _far) = line();
        near.set_nonblocking(true).unwrap();
        let (mut half, mut lent) = (Half::default(), Lent::new());
        let mut written = 0;
        for _ in 0..1000 {
            written += near.write(&[7; 4096]).unwrap_or(0);
            source.readable = true;
            half.pump(&mut source, &mut sink, &mut lent).unwrap();
        }
        assert!(lent.held <= BUFFER, "{} bytes are held", lent.held);
        assert!(half.pipe.as_ref().is_none_or(|pipe| pipe.holds <= 512 << 10));
        assert!(written < 4 << 20, "the source could write {written} bytes");
        half.end(&mut lent);
        assert_eq!(lent.held, 0);
    }

    #[test]
    fn bytes_arrive_in_order_across_copying_holding_and_splicing_and_then_the_end() {
        let (mut near, mut source, mut sink, mut far) = line();
        let data: Vec<u8> = (0..3_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
        let sent = data.clone();
        let writer = std::thread::spawn(move || {
            near.write_all(&sent).unwrap();
        });
        let reader = std::thread::spawn(move || {
            let mut all = vec![];
            far.read_to_end(&mut all).unwrap();
            all
        });
        let (mut half, mut lent) = (Half::default(), Lent::new());
        let mut delivered = 0;
        while !half.is_done() {
            (source.readable, sink.writable) = (true, true);
            delivered += half.pump(&mut source, &mut sink, &mut lent).unwrap().1;
            std::thread::yield_now();
        }
        sink.finish();
        writer.join().unwrap();
        assert_eq!(delivered, data.len() as u64);
        assert!(reader.join().unwrap() == data, "what arrived is not what was sent");
    }

    #[test]
    fn when_much_is_held_each_reads_little() {
        let mut lent = Lent::new();
        assert_eq!(lent.portion().len(), BUFFER);
        lent.held = HELD_AMPLE;
        assert_eq!(lent.portion().len(), HELD_LITTLE);
    }
}
