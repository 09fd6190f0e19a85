//! The forwarder's socket: one peer, who must be the forwarder's user; the newest wins.
//!
//! Nothing here waits: what is read in one turn is bounded, what could not be written is kept and bounded, and a peer that does not
//! speak properly, or does not read, loses the link, which is all that it can do to anybody.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::poll::PollFlags;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use policy::messages::forwarder::{FromForwarder, ToForwarder};
use policy::messages::{Inbox, encode};
use tracing::{info, warn};

use super::sockets::Sockets;

pub struct Link {
    listener: UnixListener,
    /// Who may be the forwarder.
    user: u32,
    sockets: Sockets,
    peer: Option<Peer>,
}

struct Peer {
    stream: UnixStream,
    pid: i32,
    inbox: Inbox,
    outbox: Vec<u8>,
    /// Of the outbox.
    sent: usize,
    /// When it last took something that waited for it.
    took: Duration,
}

#[derive(Debug, PartialEq)]
pub enum Heard {
    /// The process that serves it now.
    Connected(i32),
    Said(FromForwarder),
    Disconnected,
}

/// Read in one turn, so that others have theirs.
const PIECE: usize = 64 << 10;
/// The longest that a forwarder has to say: usage and state of every mapping there can be.
const LONGEST: usize = 16 << 20;
/// The policies that may wait for a forwarder that does not read.
const MOST_WAITING: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

impl Link {
    pub fn open(path: &Path, user: u32, sockets: Sockets) -> io::Result<Link> {
        std::fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(Link { listener, user, sockets, peer: None })
    }

    /// What to poll: first the listener, then the peer, if there is one.
    pub fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let peer = self.peer.iter().map(|peer| {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, !peer.outbox.is_empty());
            (peer.stream.as_fd(), flags)
        });
        std::iter::once((self.listener.as_fd(), PollFlags::POLLIN)).chain(peer).collect()
    }

    /// One turn: everything that is new, and at most so much of it.
    pub fn turn(&mut self, now: Duration) -> Vec<Heard> {
        let mut heard = vec![];
        match self.peer.as_mut().map(|peer| peer.turn(now)) {
            None => {}
            Some((said, end)) => {
                heard.extend(said.into_iter().map(Heard::Said));
                if let Err(why) = end {
                    heard.extend(self.close(&why));
                }
            }
        }
        self.accept(now, &mut heard);
        heard
    }

    /// Whoever is not there hears nothing.
    pub fn say(&mut self, message: &ToForwarder, now: Duration) -> Vec<Heard> {
        let Some(peer) = self.peer.as_mut() else { return vec![] };
        match peer.say(message, now) {
            Ok(()) => vec![],
            Err(why) => self.close(&why).into_iter().collect(),
        }
    }

    fn close(&mut self, why: &str) -> Option<Heard> {
        let peer = self.peer.take()?;
        warn!(pid = peer.pid, why, "the forwarder is gone; nobody is let in to it");
        Some(Heard::Disconnected)
    }

    fn accept(&mut self, now: Duration, heard: &mut Vec<Heard>) {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return warn!(%error, "could not accept the forwarder"),
        };
        let pid = match getsockopt(&stream, PeerCredentials) {
            Ok(peer) if peer.uid() == self.user => peer.pid(),
            Ok(peer) => return warn!(uid = peer.uid(), pid = peer.pid(), "a user who is not the forwarder's tried to be it"),
            Err(error) => return warn!(%error, "a peer without credentials"),
        };
        heard.extend(self.close("another one has come"));
        match self.welcome(&stream) {
            Err(why) => warn!(pid, why, "the forwarder could not be given its sockets"),
            Ok(()) => {
                info!(pid, "the forwarder has come");
                self.peer = Some(Peer { stream, pid, inbox: Inbox::default(), outbox: vec![], sent: 0, took: now });
                heard.push(Heard::Connected(pid));
            }
        }
    }

    fn welcome(&mut self, stream: &UnixStream) -> Result<(), String> {
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        let message = encode(&ToForwarder::Sockets).map_err(|error| error.to_string())?;
        self.sockets.send(stream, &message)
    }
}

impl Peer {
    fn turn(&mut self, now: Duration) -> (Vec<FromForwarder>, Result<(), String>) {
        let mut said = vec![];
        let end = self.read(&mut said).and_then(|()| self.write(now));
        (said, end)
    }

