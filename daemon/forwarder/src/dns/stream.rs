//! A client's own TCP connection to port 53, answered by the stub as if by the server that it asked (RFC 7766).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::framing;
use super::message::QUESTION_MAX;
use crate::config::Mapped;

pub struct Stream {
    socket: OwnedFd,
    pub mapped: Arc<Mapped>,
    pub client: SocketAddr,
    /// Whom the client wanted to reach.
    pub to: SocketAddr,
    arrived: Vec<u8>,
    out: Vec<u8>,
    asked: usize,
    last: Instant,
    /// The client sends no more, but takes answers.
    half: bool,
    watched: EventFlags,
}

const ASKED_MAX: usize = 32;
/// What a client does not take is not kept.
const OUT_MAX: usize = 256 << 10;
const IDLE: Duration = Duration::from_secs(10);

impl Stream {
    pub fn new(socket: OwnedFd, mapped: Arc<Mapped>, client: SocketAddr, to: SocketAddr, now: Instant) -> Stream {
        let (arrived, out) = (Vec::new(), Vec::new());
        Stream { socket, mapped, client, to, arrived, out, asked: 0, last: now, half: false, watched: EventFlags::IN }
    }

    pub fn watch(&self, epoll: &OwnedFd, token: u64) -> std::io::Result<()> {
        rustix::io::ioctl_fionbio(&self.socket, true)?;
        Ok(epoll::add(epoll, &self.socket, EventData::new_u64(token), self.watched)?)
    }

    /// Questions that arrived; None: it is over.
    pub fn turn(&mut self, epoll: &OwnedFd, token: u64, now: Instant) -> Option<Vec<Vec<u8>>> {
        let mut buffer = [0; 2 + QUESTION_MAX];
        if !self.half && self.asked < ASKED_MAX {
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => self.half = true,
                Ok((_, length)) => self.arrived.extend_from_slice(&buffer[..length]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        let mut questions = Vec::new();
        while self.asked < ASKED_MAX
            && let Some(question) = framing::take(&mut self.arrived)
        {
            self.asked += 1;
            self.last = now;
            questions.push(question);
        }
        let too_long = self.arrived.first_chunk().is_some_and(|length| usize::from(u16::from_be_bytes(*length)) > QUESTION_MAX);
        let over = self.half && self.asked == 0 && self.out.is_empty();
        (!too_long && !over && self.flush(epoll, token)).then_some(questions)
    }

    /// False: it is over.
    pub fn answer(&mut self, epoll: &OwnedFd, token: u64, message: &[u8]) -> bool {
        self.asked = self.asked.saturating_sub(1);
        if self.out.len() + message.len() > OUT_MAX {
            return false;
        }
        self.out.extend_from_slice(&framing::framed(message));
        self.flush(epoll, token) && !(self.half && self.asked == 0 && self.out.is_empty())
    }

    pub fn idle(&self, now: Instant) -> bool {
        now.duration_since(self.last) > IDLE
    }

    fn flush(&mut self, epoll: &OwnedFd, token: u64) -> bool {
        while !self.out.is_empty() {
            match send(&self.socket, &self.out, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => _ = self.out.drain(..sent),
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(_) => return false,
            }
        }
        let reads = !self.half && self.asked < ASKED_MAX;
        let wants = if reads { EventFlags::IN } else { EventFlags::empty() }
            | if self.out.is_empty() { EventFlags::empty() } else { EventFlags::OUT };
        if wants == self.watched {
            return true;
        }
        self.watched = wants;
        epoll::modify(epoll, &self.socket, EventData::new_u64(token), wants).is_ok()
    }
}
