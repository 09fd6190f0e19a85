//! `portcullis update`: slots, updates, the other slot. The updater decides who may; here that is root.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use policy::messages::updater::{LastUpdate, Slot, SlotState, Source, Step, UpdaterRequest, UpdaterResponse, UpdaterStatus};
use policy::messages::{Inbox, encode};

use super::{say, say_json};
use crate::applier::myself;
use crate::args::Update;
use crate::trouble::Trouble;

pub fn run(verb: Update, socket: &Path) -> Result<(), Trouble> {
    match verb {
        Update::Status { json } => status(socket, json),
        Update::Check { source, downgrade, json } => check(socket, &source, downgrade, json),
        Update::Install { source, downgrade } => install(socket, &source, downgrade),
        Update::BootOther => {
            expect_done(ask(socket, &UpdaterRequest::BootOther { by: myself() }, None)?)?;
            say("the box reboots into the other slot")
        }
    }
}

fn status(socket: &Path, json: bool) -> Result<(), Trouble> {
    let status = state(socket)?;
    if json {
        return say_json(&status);
    }
    let mut text = format!("{} {}\n", status.product, status.version);
    if status.slots.is_empty() {
        text.push_str("this box does not run from an image\n");
    }
    status.slots.iter().for_each(|slot| text.push_str(&line(slot)));
    if let Some(work) = &status.work {
        text.push_str(&format!("now: {:?}, {} of {} bytes{}\n", work.step, work.done, work.total, because(work.reason.as_ref())));
    }
    if let Some(LastUpdate { version, outcome, by, reason, .. }) = &status.last_update {
        text.push_str(&format!("last update: {version} by {by}: {outcome:?}{}\n", because(reason.as_ref())));
    }
    say(text)
}

fn line(slot: &Slot) -> String {
    let state = match slot.state {
        SlotState::Good => "good".to_owned(),
        SlotState::Trying { tries_left } => format!("on trial, {tries_left} boot(s) left"),
        SlotState::Bad => "did not become good".to_owned(),
        SlotState::Empty => "empty".to_owned(),
    };
    format!("{} {}: {state}\n", if slot.booted { "*" } else { " " }, slot.label)
}

fn because(reason: Option<&String>) -> String {
    reason.map(|reason| format!(", {reason}")).unwrap_or_default()
}

fn check(socket: &Path, source: &str, downgrade: bool, json: bool) -> Result<(), Trouble> {
    let (source, file) = of(source)?;
    match ask(socket, &UpdaterRequest::Check { source, downgrade }, file.as_ref())? {
        UpdaterResponse::Good(facts) if json => say_json(&facts),
        UpdaterResponse::Good(facts) => {
            say(format!("{} {}, signed by {}, {} bytes: it can be installed", facts.product, facts.version, facts.key, facts.size))
        }
        other => Err(unexpected(&other)),
    }
}

/// Waits until it has ended.
fn install(socket: &Path, source: &str, downgrade: bool) -> Result<(), Trouble> {
    let (source, file) = of(source)?;
    expect_done(ask(socket, &UpdaterRequest::Install { source, downgrade, by: myself() }, file.as_ref())?)?;
    let mut said = None;
    loop {
        let Some(work) = state(socket)?.work else { return Err(Trouble::Refused("the updater was restarted; see its log".into())) };
        match work.step {
            Step::Installed => return say(format!("{} is installed; the next boot tries it", work.version.unwrap_or_default())),
            Step::Refused | Step::Failed => return Err(Trouble::Refused(work.reason.unwrap_or_default())),
            step if said != Some(step) => say(format!("{step:?} ..."))?,
            _ => {}
        }
        said = Some(work.step);
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// An address, `stick:sdb1/name`, or a file of this box.
fn of(text: &str) -> Result<(Source, Option<File>), Trouble> {
    if text.contains("://") {
        return Ok((Source::Address { url: text.to_owned() }, None));
    }
    if let Some((stick, path)) = text.strip_prefix("stick:").and_then(|rest| rest.split_once('/')) {
        return Ok((Source::Stick { stick: stick.to_owned(), path: path.to_owned() }, None));
    }
    let file = File::open(text).map_err(|error| Trouble::File(PathBuf::from(text), error))?;
    Ok((Source::Descriptor, Some(file)))
}

fn state(socket: &Path) -> Result<UpdaterStatus, Trouble> {
    match ask(socket, &UpdaterRequest::Status, None)? {
        UpdaterResponse::Status(status) => Ok(status),
        other => Err(unexpected(&other)),
    }
}

fn expect_done(answer: UpdaterResponse) -> Result<(), Trouble> {
    match answer {
        UpdaterResponse::Begun | UpdaterResponse::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(answer: &UpdaterResponse) -> Trouble {
    Trouble::Garbled(format!("{answer:?}").chars().take(200).collect())
}

fn ask(socket: &Path, request: &UpdaterRequest, file: Option<&File>) -> Result<UpdaterResponse, Trouble> {
    match exchange(socket, request, file).map_err(|error| Trouble::Unreachable("updater", socket.to_owned(), error))? {
        UpdaterResponse::Refused { reason, .. } | UpdaterResponse::Failed { reason } => Err(Trouble::Refused(reason)),
        answer => Ok(answer),
    }
}

/// A descriptor goes with the first byte of the request.
fn exchange(socket: &Path, request: &UpdaterRequest, file: Option<&File>) -> std::io::Result<UpdaterResponse> {
    let mut stream = UnixStream::connect(socket)?;
    // A check reads every byte, and fetches them first.
    stream.set_read_timeout(Some(Duration::from_secs(600)))?;
    let bytes = encode(request).map_err(std::io::Error::other)?;
    let files: Vec<_> = file.iter().map(|file| file.as_raw_fd()).collect();
    let along = [ControlMessage::ScmRights(&files)];
    let along = if files.is_empty() { &along[..0] } else { &along[..] };
    let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&bytes)], along, MsgFlags::MSG_NOSIGNAL, None)?;
    stream.write_all(&bytes[sent..])?;
    let (mut inbox, mut piece) = (Inbox::default(), vec![0; 16 << 10]);
    loop {
        if let Some(answer) = inbox.take().map_err(std::io::Error::other)? {
            return Ok(answer);
        }
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => inbox.push(&piece[..length]),
        }
    }
}
