use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::Error;
use crate::netlink::{Attributes, Talk};

/// Hears of every transaction on the tables of this namespace, our own included.
pub struct Monitor {
    talk: Talk,
}

/// One committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The ruleset's generation id after it; see [`crate::Nft::generation`].
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

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

impl Monitor {
    pub fn open() -> Result<Monitor, Error> {
        const NFNLGRP_NFTABLES: u32 = 7;
        let mut talk = Talk::open(libc::NETLINK_NETFILTER)?;
        talk.join(NFNLGRP_NFTABLES).map_err(Error::io("listen for changes of the packet filter"))?;
        Ok(Monitor { talk })
    }

    /// What has happened since the last call; does not block. An error with ENOBUFS means that changes were missed, and that
    /// listening goes on.
    pub fn changes(&mut self) -> Result<Vec<Change>, Error> {
        const NEWGEN: i32 = libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_NEWGEN;
        let mut changes = Vec::new();
        let heard = self.talk.drain(|kind, body| {
            if i32::from(kind) != NEWGEN {
                return;
            }
            // NFTA_GEN_ID, NFTA_GEN_PROC_PID, NFTA_GEN_PROC_NAME
            let generation = Attributes(body.get(4..).unwrap_or(&[]));
            let who = generation.be32(2).map(|pid| Who { name: generation.text(3).unwrap_or_default().to_owned(), pid });
            changes.extend(generation.be32(1).map(|id| Change { generation: id, who }));
        });
        match heard {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                Err(Error::Io { what: "hear who changes the packet filter".into(), source: error })
            }
            _ => Ok(changes),
        }
    }
}

/// Readable when there are changes, for poll(2).
impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.talk.as_fd()
    }
}
