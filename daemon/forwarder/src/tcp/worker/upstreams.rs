//! The way to an upstream, and to another one when the first does not work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use policy::name::Name;
use rustix::event::epoll::{self, EventData};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use tracing::debug;

use super::{How, SOCKET, Worker, told};
use crate::config::{Carried, Route};
use crate::dial::tls::Tls;
use crate::dial::{Handshake, Refused, Target};
use crate::flows::{Entry, lock};
use crate::tcp::flow::{Far, Phase, Reached, is_our_want};
use crate::tcp::pump::Side;
use crate::tcp::sealed::Sealed;
use crate::tcp::slots::Key;

/// Upstreams that are tried for one connection, and for how long.
const TRIES: usize = 4;
const TRY_FOR: Duration = Duration::from_secs(15);

impl Worker {
    /// Begins a connection to `first`, or to whoever else may carry this flow.
    pub(super) fn reach(
        &self,
        carried: &Carried,
        entry: &Entry,
        tried: &mut Vec<Name>,
        first: Option<Arc<Route>>,
        key: Key,
    ) -> Option<Reached> {
        let mut next = first;
        while let Some(route) = next.or_else(|| self.next_route(carried, entry, tried)) {
            entry.take_route(&route);
            match self.dial(&route, entry.destination, key) {
                Ok(reached) => return Some(reached),
                Err(refused) => {
                    debug!(upstream = %route.name, why = refused.why, "not reached");
                    if !refused.upstream_at_fault {
                        break;
                    }
                    self.shared.failed(&route.name, &refused.why);
                    tried.push(route.name.clone());
                }
            }
            next = None;
        }
        entry.tally.failed.fetch_add(1, Relaxed);
        None
    }

    /// Another member of the group.
    fn next_route(&self, carried: &Carried, entry: &Entry, tried: &[Name]) -> Option<Arc<Route>> {
        if tried.len() >= TRIES {
            return None;
        }
        let via = &carried.proxy.mappings.get(&entry.mapped.name)?.via;
        let chosen = lock(&self.shared.board).choose(via).ok()?;
        if tried.contains(&chosen) { None } else { carried.route(&chosen).cloned() }
    }

    fn dial(&self, route: &Route, destination: SocketAddr, key: Key) -> Result<Reached, Refused> {
        let upstream = &route.upstream;
        let pipelined = lock(&self.shared.board).pipelined(&route.name);
        let handshake = Box::new(Handshake::connect(upstream, route.password(), &Target::Address(destination), pipelined)?);
        let tls = Tls::client(upstream)?;
        let (side, connected) = dialled(SocketAddr::new(upstream.address, upstream.port))?;
        epoll::add(&self.epoll, &side.fd, EventData::new_u64(key.upstream_token()), SOCKET)
            .map_err(|error| Refused::destination(told(error)))?;
        let side = Side { writable: connected, ..side };
        let far = match tls {
            None => Far::Plain(side),
            Some(tls) => Far::Sealed(Box::new(Sealed::new(side, tls))),
        };
        Ok(Reached { far, handshake })
    }

    /// This upstream does not carry this flow.
    pub(super) fn refused(&mut self, key: Key, refused: Refused) {
        let Some(flow) = self.flows.get(key) else { return };
        let route = flow.entry.route();
        debug!(upstream = %route.name, client = %flow.entry.client, why = refused.why, "no tunnel");
        // The socket to it is closed, and forgotten by epoll, before another takes its place.
        flow.far = None;
        flow.forget(&mut self.lent);
        if !refused.upstream_at_fault {
            match flow.phase {
                Phase::Asking { heard: true, .. } => self.shared.succeeded(&route.name),
                _ => self.shared.doubt(&route.name),
            }
            flow.entry.tally.failed.fetch_add(1, Relaxed);
            return self.end(key, How::Broken);
        }
        self.shared.failed(&route.name, &refused.why);
        let Some(flow) = self.flows.get(key) else { return };
        flow.tried.push(route.name.clone());
        let (entry, mut tried) = (flow.entry.clone(), std::mem::take(&mut flow.tried));
        let soon = flow.began.elapsed() < TRY_FOR;
        let carried = self.shared.carried().filter(|_| soon);
        let reached = carried.and_then(|carried| self.reach(&carried, &entry, &mut tried, None, key));
        let Some(flow) = self.flows.get(key) else { return };
        match reached {
            Some(Reached { far, handshake }) => {
                flow.far = Some(far);
                flow.phase = Phase::Connecting(handshake);
                flow.tried = tried;
                flow.due = self.wheel.after(self.patience.connect);
                if flow.due < flow.comes {
                    flow.comes = self.wheel.insert(key, flow.due);
                }
            }
            None => self.end(key, How::Broken),
        }
    }
}

/// A socket on its way to an upstream, and whether it is there already.
///
/// It is bound to nothing, so the kernel chooses a port for this pair of addresses alone, as IP_BIND_ADDRESS_NO_PORT would make it.
fn dialled(to: SocketAddr) -> Result<(Side, bool), Refused> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fail = |error| if is_our_want(error) { Refused::destination(told(error)) } else { Refused::upstream(told(error)) };
    let fd = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None).map_err(fail)?;
    sockopt::set_tcp_nodelay(&fd, true).map_err(fail)?;
    match connect(&fd, &to) {
        Ok(()) => Ok((Side::new(fd), true)),
        Err(Errno::INPROGRESS) => Ok((Side::new(fd), false)),
        Err(error) => Err(fail(error)),
    }
}
