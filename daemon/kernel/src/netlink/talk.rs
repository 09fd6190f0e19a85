use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Attributes, HEADER};
use crate::Error;

/// Bytes that one receive can take; the kernel never puts more into one datagram of a dump.
const RECEIVE: usize = 128 << 10;
/// Room for answers: with an error for each of 100,000 messages the kernel would need about this.
const RECEIVE_QUEUE: usize = 16 << 20;

/// A conversation with one netlink family, request and answer in turn.
pub struct Talk {
    socket: Socket,
    seq: u32,
    buffer: Vec<u8>,
    send_queue: usize,
}

/// A message of an answer, without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: u16,
    pub body: Vec<u8>,
}

/// What the kernel answered to the message with this sequence number; errno 0 is an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub seq: u32,
    pub errno: i32,
    /// The kernel's own words (NLMSGERR_ATTR_MSG).
    pub words: Option<String>,
    /// Where in the message the offending attribute begins (NLMSGERR_ATTR_OFFS).
    pub offset: Option<u32>,
}

impl Fault {
    pub fn reason(&self) -> String {
        let errno = io::Error::from_raw_os_error(self.errno);
        self.words.as_ref().map_or_else(|| errno.to_string(), |words| format!("{words} ({errno})"))
    }

    pub fn refused(&self, what: impl Into<String>) -> Error {
        Error::Refused { what: what.into(), reason: self.reason(), errno: self.errno }
    }
}

impl Talk {
    pub fn open(protocol: i32) -> Result<Talk, Error> {
        let trouble = |what: &'static str| Error::io(format!("{what} a netlink socket of family {protocol}"));
        let mut socket = Socket::new(protocol as isize).map_err(trouble("open"))?;
        socket.bind_auto().map_err(trouble("bind"))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(trouble("connect"))?;
        // Errors quote the offending header only, not the whole message.
        socket.set_cap_ack(true).map_err(trouble("configure"))?;
        socket.set_ext_ack(true).map_err(trouble("configure"))?;
        let force = setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &RECEIVE_QUEUE);
        // Beyond the system's limit only for CAP_NET_ADMIN; within it for everyone.
        force
            .or_else(|_| setsockopt(&socket.as_fd(), sockopt::RcvBuf, &RECEIVE_QUEUE))
            .map_err(io::Error::from)
            .map_err(trouble("enlarge"))?;
        Ok(Talk { socket, seq: 0, buffer: Vec::with_capacity(RECEIVE), send_queue: 0 })
    }

    /// The port id by which the kernel knows this socket, as owner of tables for instance.
    pub fn port(&self) -> u32 {
        let mut address = SocketAddr::new(0, 0);
        self.socket.get_address(&mut address).map(|()| address.port_number()).unwrap_or(0)
    }

    /// Reserves `count` sequence numbers and returns the first.
    pub fn sequence(&mut self, count: u32) -> u32 {
        if self.seq > u32::MAX / 2 {
            self.seq = 0;
        }
        let first = self.seq + 1;
        self.seq += count;
        first
    }

    /// Sends everything in one call, since the kernel takes a batch from one datagram only.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        // The kernel refuses a datagram that is longer than the send queue less 32 bytes (netlink_sendmsg).
        let needed = bytes.len() + 4096;
        if needed > self.send_queue {
            let size = needed.next_power_of_two().max(1 << 20);
            let force = setsockopt(&self.socket.as_fd(), sockopt::SndBufForce, &size);
            force.or_else(|_| setsockopt(&self.socket.as_fd(), sockopt::SndBuf, &size))?;
            self.send_queue = size;
        }
        match self.socket.send(bytes, 0)? {
            sent if sent == bytes.len() => Ok(()),
            sent => Err(io::Error::other(format!("{sent} of {} bytes were sent", bytes.len()))),
        }
    }

    /// Reads answers until `visit` has seen enough. It gets kind, flags, sequence number and body of each message.
    pub fn receive(&mut self, mut visit: impl FnMut(u16, u16, u32, &[u8]) -> Enough) -> io::Result<()> {
        loop {
            self.buffer.clear();
            let length = loop {
                match self.socket.recv(&mut self.buffer, libc::MSG_TRUNC) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            if length > self.buffer.len() {
                return Err(io::Error::other(format!("the kernel sent {length} bytes at once")));
            }
            let mut rest = &self.buffer[..];
            while let Some(message) = first(rest) {
                rest = message.rest;
                if visit(message.kind, message.flags, message.seq, message.body) == Enough::Yes {
                    return Ok(());
                }
            }
        }
    }

    /// Joins a multicast group; what it says is read by [`Talk::drain`].
    pub fn join(&mut self, group: u32) -> io::Result<()> {
        self.socket.add_membership(group)
    }

    /// Reads what has come without waiting; ends with `WouldBlock`.
    pub fn drain(&mut self, mut visit: impl FnMut(u16, &[u8])) -> io::Result<()> {
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT)?;
            let mut rest = &self.buffer[..];
            while let Some(message) = first(rest) {
                rest = message.rest;
                visit(message.kind, message.body);
            }
        }
    }

    /// Sends a dump request (`seq` as it was written) and collects the messages of the answer. EINTR when the table changed meanwhile.
    pub fn dump(&mut self, request: &[u8], seq: u32, mut visit: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.send(request)?;
        let mut outcome = Ok(());
        self.receive(|kind, flags, found, body| {
            if found != seq {
                return Enough::No;
            }
            if flags & libc::NLM_F_DUMP_INTR as u16 != 0 {
                outcome = Err(io::Error::from_raw_os_error(libc::EINTR));
            }
            match i32::from(kind) {
                libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                    let code = body.get(..4).map_or(0, |code| i32::from_ne_bytes(code.try_into().unwrap_or_default()));
                    if code != 0 {
                        outcome = Err(io::Error::from_raw_os_error(-code));
                    }
                    Enough::Yes
                }
                _ => {
                    visit(kind, body);
                    Enough::No
                }
            }
        })?;
        outcome
    }

    /// Sends one request that wants an acknowledgement, and waits for it.
    pub fn ask(&mut self, request: &[u8], seq: u32) -> io::Result<(Option<Message>, Fault)> {
        self.send(request)?;
        let (mut answer, mut fault) = (None, Fault { seq, errno: 0, words: None, offset: None });
        self.receive(|kind, flags, found, body| {
            if found != seq {
                return Enough::No;
            }
            if i32::from(kind) == libc::NLMSG_ERROR {
                fault = read_fault(flags, seq, body);
                return Enough::Yes;
            }
            answer = Some(Message { kind, body: body.to_vec() });
            Enough::No
        })?;
        Ok((answer, fault))
    }
}

