//! The server: what comes to one port speaks SOCKS5 first, and then both are the same destination.
//!
//! The destination echoes; `B<bytes>\n` is answered by so many bytes, and `GET` as a probe's web server answers.
//! One thread, so that it takes no more of the machine than it must.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, listen, recv, send, socket_with, sockopt,
};

struct Connection {
    fd: OwnedFd,
    stage: Stage,
    /// Of a message that is not complete.
    pending: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Greeting,
    Request,
    Open,
    Sending(u64),
}

const BLOCK: usize = 256 << 10;
const BACKLOG: i32 = 4096;

pub fn run(socks: u16, plain: u16) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let listeners = [listener(socks)?, listener(plain)?];
    for (number, listener) in listeners.iter().enumerate() {
        epoll::add(&epoll, listener, EventData::new_u64(number as u64), EventFlags::IN)?;
    }
    let mut connections: Vec<Option<Connection>> = vec![];
    let block = vec![0x5a; BLOCK];
    let mut buffer = vec![0; 64 << 10];
    let mut events: Vec<Event> = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            match event.data.u64() as usize {
                number @ (0 | 1) => accept(&epoll, &listeners[number], number == 0, &mut connections)?,
                token => {
                    let place = token - 2;
                    if connections[place].as_mut().is_some_and(|connection| connection.go_on(&mut buffer, &block).is_none()) {
                        connections[place] = None;
                    }
                }
            }
        }
    }
}

fn listener(port: u16) -> io::Result<OwnedFd> {
    let fd = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    bind(&fd, &std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, port))?;
    listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// A connection's place is its descriptor's number: there is always exactly one.
fn accept(epoll: &OwnedFd, listener: &OwnedFd, socks: bool, connections: &mut Vec<Option<Connection>>) -> io::Result<()> {
    for _ in 0..64 {
        let fd = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(fd) => fd,
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::CONNABORTED) => continue,
            Err(error) => return Err(error.into()),
        };
        let place = fd.as_raw_fd() as usize;
        connections.resize_with(connections.len().max(place + 1), || None);
        epoll::add(epoll, &fd, EventData::new_u64(place as u64 + 2), EventFlags::IN | EventFlags::OUT | EventFlags::ET)?;
        let stage = if socks { Stage::Greeting } else { Stage::Open };
        connections[place] = Some(Connection { fd, stage, pending: vec![] });
    }
    Ok(())
}

impl Connection {
    /// None: it is over.
    fn go_on(&mut self, buffer: &mut [u8], block: &[u8]) -> Option<()> {
        loop {
            if let Stage::Sending(left) = self.stage {
                if left == 0 {
                    return None;
                }
                match send(&self.fd, &block[..block.len().min(left as usize)], SendFlags::NOSIGNAL) {
                    Ok(sent) => self.stage = Stage::Sending(left - sent as u64),
                    Err(Errno::AGAIN) => return Some(()),
                    Err(_) => return None,
                }
                continue;
            }
            match recv(&self.fd, &mut *buffer, RecvFlags::empty()).map(|(read, _)| read) {
                Ok(0) => return None,
                Ok(read) if self.stage == Stage::Open && self.pending.is_empty() && !b"BG".contains(&buffer[0]) => {
                    self.say(&buffer[..read])?
                }
                Ok(read) => {
                    self.pending.extend_from_slice(&buffer[..read]);
                    while self.message()? {}
                }
                Err(Errno::AGAIN) => return Some(()),
                Err(_) => return None,
            }
        }
    }

    /// One complete message of what is pending. `false`: there is none.
    fn message(&mut self) -> Option<bool> {
        let pending = std::mem::take(&mut self.pending);
        let used = match (self.stage, pending.as_slice()) {
            (Stage::Greeting, [5, methods, rest @ ..]) if rest.len() >= usize::from(*methods) => {
                self.stage = Stage::Request;
                self.say(&[5, 0])?;
                2 + usize::from(*methods)
            }
            (Stage::Request, [5, 1, 0, kind, rest @ ..]) => {
                let length = if *kind == 4 { 16 } else { 4 } + 2;
                if rest.len() >= length {
                    self.stage = Stage::Open;
                    self.say(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
                    4 + length
                } else {
                    0
                }
            }
            (Stage::Open, [b'B', rest @ ..]) if rest.contains(&b'\n') => {
                let line = std::str::from_utf8(rest).ok()?.trim();
                self.stage = Stage::Sending(line.parse().ok()?);
                pending.len()
            }
            (Stage::Open, [b'G', ..]) if pending.ends_with(b"\r\n\r\n") => {
                self.say(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\n100.64.1.10")?;
                return None;
            }
            (Stage::Open, echoed @ [first, ..]) if !b"BG".contains(first) => {
                self.say(echoed)?;
                pending.len()
            }
            _ => 0,
        };
        self.pending.extend_from_slice(&pending[used..]);
        Some(used > 0)
    }

    /// Answers are small: a socket that does not take one is not worth keeping.
    fn say(&self, bytes: &[u8]) -> Option<()> {
        (send(&self.fd, bytes, SendFlags::NOSIGNAL).ok()? == bytes.len()).then_some(())
    }
}
