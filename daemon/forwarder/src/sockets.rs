//! The sockets that the applier binds for us and hands over.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use policy::messages::forwarder::{SOCKETS, SocketKind, WORKERS};

/// For each worker, one of each kind.
pub struct Sockets(pub Vec<Vec<(SocketKind, OwnedFd)>>);

impl Sockets {
    /// None: there are not enough.
    pub fn of(descriptors: &mut VecDeque<OwnedFd>) -> Option<Sockets> {
        if descriptors.len() < WORKERS * SOCKETS.len() {
            return None;
        }
        let mut worker = || SOCKETS.iter().copied().zip(descriptors.drain(..SOCKETS.len())).collect();
        Some(Sockets((0..WORKERS).map(|_| worker()).collect()))
    }
}

/// What TCP listens on; the rest is for datagrams.
pub fn is_listener(kind: SocketKind) -> bool {
    use SocketKind::{Redirected4, Redirected6, Transparent4, Transparent6};
    matches!(kind, Redirected4 | Redirected6 | Transparent4 | Transparent6)
}
