use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use super::probe::{Conversation, Heard};
use super::{Bad, Good, Job};
use crate::dial::not_connected;

/// A job under way, in one attempt or two.
pub struct Running {
    pub job: Job,
    pub began: Instant,
    pub end: Option<End>,
    password: Option<String>,
    attempts: Vec<Attempt>,
    failed: Vec<String>,
    second: bool,
}

pub enum End {
    Told(Result<Good, Bad>),
    /// For a reason of this box.
    NotTried(io::Error),
}

struct Attempt {
    socket: TcpStream,
    connected: bool,
    conversation: Conversation,
    began: Instant,
    first_byte: Option<Instant>,
}

const SECOND_AFTER: Duration = Duration::from_secs(2);
/// Nothing a server sends keeps the thread from the others for longer than so many reads.
const READS: usize = 8;

impl Running {
    pub fn begin(job: Job, password: Option<String>, now: Instant) -> Running {
        let second = job.learning;
        let mut running = Running { job, began: now, end: None, password, attempts: Vec::new(), failed: Vec::new(), second };
        running.attempt(now);
        running
    }

    /// One for each attempt, in order.
    pub fn polled(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.attempts.iter().map(|attempt| PollFd::new(attempt.socket.as_fd(), attempt.wants()))
    }

    /// When the time will matter. None when it has ended.
    pub fn next(&self) -> Option<Instant> {
        match self.end {
            Some(_) => None,
            None if self.second => Some(self.began + self.job.limit),
            None => Some(self.began + SECOND_AFTER),
        }
    }

    /// `ready` has one for each attempt that [`Running::polled`] gave.
    pub fn advance(&mut self, ready: &mut impl Iterator<Item = bool>, now: Instant) {
        for mut attempt in std::mem::take(&mut self.attempts) {
            match if ready.next().unwrap_or(false) { attempt.advance(now) } else { Ok(None) } {
                Ok(None) => self.attempts.push(attempt),
                Ok(Some(good)) => self.end = self.end.take().or(Some(End::Told(Ok(good)))),
                Err(why) => self.failed.push(why),
            }
        }
        if self.end.is_some() {
            return;
        }
        if now >= self.began + self.job.limit {
            self.failed.extend(self.attempts.drain(..).map(|attempt| attempt.stands().to_owned()));
        } else if !self.second && now >= self.began + SECOND_AFTER {
            self.second = true;
            self.attempt(now);
        }
        self.ended_without_attempts();
    }

    fn attempt(&mut self, now: Instant) {
        let job = &self.job;
        let begun = Conversation::begin(&job.upstream, self.password.as_deref(), job.pipelined).map_err(|refused| refused.why);
        match begun.map(|conversation| Attempt::begin(SocketAddr::new(job.upstream.address, job.upstream.port), conversation, now)) {
            Ok(Ok(attempt)) => self.attempts.push(attempt),
            Ok(Err(error)) if is_ours(&error) => {
                if self.attempts.is_empty() {
                    self.end = Some(End::NotTried(error));
                }
            }
            Ok(Err(error)) => self.failed.push(not_connected(&error)),
            Err(why) => self.failed.push(why),
        }
        self.ended_without_attempts();
    }

    fn ended_without_attempts(&mut self) {
        if self.end.is_none() && self.attempts.is_empty() {
            let why = self.failed.first().cloned().unwrap_or_default();
            self.end = Some(End::Told(Err(Bad { why, confirmed: self.failed.len() > 1 })));
        }
    }
}

impl Attempt {
    /// The only place to which a probe ever connects: the upstream's own address.
    fn begin(upstream: SocketAddr, conversation: Conversation, now: Instant) -> io::Result<Attempt> {
        let family = if upstream.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        match connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(upstream)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(Attempt { socket, connected: false, conversation, began: now, first_byte: None }),
            Err(error) => Err(error.into()),
        }
    }

    fn wants(&self) -> PollFlags {
        let writes = !self.connected || !self.conversation.to_send().is_empty();
        if writes { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN }
    }

    fn stands(&self) -> &'static str {
        if self.connected { self.conversation.stands() } else { "it does not answer" }
    }

    fn advance(&mut self, now: Instant) -> Result<Option<Good>, String> {
        if let Some(error) = self.socket.take_error().unwrap_or_else(Some) {
            return Err(not_connected(&error));
        }
        self.connected = true;
        let mut bytes = [0; 4096];
        for _ in 0..READS {
            self.send().map_err(|error| not_connected(&error))?;
            let exit = match self.socket.read(&mut bytes) {
                Ok(0) => self.conversation.ended().map_err(|refused| refused.why)?,
                Ok(read) => match self.conversation.received(&bytes[..read]).map_err(|refused| refused.why)? {
                    Heard::Exit(exit) => exit,
                    heard => {
                        if heard == Heard::Answering {
                            self.first_byte.get_or_insert(now);
                        }
                        continue;
                    }
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(not_connected(&error)),
            };
            let latency = self.first_byte.unwrap_or(now).saturating_duration_since(self.began);
            return Ok(Some(Good { latency_us: latency.as_micros() as u64, exit }));
        }
        Ok(None)
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.conversation.to_send().is_empty() {
            match self.socket.write(self.conversation.to_send()) {
                Ok(written) => self.conversation.sent(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What this box lacks says nothing of the upstream.
fn is_ours(error: &io::Error) -> bool {
    let lacking = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EADDRNOTAVAIL];
    lacking.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}
