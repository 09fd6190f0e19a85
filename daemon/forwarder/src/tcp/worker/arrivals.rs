//! Clients' connections: accepted, and whose they are.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use nix::sys::socket::{getsockopt, sockopt::Mark};
use policy::compile::proxy::{MAPPING, MAPPING_SHIFT};
use policy::messages::forwarder::SocketKind;
use policy::plan::proxy::Dns;
use rustix::event::epoll::{self, EventData};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with, getsockname, sockopt};
use tracing::debug;

use super::{How, SOCKET, Worker, reset};
use crate::config::Mapped;
use crate::flows::{Begin, lock};
use crate::tcp::flow::{Begun, Flow};
use crate::tcp::pump::Side;
use crate::tcp::slots::Key;

/// What a client's connection is to us.
enum Arrived {
    Flow(Begun),
    /// DNS, for the stub.
    Questions {
        mapped: Arc<Mapped>,
        destination: SocketAddr,
    },
}

/// Accepted before the flows have their turn again.
pub(super) const ACCEPT: usize = 64;

impl Worker {
    /// At most so many.
    pub(super) fn accept(&mut self, place: usize, most: usize) {
        for _ in 0..most {
            let Some(listener) = self.listeners.get(place) else { return };
            match acceptfrom_with(&listener.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((fd, peer)) => {
                    let kind = listener.kind;
                    if let Some(client) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) {
                        self.begin(fd, client, kind);
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE) => {
                    // The limit of flows should have come first. A connection that waits would wake us for ever.
                    self.spare = None;
                    if let Ok((fd, _)) = acceptfrom_with(&listener.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                        reset(&fd);
                    }
                    self.spare = self.epoll.try_clone().ok();
                    return;
                }
                // Of one connection that did not come about.
                Err(_) => {}
            }
        }
    }

    /// A client is there. Whoever cannot be carried is told at once, by a reset.
    fn begin(&mut self, fd: OwnedFd, client: SocketAddr, kind: SocketKind) {
        let key = self.flows.next();
        let begun = match self.begun(&fd, client, kind, key) {
            None => return reset(&fd),
            Some(Arrived::Questions { mapped, destination }) => return self.questions(fd, mapped, client, destination),
            Some(Arrived::Flow(begun)) => begun,
        };
        let due = self.wheel.after(self.patience.connect);
        let watched = epoll::add(&self.epoll, &fd, EventData::new_u64(key.token()), SOCKET);
        self.flows.insert(Flow::new(Side::new(fd), begun, due));
        self.wheel.insert(key, due);
        if watched.is_err() {
            self.end(key, How::Broken);
        }
    }

    fn begun(&mut self, fd: &OwnedFd, client: SocketAddr, kind: SocketKind, key: Key) -> Option<Arrived> {
        let carried = self.shared.carried()?;
        let mark = getsockopt(fd, Mark).ok()?;
        let id = ((mark & MAPPING) >> MAPPING_SHIFT) as u16;
        let Some(mapped) = carried.mapping(id, client.ip().to_canonical()) else {
            debug!(%client, id, "nobody's client");
            return None;
        };
        let destination = destination(fd, kind)?;
        if destination.port() == 53 && matches!(mapped.mapping.dns, Dns::DohStub { .. }) {
            return Some(Arrived::Questions { mapped: mapped.clone(), destination });
        }
        let chosen = lock(&self.shared.board).choose(&mapped.mapping.via);
        let route = match chosen {
            Ok(name) => carried.route(&name)?.clone(),
            Err(why) => {
                debug!(%client, mapping = %mapped.name, why, "nobody carries it");
                self.shared.flows.tally(&mapped.name).failed.fetch_add(1, Relaxed);
                return None;
            }
        };
        let door = &self.desk.door;
        let entry =
            self.shared.flows.begin(Begin { mapped, route: &route, protocol: "tcp", client, destination, door, token: key.token() })?;
        let mut begun = Begun { entry, tried: vec![], began: Instant::now(), reached: None };
        begun.reached = self.reach(&carried, &begun.entry, &mut begun.tried, Some(route), key);
        if begun.reached.is_none() {
            self.shared.flows.end(&begun.entry);
            return None;
        }
        Some(Arrived::Flow(begun))
    }

    /// The stub answers them, whomever they were for.
    fn questions(&self, fd: OwnedFd, mapped: Arc<Mapped>, client: SocketAddr, asked: SocketAddr) {
        let handles = lock(&self.shared.datagrams);
        // Any worker will do, and all shall.
        match handles.get(usize::from(client.port()) % handles.len().max(1)) {
            Some(handle) => handle.answer_stream(fd, mapped, client, asked),
            None => reset(&fd),
        }
    }
}

/// Where the client wanted to go.
fn destination(fd: &OwnedFd, kind: SocketKind) -> Option<SocketAddr> {
    let address = match kind {
        SocketKind::Redirected4 => sockopt::ip_original_dst(fd).ok()?.into(),
        SocketKind::Redirected6 => sockopt::ipv6_original_dst(fd).ok()?.into(),
        _ => SocketAddr::try_from(getsockname(fd).ok()?).ok()?,
    };
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}
