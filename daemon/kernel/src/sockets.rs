//! The sockets of the forwarder, which takes no privilege: made here, handed over by SCM_RIGHTS.

use std::io::{self, IoSlice, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, bind, listen, sendmsg,
    setsockopt, socket, sockopt,
};
use policy::compile::proxy::ANSWER;
use policy::messages::forwarder::{DATAGRAMS_PORT, REDIRECTED_PORT, SOCKETS, SocketKind, TRANSPARENT_PORT, WORKERS};

use crate::Error;

/// Connections that wait to be accepted, for each worker; `net.core.somaxconn` is the limit below it (4096 since Linux 5.4).
const BACKLOG: i32 = 4096;
/// Bytes of datagrams that wait to be read: a burst of 1,500-byte questions while the worker does something else.
const DATAGRAMS_QUEUE: usize = 8 << 20;

/// Everything that comes with `ToForwarder::Sockets`, worker by worker.
pub fn for_the_forwarder() -> Result<Vec<OwnedFd>, Error> {
    (0..WORKERS).flat_map(|_| SOCKETS).map(open).collect()
}

/// One socket, in the calling thread's network namespace. Needs CAP_NET_ADMIN (IP_TRANSPARENT, SO_RCVMARK, SO_MARK and the size of
/// the queue), and for `Answers4` and `Answers6` CAP_NET_RAW.
pub fn open(kind: SocketKind) -> Result<OwnedFd, Error> {
    make(kind).map_err(Error::io(format!("make the forwarder's socket {kind:?}")))
}

fn make(kind: SocketKind) -> io::Result<OwnedFd> {
    use SocketKind::{Answers4, Answers6, Datagrams4, Datagrams6, Redirected4, Redirected6, Transparent4, Transparent6};
    let family = match kind {
        Redirected4 | Transparent4 | Datagrams4 | Answers4 => AddressFamily::Inet,
        Redirected6 | Transparent6 | Datagrams6 | Answers6 => AddressFamily::Inet6,
    };
    match kind {
        Redirected4 | Redirected6 => {
            let socket = bound(family, SockType::Stream, REDIRECTED_PORT, |_| Ok(()))?;
            listening(socket)
        }
        Transparent4 | Transparent6 => {
            let socket = bound(family, SockType::Stream, TRANSPARENT_PORT, |socket| transparent(socket, family))?;
            listening(socket)
        }
        Datagrams4 | Datagrams6 => bound(family, SockType::Datagram, DATAGRAMS_PORT, |socket| {
            transparent(socket, family)?;
            // The destination that the client meant, and the mark that tells whose client it is.
            match family {
                AddressFamily::Inet => set(socket, libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 1)?,
                _ => set(socket, libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR, 1)?,
            }
            set(socket, libc::SOL_SOCKET, SO_RCVMARK, 1)?;
            Ok(setsockopt(socket, sockopt::RcvBufForce, &DATAGRAMS_QUEUE)?)
        }),
        Answers4 | Answers6 => {
            let socket = socket(family, SockType::Raw, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
            // IPPROTO_RAW implies that we write the header; said again, since all rests on it.
            match family {
                AddressFamily::Inet => set(&socket, libc::SOL_IP, libc::IP_HDRINCL, 1)?,
                _ => set(&socket, libc::SOL_IPV6, libc::IPV6_HDRINCL, 1)?,
            }
            setsockopt(&socket, sockopt::Mark, &ANSWER)?;
            Ok(socket)
        }
    }
}

/// Since Linux 5.19; libc does not name it yet (include/uapi/asm-generic/socket.h).
const SO_RCVMARK: i32 = 75;

/// Bound to any address of one family. `configure` does what has to be done before.
fn bound(family: AddressFamily, kind: SockType, port: u16, configure: impl FnOnce(&OwnedFd) -> io::Result<()>) -> io::Result<OwnedFd> {
    let socket = socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    // Each worker has a queue of its own on the same port, and a restart need not wait for the connections of the last run.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    configure(&socket)?;
    match family {
        AddressFamily::Inet => bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port))?,
        _ => {
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
            let any = std::net::SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, port, 0, 0);
            bind(socket.as_raw_fd(), &SockaddrIn6::from(any))?;
        }
    }
    Ok(socket)
}

fn listening(socket: OwnedFd) -> io::Result<OwnedFd> {
    // Accepted connections inherit it. Bytes are handed on as they come; holding back a small answer until the last one is
    // acknowledged (Nagle) would add a round trip that the far server did not mean.
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket)
}

/// May own addresses that are not the box's: what `tproxy` leads here keeps its destination.
fn transparent(socket: &OwnedFd, family: AddressFamily) -> io::Result<()> {
    match family {
        AddressFamily::Inet => set(socket, libc::SOL_IP, libc::IP_TRANSPARENT, 1),
        _ => set(socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, 1),
    }
}

fn set(socket: &OwnedFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and pointer and size describe one integer that the kernel only reads.
    let outcome = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends the message, the descriptors with its first byte. The receiver gets duplicates; ours stay open.
pub fn hand_over(stream: &UnixStream, message: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let descriptors: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&descriptors)];
    let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(message)], &control, MsgFlags::MSG_NOSIGNAL, None)?;
    let mut stream = stream;
    stream.write_all(&message[sent..])
}
