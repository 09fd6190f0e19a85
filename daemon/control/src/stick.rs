//! A file from a stick: the updater mounts and reads, and hands over a descriptor.

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use policy::messages::updater::{UpdaterRequest, UpdaterResponse};
use policy::messages::{Inbox, encode};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// A stick may have to spin up.
const PATIENCE: Duration = Duration::from_secs(20);

/// From the first stick that has a file of this name in its root folder. A box without sticks, or without an updater, has none.
pub fn find(updater: &Path, name: &str) -> Result<Option<File>, String> {
    let Ok((UpdaterResponse::Sticks { sticks }, _)) = ask(updater, &UpdaterRequest::Sticks) else { return Ok(None) };
    let Some(stick) = sticks.into_iter().find(|stick| stick.files.iter().any(|file| file.name == name)) else { return Ok(None) };
    let request = UpdaterRequest::ReadFromStick { stick: stick.name.clone(), path: name.to_owned() };
    match ask(updater, &request)? {
        (UpdaterResponse::File { .. }, Some(descriptor)) => Ok(Some(File::from(descriptor))),
        (UpdaterResponse::Refused { reason, .. } | UpdaterResponse::Failed { reason }, _) => Err(format!("stick {}: {reason}", stick.name)),
        (other, _) => Err(format!("the updater gave an answer that makes no sense: {other:?}")),
    }
}

fn ask(updater: &Path, request: &UpdaterRequest) -> Result<(UpdaterResponse, Option<OwnedFd>), String> {
    let failed = |error: std::io::Error| format!("the updater cannot be asked: {error}");
    let mut stream = UnixStream::connect(updater).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE))).map_err(failed)?;
    stream.write_all(&encode(request).map_err(|error| error.to_string())?).map_err(failed)?;
    let (mut inbox, mut descriptor) = (Inbox::default(), None);
    loop {
        if let Some(answer) = inbox.take().map_err(|error| error.to_string())? {
            return Ok((answer, descriptor));
        }
        let mut bytes = vec![0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
        let read = message.map_err(|error| failed(error.into()))?.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                descriptor = descriptors.last().or(descriptor);
            }
        }
        if read == 0 {
            return Err("the updater ended the connection".to_owned());
        }
        inbox.push(bytes.get(..read).unwrap_or_default());
    }
}
