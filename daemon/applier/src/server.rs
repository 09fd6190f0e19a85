//! The socket: who may speak, messages in, answers out, and nobody who can hold the others up.
//!
//! Everything here is non-blocking and bounded: connections, bytes held for all of them together, time for a message to
//! arrive and for an answer to be taken. A connection has one request under way at a time, and is not read from meanwhile.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::poll::PollFlags;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use policy::messages::{ApplierRequest, ApplierResponse, Inbox, encode};
use tracing::{debug, warn};

use crate::machine::Caller;

pub struct Server {
    listener: UnixListener,
    /// User ids that may speak.
    allowed: Vec<u32>,
    peers: BTreeMap<u64, Peer>,
    next: u64,
}

struct Peer {
    stream: UnixStream,
    opened: Duration,
    inbox: Inbox,
    outbox: Vec<u8>,
    /// Of the outbox.
    sent: usize,
    /// A request is being worked on.
    waiting: bool,
    /// The last byte in either direction.
    active: Duration,
}

const MOST_PEERS: usize = 64;
/// Bytes that all half-received messages may hold together.
const MOST_HELD: usize = 64 << 20;
/// How long the rest of a message, or a reader of an answer, may keep us waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Read from one peer before the others have their turn.
const PIECE: usize = 64 << 10;

impl Server {
    /// Any earlier socket at this place belongs to a process that is gone: the caller holds the lock of the state folder.
    pub fn open(path: &Path, allowed: Vec<u32>) -> io::Result<Server> {
        std::fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        let listener = UnixListener::bind(path)?;
        // Everyone may connect; who may speak is decided by the peer's user id, which cannot be forged.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(Server { listener, allowed, peers: BTreeMap::new(), next: 1 })
    }

    /// What to poll; the key comes back to `ready`, and 0 is the listener.
    pub fn interests(&self) -> Vec<(u64, BorrowedFd<'_>, PollFlags)> {
        let peers = self.peers.iter().map(|(id, peer)| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, !peer.waiting && peer.outbox.is_empty());
            flags.set(PollFlags::POLLOUT, !peer.outbox.is_empty());
            (*id, peer.stream.as_fd(), flags)
        });
        std::iter::once((0, self.listener.as_fd(), PollFlags::POLLIN)).chain(peers).collect()
    }

    /// One turn of one connection.
    pub fn ready(&mut self, key: u64, flags: PollFlags, now: Duration) {
        if key == 0 {
            return self.accept(now);
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let turn = if flags.contains(PollFlags::POLLOUT) {
            peer.write(now)
        } else if flags.contains(PollFlags::POLLIN) {
            peer.read(now)
        } else if flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            Err("it was closed".into())
        } else {
            Ok(())
        };
        if self.peers.values().map(|peer| peer.inbox.len()).sum::<usize>() > MOST_HELD {
            self.close(key, "too much has been sent that is not yet a whole message");
        }
        if let Err(why) = turn {
            self.close(key, &why);
        }
    }

    /// A request that has arrived whole. One at a time, and the next of the same peer after its answer.
    pub fn request(&mut self) -> Option<(Caller, ApplierRequest)> {
        let ready = |peer: &Peer| !peer.waiting && peer.outbox.is_empty() && !peer.inbox.is_empty();
        let ids: Vec<u64> = self.peers.iter().filter(|(_, peer)| ready(peer)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            match peer.inbox.take() {
                Ok(Some(request)) => {
                    peer.waiting = true;
                    return Some((Caller { id, opened: peer.opened }, request));
                }
                Ok(None) => {}
                Err(error) => self.close(id, &error.to_string()),
            }
        }
        None
    }

    /// The answer goes out as fast as the peer takes it; a peer that is gone loses it.
    pub fn reply(&mut self, caller: Caller, response: &ApplierResponse, now: Duration) {
        let Some(peer) = self.peers.get_mut(&caller.id) else { return };
        peer.waiting = false;
        peer.active = now;
        match encode(response) {
            Ok(bytes) => (peer.outbox, peer.sent) = (bytes, 0),
            Err(error) => return self.close(caller.id, &error.to_string()),
        }
        if let Err(why) = peer.write(now) {
            self.close(caller.id, &why);
        }
    }

    /// Ends connections whose peer keeps us waiting.
    pub fn tick(&mut self, now: Duration) {
        let slow = |peer: &Peer| (!peer.inbox.is_empty() || !peer.outbox.is_empty()) && !peer.waiting && now >= peer.active + PATIENCE;
        let slow: Vec<u64> = self.peers.iter().filter(|(_, peer)| slow(peer)).map(|(id, _)| *id).collect();
        for id in slow {
            self.close(id, "it kept us waiting");
        }
    }

    fn accept(&mut self, now: Duration) {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return warn!(%error, "could not accept a connection"),
        };
        match getsockopt(&stream, PeerCredentials) {
            Ok(peer) if self.allowed.contains(&peer.uid()) => {}
            Ok(peer) => return warn!(uid = peer.uid(), pid = peer.pid(), "a user who may not speak to the applier tried to"),
            Err(error) => return warn!(%error, "a peer without credentials"),
        }
        if self.peers.len() >= MOST_PEERS && !self.make_room() {
            return warn!("every connection is in use");
        }
        if let Err(error) = stream.set_nonblocking(true) {
            return warn!(%error, "could not accept a connection");
        }
        let peer = Peer { stream, opened: now, inbox: Inbox::default(), outbox: vec![], sent: 0, waiting: false, active: now };
        self.peers.insert(self.next, peer);
        self.next += 1;
    }

    /// Closes the connection that has been silent longest and waits for nothing.
    fn make_room(&mut self) -> bool {
        let idle = self.peers.iter().filter(|(_, peer)| !peer.waiting && peer.outbox.is_empty()).min_by_key(|(_, peer)| peer.active);
        match idle.map(|(id, _)| *id) {
            Some(id) => {
                self.close(id, "there are too many");
                true
            }
            None => false,
        }
    }

    fn close(&mut self, id: u64, why: &str) {
        debug!(id, why, "connection closed");
        self.peers.remove(&id);
    }
}

impl Peer {
    fn read(&mut self, now: Duration) -> Result<(), String> {
        let mut piece = [0; PIECE];
        match self.stream.read(&mut piece) {
            Ok(0) => return Err("the peer closed it".into()),
            Ok(count) => {
                // The clock runs from the first byte of a message: one byte at a time does not buy time.
                if self.inbox.is_empty() {
                    self.active = now;
                }
                self.inbox.push(&piece[..count]);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    fn write(&mut self, now: Duration) -> Result<(), String> {
        while self.sent < self.outbox.len() {
            match self.stream.write(&self.outbox[self.sent..]) {
                Ok(0) => return Err("the peer closed it".into()),
                Ok(count) => {
                    self.active = now;
                    self.sent += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        self.outbox = vec![];
        self.sent = 0;
        Ok(())
    }
}
