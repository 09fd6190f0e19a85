//! The socket: who may speak, messages and descriptors in, answers out.
//!
//! A thread for each of a few connections, each bounded in time and bytes. Who may speak is decided before the first byte is read.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::AcceptConn, sockopt::PeerCredentials};
use policy::messages::updater::{UpdaterRequest, UpdaterResponse};
use policy::messages::{Inbox, encode};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tracing::{debug, warn};

/// A request, and what came along.
pub trait Answers: Send + Sync + 'static {
    fn answer(&self, request: UpdaterRequest, file: Option<OwnedFd>) -> (UpdaterResponse, Option<OwnedFd>);
    /// Something is under way that must not be ended.
    fn is_busy(&self) -> bool;
}

const MOST_PEERS: usize = 16;
/// For a message to be there whole, and for the next one to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests are small; files come as descriptors.
const MOST_REQUEST: usize = 64 << 10;
/// Without anybody to answer for so long, the process ends; the socket starts it again.
const IDLE: Duration = Duration::from_secs(120);

/// Until nobody has asked for a while, where `ends` says so.
pub fn serve(listener: &UnixListener, allowed: &[u32], answers: &Arc<impl Answers>, ends: bool) -> io::Result<()> {
    let peers = Arc::new(AtomicUsize::new(0));
    let mut active = Instant::now();
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let came = poll(&mut fds, PollTimeout::from(5000_u16)).unwrap_or(0);
        if peers.load(Ordering::SeqCst) > 0 || answers.is_busy() || came > 0 {
            active = Instant::now();
        } else if ends && active.elapsed() > IDLE {
            return Ok(());
        }
        if came == 0 {
            continue;
        }
        let (stream, _) = listener.accept()?;
        match getsockopt(&stream, PeerCredentials) {
            Ok(peer) if allowed.contains(&peer.uid()) => {}
            Ok(peer) => {
                warn!(uid = peer.uid(), pid = peer.pid(), "a stranger asked and got no answer");
                continue;
            }
            Err(error) => {
                warn!(%error, "nobody knows who asked");
                continue;
            }
        }
        if peers.fetch_add(1, Ordering::SeqCst) >= MOST_PEERS {
            peers.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (answers, counted) = (answers.clone(), peers.clone());
        let run = move || {
            if let Err(error) = attend(&stream, &*answers) {
                debug!(%error, "a connection ended");
            }
            counted.fetch_sub(1, Ordering::SeqCst);
        };
        if thread::Builder::new().name("peer".into()).spawn(run).is_err() {
            peers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn attend(stream: &UnixStream, answers: &impl Answers) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let (mut inbox, mut file, mut begun) = (Inbox::default(), None, Instant::now());
    loop {
        if let Some(request) = inbox.take().map_err(io::Error::other)? {
            let (answer, along) = answers.answer(request, file.take());
            send(stream, &answer, along)?;
            begun = Instant::now();
            continue;
        }
        let left = PATIENCE.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()).ok_or(io::ErrorKind::TimedOut)?;
        stream.set_read_timeout(Some(left))?;
        let (bytes, came) = receive(stream)?;
        if came.is_some() {
            // One for each message; what came before and was not used is closed.
            file = came;
        }
        if bytes.is_empty() {
            return Ok(());
        }
        inbox.push(&bytes);
        if inbox.len() > MOST_REQUEST {
            return Err(io::Error::other("a request is too long"));
        }
    }
}

fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; 16 << 10];
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = vec![];
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            files.extend(came);
        }
    }
    // All but the first are closed here.
    files.truncate(1);
    bytes.truncate(received.bytes);
    Ok((bytes, files.pop()))
}

fn send(stream: &UnixStream, answer: &UpdaterResponse, file: Option<OwnedFd>) -> io::Result<()> {
    let bytes = encode(answer).map_err(io::Error::other)?;
    let Some(file) = file else { return (&*stream).write_all(&bytes) };
    let files = [file.as_fd()];
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    let sent = sendmsg(stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    (&*stream).write_all(&bytes[sent..])
}

/// The socket that systemd listened on, as standard input, or one of our own.
pub fn listener(path: &std::path::Path) -> io::Result<(UnixListener, bool)> {
    let given = io::stdin().as_fd().try_clone_to_owned()?;
    if getsockopt(&given, AcceptConn).is_ok_and(|listens| listens) {
        return Ok((UnixListener::from(given), true));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // Peer credentials decide; the mode only lets everybody knock.
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    Ok((listener, false))
}
