//! The raw sockets by which a client gets its answer from the address that it asked.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;

use rustix::io::Errno;
use rustix::net::{SendFlags, sendto};

use super::Counters;
use super::packet;

pub struct Answers {
    four: OwnedFd,
    six: OwnedFd,
    /// Of the next answer in fragments.
    fragmented: u32,
}

impl Answers {
    pub fn new(four: OwnedFd, six: OwnedFd) -> Answers {
        Answers { four, six, fragmented: std::process::id().wrapping_mul(0x9e37_79b9) }
    }

    /// Says whether it went; if not, it is counted. Our output chain refuses it when conntrack knows no question that it answers.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8], counters: &Counters) -> bool {
        let sent = match packet::whole(from, to, payload) {
            Some(packet) => match self.packet(&packet, to) {
                Err(Errno::MSGSIZE) => self.in_fragments(from, to, payload),
                other => other,
            },
            None => Err(Errno::INVAL),
        };
        match sent {
            Ok(()) => _ = counters.down.fetch_add(1, Relaxed),
            Err(error) => {
                tracing::debug!(error = %io::Error::from(error), %from, %to, "no answer could be sent");
                counters.unanswerable.fetch_add(1, Relaxed);
            }
        }
        sent.is_ok()
    }

    fn in_fragments(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Result<(), Errno> {
        self.fragmented = self.fragmented.wrapping_add(1);
        let fragments = packet::fragments(from, to, payload, self.fragmented).ok_or(Errno::INVAL)?;
        fragments.iter().try_for_each(|fragment| self.packet(fragment, to))
    }

    fn packet(&self, packet: &[u8], mut to: SocketAddr) -> Result<(), Errno> {
        let socket = if to.is_ipv4() { &self.four } else { &self.six };
        // Of a raw IPv6 socket the port is the protocol, and must be the socket's own or 0.
        to.set_port(0);
        sendto(socket, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, &to).map(drop)
    }
}
