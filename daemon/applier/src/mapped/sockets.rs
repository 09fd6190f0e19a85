//! The sockets that the forwarder carries by: opened once and kept, so that a forwarder that is restarted gets the same queues.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

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
        let sockets: Vec<BorrowedFd> = self.opened.iter().map(AsFd::as_fd).collect();
        kernel::sockets::hand_over(stream, message, &sockets).map_err(|error| error.to_string())
    }

    fn ensure(&mut self) -> Result<(), String> {
        if self.opened.is_empty() {
            self.opened = (self.open)()?;
        }
        Ok(())
    }
}