impl AsFd for Talk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Talk(fd {})", self.socket.as_raw_fd())
    }
}

/// Whether a reader has what it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enough {
    Yes,
    No,
}

/// The first message of a datagram, without its header, and what follows it.
pub struct First<'a> {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub body: &'a [u8],
    pub rest: &'a [u8],
}

pub fn first(bytes: &[u8]) -> Option<First<'_>> {
    let word = |at: usize| bytes.get(at..at + 4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    let half = |at: usize| bytes.get(at..at + 2).map(|half| u16::from_ne_bytes([half[0], half[1]]));
    let length = word(0)? as usize;
    let body = bytes.get(HEADER..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    Some(First { kind: half(4)?, flags: half(6)?, seq: word(8)?, body, rest })
}

/// NLM_F_CAPPED and NLM_F_ACK_TLVS (include/uapi/linux/netlink.h).
const CAPPED: u16 = 0x100;
const ACK_TLVS: u16 = 0x200;

/// Reads the body of an NLMSG_ERROR: `struct nlmsgerr`, then, with our socket options, attributes.
pub fn read_fault(flags: u16, seq: u32, body: &[u8]) -> Fault {
    let errno = body.get(..4).map_or(libc::EIO, |code| -i32::from_ne_bytes([code[0], code[1], code[2], code[3]]));
    let quoted =
        if flags & CAPPED != 0 { HEADER } else { first(body.get(4..).unwrap_or(&[])).map_or(HEADER, |inner| HEADER + inner.body.len()) };
    let extra = if flags & ACK_TLVS != 0 { Attributes(body.get(4 + quoted.next_multiple_of(4)..).unwrap_or(&[])) } else { Attributes(&[]) };
    // NLMSGERR_ATTR_MSG 1, NLMSGERR_ATTR_OFFS 2
    let offset = extra.get(2).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    Fault { seq, errno, words: extra.text(1).map(str::to_owned), offset }
}