    fn read(&mut self, said: &mut Vec<FromForwarder>) -> Result<(), String> {
        let mut piece = [0; PIECE];
        let is_over = match self.stream.read(&mut piece) {
            Ok(0) => true,
            Ok(count) => {
                self.inbox.push(&piece[..count]);
                false
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => false,
            Err(error) => return Err(error.to_string()),
        };
        while let Some(message) = self.inbox.take().map_err(|error| error.to_string())? {
            said.push(message);
        }
        if is_over {
            return Err("it closed the link".into());
        }
        if self.inbox.len() > LONGEST { Err("its message is too long".into()) } else { Ok(()) }
    }

    fn say(&mut self, message: &ToForwarder, now: Duration) -> Result<(), String> {
        let bytes = encode(message).map_err(|error| error.to_string())?;
        if self.outbox.is_empty() {
            self.took = now;
        }
        self.outbox.extend(bytes);
        if self.outbox.len() - self.sent > MOST_WAITING {
            return Err("it does not read".into());
        }
        self.write(now)
    }

    fn write(&mut self, now: Duration) -> Result<(), String> {
        while self.sent < self.outbox.len() {
            match self.stream.write(&self.outbox[self.sent..]) {
                Ok(0) => return Err("it closed the link".into()),
                Ok(count) => {
                    self.took = now;
                    self.sent += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if now >= self.took + PATIENCE { Err("it does not read".into()) } else { Ok(()) };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        self.outbox = vec![];
        self.sent = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use policy::messages::MAX_MESSAGE;
    use std::time::Instant;

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    struct Desk {
        link: Link,
        folder: tempfile::TempDir,
    }

    impl Desk {
        fn new() -> Desk {
            let folder = tempfile::tempdir().unwrap();
            let user = nix::unistd::geteuid().as_raw();
            let link = Link::open(&folder.path().join("link.sock"), user, Sockets::none()).unwrap();
            Desk { link, folder }
        }

        fn connect(&mut self) -> UnixStream {
            let stream = UnixStream::connect(self.folder.path().join("link.sock")).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        }
    }

    fn connected() -> (Desk, UnixStream) {
        let mut desk = Desk::new();
        let peer = desk.connect();
        assert_eq!(desk.link.turn(NOW), [Heard::Connected(std::process::id() as i32)]);
        (desk, peer)
    }

    fn became(generation: u64) -> Vec<u8> {
        encode(&FromForwarder::Became { generation }).unwrap()
    }

    #[test]
    fn the_newest_peer_wins_and_the_older_one_is_told_as_gone() {
        let (mut desk, mut old) = connected();
        let mut new = desk.connect();
        assert!(matches!(desk.link.turn(NOW)[..], [Heard::Disconnected, Heard::Connected(_)]));
        old.write_all(&became(1)).ok();
        new.write_all(&became(2)).unwrap();
        assert_eq!(desk.link.turn(NOW), [Heard::Said(FromForwarder::Became { generation: 2 })]);
    }

    #[test]
    fn the_last_words_of_a_peer_come_before_its_end() {
        let (mut desk, mut peer) = connected();
        peer.write_all(&became(7)).unwrap();
        drop(peer);
        let mut heard = desk.link.turn(NOW);
        heard.extend(desk.link.turn(NOW));
        assert_eq!(heard, [Heard::Said(FromForwarder::Became { generation: 7 }), Heard::Disconnected]);
    }

    #[test]
    fn garbage_and_absurd_lengths_end_the_link_and_nothing_else() {
        for garbage in [&b"\0\0\0\x02[]"[..], &(MAX_MESSAGE + 1).to_be_bytes(), b"GET / HTTP/1.1\r\n"] {
            let (mut desk, mut peer) = connected();
            peer.write_all(garbage).unwrap();
            assert_eq!(desk.link.turn(NOW), [Heard::Disconnected]);
            let _next = desk.connect();
            assert!(matches!(desk.link.turn(NOW)[..], [Heard::Connected(_)]));
        }
    }

    #[test]
    fn a_storm_takes_one_bounded_turn_at_a_time() {
        let (mut desk, mut peer) = connected();
        let storm = became(1).repeat(20_000);
        let mut sent = 0;
        let mut longest = Duration::ZERO;
        let mut heard = 0;
        while heard < 20_000 {
            sent += peer.write(&storm[sent..]).unwrap_or(0);
            let begun = Instant::now();
            heard += desk.link.turn(NOW).len();
            longest = longest.max(begun.elapsed());
        }
        assert!(longest < Duration::from_millis(500), "{longest:?}");
    }

    #[test]
    fn a_peer_that_does_not_read_is_given_up_and_does_not_hold_us() {
        let (mut desk, _peer) = connected();
        let why = "x".repeat(1 << 20);
        let message = ToForwarder::End { mappings: vec![], why };
        assert!(desk.link.say(&message, NOW).is_empty());
        assert_eq!(desk.link.turn(NOW + PATIENCE), [Heard::Disconnected]);
        let (mut desk, _peer) = connected();
        let gave_up = (0..100).any(|_| desk.link.say(&message, NOW) == [Heard::Disconnected]);
        assert!(gave_up, "it keeps everything");
    }

    #[test]
    fn another_user_is_not_the_forwarder() {
        let mut desk = Desk::new();
        desk.link.user = 12_345;
        let _peer = desk.connect();
        assert_eq!(desk.link.turn(NOW), []);
    }
}
