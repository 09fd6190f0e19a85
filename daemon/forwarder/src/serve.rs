//! `forwarder.sock`: what is carried, for those who may know, and the end of flows on their word.
//!
//! Root and the users that the process was told of may ask; the kernel says who they are. A thread for each of a few connections,
//! none of which can hold the others up or anything that carries.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use policy::messages::forwarder::{Datagrams, ForwarderRequest, ForwarderResponse, ForwarderStatus, MappingTraffic};
use policy::messages::{Inbox, encode};
use tracing::{debug, warn};

use crate::flows::lock;
use crate::shared::Shared;
use crate::tcp::pipes;

pub struct Serve {
    listener: UnixListener,
    allowed: Vec<u32>,
    shared: Arc<Shared>,
    open: AtomicUsize,
}

const MOST_PEERS: usize = 16;
/// A connection that says nothing for so long is closed, as is one that does not take its answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of a request; they are small.
const MOST_ASKED: usize = 256 << 10;
const MOST_FLOWS: u32 = 10_000;
const PROBE: Duration = Duration::from_secs(10);

impl Serve {
    /// A socket that an earlier, killed process left behind would refuse the name.
    pub fn open(path: &Path, allowed: Vec<u32>, shared: Arc<Shared>) -> io::Result<Arc<Serve>> {
        fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        let listener = UnixListener::bind(path)?;
        // Everyone may connect; who may speak is decided by the peer's user id, which cannot be forged.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        Ok(Arc::new(Serve { listener, allowed, shared, open: AtomicUsize::new(0) }))
    }

    pub fn run(self: Arc<Serve>) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "could not accept a connection");
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            match getsockopt(&stream, PeerCredentials) {
                Ok(peer) if self.allowed.contains(&peer.uid()) => {}
                Ok(peer) => {
                    warn!(uid = peer.uid(), pid = peer.pid(), "a user who may not ask the forwarder tried to");
                    continue;
                }
                Err(error) => {
                    warn!(%error, "a peer without credentials");
                    continue;
                }
            }
            if self.open.fetch_add(1, Relaxed) >= MOST_PEERS {
                self.open.fetch_sub(1, Relaxed);
                warn!("every connection is in use");
                continue;
            }
            let serve = self.clone();
            let begun = thread::Builder::new().name("serve".into()).spawn(move || {
                if let Err(error) = serve.talk(stream) {
                    debug!(%error, "a connection ended");
                }
                serve.open.fetch_sub(1, Relaxed);
            });
            if begun.is_err() {
                self.open.fetch_sub(1, Relaxed);
            }
        }
    }

    fn talk(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut inbox = Inbox::default();
        let mut piece = [0; 4096];
        loop {
            let request = inbox.take().map_err(io::Error::other)?;
            if let Some(request) = request {
                let response = self.answer(request);
                stream.write_all(&encode(&response).map_err(io::Error::other)?)?;
                continue;
            }
            if inbox.len() > MOST_ASKED {
                return Err(io::Error::other("no request is that long"));
            }
            match stream.read(&mut piece)? {
                0 => return Ok(()),
                read => inbox.push(piece.get(..read).unwrap_or_default()),
            }
        }
    }

    fn answer(&self, request: ForwarderRequest) -> ForwarderResponse {
        let flows = &self.shared.flows;
        match request {
            ForwarderRequest::Status => ForwarderResponse::Status(self.status()),
            ForwarderRequest::Flows { mapping, client, limit } => {
                let which = |entry: &crate::flows::Entry| {
                    mapping.as_ref().is_none_or(|name| *name == entry.mapped.name)
                        && client.is_none_or(|client| client.to_canonical() == entry.client.ip().to_canonical())
                };
                let (flows, total) = flows.list(which, limit.min(MOST_FLOWS) as usize);
                ForwarderResponse::Flows { flows, total }
            }
            ForwarderRequest::Close { flow: None, client: None } => {
                ForwarderResponse::Refused { reason: "say which flow, or which client".into() }
            }
            ForwarderRequest::Close { flow, client } => {
                let closed = flows.close(|entry| {
                    flow.is_none_or(|flow| flow == entry.id)
                        && client.is_none_or(|client| client.to_canonical() == entry.client.ip().to_canonical())
                });
                ForwarderResponse::Closed { flows: closed }
            }
            ForwarderRequest::Probe { upstreams } => {
                let Some(carried) = self.shared.carried() else {
                    return ForwarderResponse::Refused { reason: "the applier has not said yet what to carry".into() };
                };
                if let Some(stranger) = upstreams.iter().find(|name| !carried.proxy.upstreams.contains_key(*name)) {
                    return ForwarderResponse::Refused { reason: format!("there is no upstream {stranger}") };
                }
                let names = if upstreams.is_empty() { carried.proxy.upstreams.keys().cloned().collect() } else { upstreams };
                ForwarderResponse::Probed { health: self.shared.rounds.ask(&names, PROBE) }
            }
        }
    }

    fn status(&self) -> ForwarderStatus {
        let carried = self.shared.carried();
        let counts = self.shared.flows.counts();
        let mut datagrams = Datagrams::default();
        lock(&self.shared.datagrams).iter().for_each(|handle| handle.counters.tell(&mut datagrams));
        let board = lock(&self.shared.board);
        let mut upstreams = if carried.is_some() { board.statuses() } else { BTreeMap::new() };
        for (name, status) in &mut upstreams {
            status.flows = counts.upstreams.get(name).copied().unwrap_or(0);
        }
        let mappings = carried.iter().flat_map(|carried| &carried.proxy.mappings).map(|(name, mapping)| {
            let tally = self.shared.flows.tally(name);
            let traffic = MappingTraffic {
                state: board.state(&mapping.via),
                flows: counts.mappings.get(name).copied().unwrap_or(0),
                up_bytes: tally.up.load(Relaxed),
                down_bytes: tally.down.load(Relaxed),
                connections: tally.connections.load(Relaxed),
                failed_connections: tally.failed.load(Relaxed),
            };
            (name.clone(), traffic)
        });
        ForwarderStatus {
            now: crate::flows::now(),
            started_at: self.shared.started_at,
            generation: carried.as_ref().map(|carried| carried.generation),
            mappings: mappings.collect(),
            upstreams,
            flows: self.shared.flows.count(),
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, |entries| (entries.count() as u64).saturating_sub(1)),
            descriptors_max: self.shared.descriptors_max,
            pipes: pipes::MADE.load(Relaxed),
            health_rounds: board.rounds(),
            refused_flows: self.shared.flows.refused(),
            protocols: counts.protocols,
            datagrams,
        }
    }
}
