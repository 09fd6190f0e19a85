//! The sockets that the forwarder carries by: opened once and kept, so that a forwarder that is restarted gets the same queues.

use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Opens them, in the order of `policy::messages::forwarder::SOCKETS`, worker by worker.
type Open = fn() -> Result<Vec<OwnedFd>, String>;

pub struct Sockets {
    open: Open,
    opened: Vec<OwnedFd>,
}

impl Sockets {
    /// What cannot be opened now is tried again when a forwarder comes.
    pub fn new(open: Open) -> (Sockets, Option<String>) {
        let mut sockets = Sockets { open, opened: vec![] };
        let failed = sockets.ensure().err();
        (sockets, failed)
    }

    #[cfg(test)]
    pub fn none() -> Sockets {
        Sockets { open: || Ok(vec![]), opened: vec![] }
    }

    /// `message` and the sockets with it, at once: nothing was sent over this stream before, so there is room.
    pub fn send(&mut self, stream: &UnixStream, message: &[u8]) -> Result<(), String> {
        self.ensure()?;
        if self.opened.is_empty() {
            return (&*stream).write_all(message).map_err(|error| error.to_string());
        }
        let numbers: Vec<RawFd> = self.opened.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(message)], &rights, MsgFlags::MSG_NOSIGNAL, None);
        match sent {
            Ok(count) if count == message.len() => Ok(()),
            Ok(_) => Err("it did not take them".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn ensure(&mut self) -> Result<(), String> {
        if self.opened.is_empty() {
            self.opened = (self.open)()?;
        }
        Ok(())
    }
}
