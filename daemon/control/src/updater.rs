//! The other end of the updater's socket: slots, updates, and restarts. Whatever is asked for is written down first: a reboot leaves no time after.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use policy::messages::updater::{BundleFacts, Source, Stick, UpdaterRequest, UpdaterResponse, UpdaterStatus};
use policy::messages::{Inbox, encode};

use crate::actor::Actor;
use crate::audit::Note;
use crate::site::Site;
use crate::trouble::Trouble;

pub struct Updater {
    socket: PathBuf,
}

const PATIENCE: Duration = Duration::from_secs(5);
/// Every byte of a bundle is read, from a stick perhaps.
const READING: Duration = Duration::from_secs(60);

impl Updater {
    pub fn new(socket: PathBuf) -> Self {
        Updater { socket }
    }

    pub fn status(&self) -> Result<UpdaterStatus, Trouble> {
        match self.ask(&UpdaterRequest::Status, None, PATIENCE)? {
            UpdaterResponse::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    pub fn sticks(&self) -> Result<Vec<Stick>, Trouble> {
        match self.ask(&UpdaterRequest::Sticks, None, READING)? {
            UpdaterResponse::Sticks { sticks } => Ok(sticks),
            other => Err(unexpected(&other)),
        }
    }

    /// With what the source `Descriptor` means.
    pub fn check(&self, source: Source, downgrade: bool, file: Option<&File>) -> Result<BundleFacts, Trouble> {
        match self.ask(&UpdaterRequest::Check { source, downgrade }, file, READING)? {
            UpdaterResponse::Good(facts) => Ok(facts),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&self, request: &UpdaterRequest, file: Option<&File>, patience: Duration) -> Result<UpdaterResponse, Trouble> {
        let answer = exchange(&self.socket, request, file, patience).map_err(|error| Trouble::UpdaterAway(error.to_string()))?;
        match answer {
            UpdaterResponse::Refused { reason, .. } | UpdaterResponse::Failed { reason } => Err(Trouble::Conflict(reason)),
            answer => Ok(answer),
        }
    }
}

/// Begins an update; how it goes on is told by the status.
pub fn install(site: &Site, actor: &Actor, source: Source, downgrade: bool, file: Option<&File>) -> Result<(), Trouble> {
    let from = match &source {
        Source::Descriptor => "an uploaded file".to_owned(),
        Source::Stick { stick, path } => format!("{path} on stick {stick}"),
        Source::Address { url } => url.clone(),
    };
    let request = UpdaterRequest::Install { source, downgrade, by: actor.principal() };
    told(site, actor, "update.install", &from, || site.updater.ask(&request, file, PATIENCE.max(READING)))
}

pub fn boot_other(site: &Site, actor: &Actor) -> Result<(), Trouble> {
    told(site, actor, "update.boot-other", "the other slot", || {
        site.updater.ask(&UpdaterRequest::BootOther { by: actor.principal() }, None, PATIENCE)
    })
}

pub fn reboot(site: &Site, actor: &Actor) -> Result<(), Trouble> {
    told(site, actor, "system.reboot", "the box", || site.updater.ask(&UpdaterRequest::Reboot { by: actor.principal() }, None, PATIENCE))
}

pub fn power_off(site: &Site, actor: &Actor) -> Result<(), Trouble> {
    told(site, actor, "system.power-off", "the box", || {
        site.updater.ask(&UpdaterRequest::PowerOff { by: actor.principal() }, None, PATIENCE)
    })
}

/// Written down before it is asked for, and once more when it was refused.
fn told(
    site: &Site,
    actor: &Actor,
    action: &'static str,
    subject: &str,
    ask: impl FnOnce() -> Result<UpdaterResponse, Trouble>,
) -> Result<(), Trouble> {
    site.change(actor, |ledger| ledger.note(Note::new(action, subject, "asked for")))?;
    match ask() {
        Ok(UpdaterResponse::Begun | UpdaterResponse::Done) => Ok(()),
        Ok(other) => Err(unexpected(&other)),
        Err(trouble) => {
            site.change(actor, |ledger| ledger.note(Note::new(action, subject, format!("not done: {trouble}"))))?;
            Err(trouble)
        }
    }
}

/// A descriptor goes with the first byte of the request.
fn exchange(socket: &std::path::Path, request: &UpdaterRequest, file: Option<&File>, patience: Duration) -> io::Result<UpdaterResponse> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let bytes = encode(request).map_err(io::Error::other)?;
    let sent = match file {
        None => 0,
        Some(file) => {
            let files = [file.as_raw_fd()];
            sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&bytes)], &[ControlMessage::ScmRights(&files)], MsgFlags::MSG_NOSIGNAL, None)?
        }
    };
    stream.write_all(&bytes[sent..])?;
    let (mut inbox, mut piece) = (Inbox::default(), vec![0; 16 << 10]);
    loop {
        if let Some(answer) = inbox.take().map_err(io::Error::other)? {
            return Ok(answer);
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => inbox.push(&piece[..length]),
        }
    }
}

fn unexpected(answer: &UpdaterResponse) -> Trouble {
    let text: String = format!("{answer:?}").chars().take(200).collect();
    Trouble::Internal(format!("the updater gave an answer to another question: {text}"))
}
