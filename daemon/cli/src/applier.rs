//! The applier's socket: one connection, one request, one answer.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::TimeVal;
use policy::messages::{ApplierRequest, ApplierResponse, BadMessage, Inbox, Principal, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::trouble::Trouble;

/// Where the applier listens.
pub struct Applier {
    pub socket: PathBuf,
}

impl Applier {
    pub fn ask(&self, request: &ApplierRequest) -> Result<ApplierResponse, Trouble> {
        match exchange("applier", &self.socket, request)? {
            ApplierResponse::Refused { reason, problems } if problems.is_empty() => Err(Trouble::Refused(reason)),
            ApplierResponse::Refused { problems, .. } => Err(Trouble::Problems(problems)),
            ApplierResponse::Failed { reason, generation } => Err(Trouble::WentBack { reason, generation }),
            answer => Ok(answer),
        }
    }

    pub fn unexpected(answer: ApplierResponse) -> Trouble {
        let text = format!("{answer:?}");
        Trouble::Garbled(text.chars().take(200).collect())
    }
}

/// An apply compiles, installs and reads back; a minute is hundreds of times what it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// `who` is for the words of trouble.
pub fn exchange<Answer: DeserializeOwned>(who: &'static str, socket: &Path, request: &impl Serialize) -> Result<Answer, Trouble> {
    exchange_within(who, socket, request, None, PATIENCE)
}

/// Ends in time whatever the other side does, or does not do. A descriptor goes along with the first byte.
pub fn exchange_within<Answer: DeserializeOwned>(
    who: &'static str,
    socket: &Path,
    request: &impl Serialize,
    descriptor: Option<BorrowedFd>,
    patience: Duration,
) -> Result<Answer, Trouble> {
    let unreachable = |error| Trouble::Unreachable(who, socket.to_owned(), error);
    let request = encode(request).map_err(|error| Trouble::Usage(error.to_string()))?;
    let until = Instant::now() + patience;
    let mut stream = open(socket, patience.min(Duration::from_secs(10))).map_err(unreachable)?;
    let begun = match descriptor {
        Some(descriptor) => send_with(&stream, &request, descriptor).map_err(unreachable)?,
        None => 0,
    };
    stream.write_all(&request[begun..]).map_err(unreachable)?;
    receive(&mut stream, until).map_err(unreachable)?.map_err(|error| Trouble::Garbled(error.to_string()))
}

/// std connects without a limit of time, and would wait for as long as a listener that hangs has a full queue.
fn open(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let limit = TimeVal::new(patience.as_secs() as i64, i64::from(patience.subsec_micros()));
    setsockopt(&fd, SendTimeout, &limit)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

fn send_with(stream: &UnixStream, bytes: &[u8], descriptor: BorrowedFd) -> io::Result<usize> {
    let fds = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    Ok(sendmsg::<()>(stream.as_fd().as_raw_fd(), &[IoSlice::new(bytes)], &rights, MsgFlags::MSG_NOSIGNAL, None)?)
}

fn receive<Answer: DeserializeOwned>(stream: &mut UnixStream, until: Instant) -> io::Result<Result<Answer, BadMessage>> {
    let mut inbox = Inbox::default();
    let mut piece = [0; 64 << 10];
    loop {
        match inbox.take() {
            Ok(Some(answer)) => return Ok(Ok(answer)),
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without an answer; its log says why")),
            length => inbox.push(&piece[..length]),
        }
    }
}

/// Who asks, for the record: the person behind sudo, or the console.
pub fn myself() -> Principal {
    let sudo = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    let login = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    let name = sudo.or_else(login).filter(|name| name != "root" && name != "portcullis-console").unwrap_or_else(|| "console".to_owned());
    // connected_at stays empty: for a local caller the new connection to the applier is the proof.
    Principal { name, address: None, connected_at: None }
}
