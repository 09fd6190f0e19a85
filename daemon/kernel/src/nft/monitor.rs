use std::os::fd::{AsFd, BorrowedFd};

use crate::Error;

/// Hears of every transaction on the tables of this namespace, our own included.
pub struct Monitor {
    socket: std::net::UdpSocket,
}

/// One committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The ruleset's generation id after it.
    pub generation: u32,
    pub who: Option<Who>,
}

/// Who sent a transaction, as the kernel saw it then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// At most 15 bytes, and the process's own choice: good for a report, not for a decision.
    pub name: String,
    pub pid: u32,
}

impl Monitor {
    pub fn open() -> Result<Monitor, Error> {
        Err(Error::Inexpressible { what: "monitor".into(), why: "not built yet".into() })
    }

    /// What has happened since the last call; does not block. `Err` with ENOBUFS means that changes were missed.
    pub fn changes(&mut self) -> Result<Vec<Change>, Error> {
        Ok(vec![])
    }
}

/// Readable when there are changes, for poll(2).
impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
