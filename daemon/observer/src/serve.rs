//! `observer.sock`: events and alerts, for those who may know. A thread for each of a few connections; none holds up the keeper.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use policy::messages::observer::{ObserverRequest, ObserverResponse, ObserverStatus};
use policy::messages::{Inbox, encode};
use tracing::{debug, warn};

use crate::eve;
use crate::keeper::Shared;
use crate::queue::Queue;
use crate::sources::{Gauge, stream};
use crate::store::{Shelf, Troubles, query};

/// Everything that an answer is made of.
pub struct Serve {
    pub queue: Arc<Queue>,
    pub shelf: Arc<Shelf>,
    pub troubles: Arc<Troubles>,
    pub shared: Arc<Shared>,
    pub gauges: Vec<Arc<Gauge>>,
    /// Bytes that the stored events may take.
    pub bytes_max: u64,
    /// User ids.
    pub allowed: Vec<u32>,
    pub open: AtomicUsize,
}

const MOST_PEERS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);
/// Of a request; they are small.
const MOST_ASKED: usize = 256 << 10;
const STILL_HERE: Duration = Duration::from_secs(15);
const MOST_ALERTS: u32 = 1_000;

impl Serve {
    pub fn start(self: Arc<Serve>, path: &Path) -> io::Result<()> {
        let listener = stream::listen(path)?;
        thread::Builder::new().name("serve".into()).spawn(move || self.run(&listener))?;
        Ok(())
    }

    fn run(self: &Arc<Serve>, listener: &UnixListener) {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            match getsockopt(&stream, PeerCredentials) {
                Ok(peer) if self.allowed.contains(&peer.uid()) => {}
                Ok(peer) => {
                    warn!(uid = peer.uid(), pid = peer.pid(), "a user who may not ask the observer tried to");
                    continue;
                }
                Err(_) => continue,
            }
            if self.open.fetch_add(1, Relaxed) >= MOST_PEERS {
                self.open.fetch_sub(1, Relaxed);
                warn!("every connection is in use");
                continue;
            }
            let serve = self.clone();
            let begun = thread::Builder::new().name("answer".into()).spawn(move || {
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
            match inbox.take().map_err(io::Error::other)? {
                Some(ObserverRequest::Follow) => return self.follow(stream),
                Some(request) => {
                    send(&mut stream, &self.answer(request))?;
                    continue;
                }
                None => {}
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

    /// Until the other end goes, or is too far behind.
    fn follow(&self, mut stream: UnixStream) -> io::Result<()> {
        let raised = self.shared.follow();
        send(&mut stream, &ObserverResponse::StillHere)?;
        loop {
            match raised.recv_timeout(STILL_HERE) {
                Ok(alert) => send(&mut stream, &ObserverResponse::Raised { alert: Box::new(alert) })?,
                Err(RecvTimeoutError::Timeout) => send(&mut stream, &ObserverResponse::StillHere)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn answer(&self, request: ObserverRequest) -> ObserverResponse {
        self.try_answer(request).unwrap_or_else(|error| ObserverResponse::Refused { reason: error.to_string() })
    }

    fn try_answer(&self, request: ObserverRequest) -> Result<ObserverResponse, Box<dyn std::error::Error>> {
        Ok(match request {
            ObserverRequest::Status => ObserverResponse::Status(self.status()?),
            ObserverRequest::Events { filter, before, limit } => {
                let page = query::page(&self.shelf, &self.troubles, &filter, before, limit);
                ObserverResponse::Events { events: page.events, more: page.more, resume: page.resume }
            }
            ObserverRequest::Event { id } => match query::one(&self.shelf, id)? {
                Some((event, raw)) => ObserverResponse::Event { event: Box::new(event), raw },
                None => refused(format!("event {id} is not kept, or not any longer")),
            },
            ObserverRequest::Trend { from, until, .. } if until <= from => {
                refused("the end of a trend comes after its beginning".to_owned())
            }
            ObserverRequest::Trend { from, until, buckets } => {
                let time = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
                ObserverResponse::Trend { buckets: query::trend(&self.shelf, &self.troubles, time(from), time(until), buckets) }
            }
            ObserverRequest::Alerts { filter, before, limit } => {
                let alerts = self.shared.alerts();
                let open = alerts.open_count()?;
                let (alerts, more) = alerts.list(&filter, before, limit.clamp(1, MOST_ALERTS))?;
                ObserverResponse::Alerts { alerts, more, open }
            }
            ObserverRequest::Alert { id } => match self.shared.alerts().one(id)? {
                Some(alert) => ObserverResponse::Alert { alert: Box::new(alert) },
                None => refused(format!("there is no alert {id}")),
            },
            ObserverRequest::Acknowledge { ids, by } => {
                ObserverResponse::Done { changed: self.shared.alerts().acknowledge(&ids, &by, eve::now())? }
            }
            ObserverRequest::Suppress { suppression } if suppression.until <= eve::now() => {
                refused("a suppression ends in the future".to_owned())
            }
            ObserverRequest::Suppress { suppression } => {
                self.shared.alerts().suppress(&suppression, eve::now())?;
                ObserverResponse::Done { changed: 1 }
            }
            ObserverRequest::Unsuppress { id } => ObserverResponse::Done { changed: self.shared.alerts().unsuppress(id)? },
            ObserverRequest::Suppressions => ObserverResponse::Suppressions { suppressions: self.shared.alerts().suppressions().to_vec() },
            ObserverRequest::Follow => refused("a connection that follows asks nothing else".to_owned()),
        })
    }

    fn status(&self) -> rusqlite::Result<ObserverStatus> {
        let alerts = self.shared.alerts();
        Ok(ObserverStatus {
            sources: self.gauges.iter().map(|gauge| gauge.status()).collect(),
            stored: self.shared.stored.load(Relaxed),
            dropped: self.queue.dropped() + self.shared.lost.load(Relaxed),
            garbled: self.gauges.iter().map(|gauge| gauge.garbled()).sum(),
            lag_us: self.shared.lag_us.load(Relaxed),
            alerts_open: alerts.open_count()?,
            partitions: self.shelf.count(),
            bytes: self.shelf.bytes(),
            bytes_max: self.bytes_max,
            oldest: self.shelf.oldest().map(|oldest| oldest.first),
            troubles: alerts.trouble.iter().cloned().chain(self.troubles.all()).collect(),
        })
    }
}

fn refused(reason: String) -> ObserverResponse {
    ObserverResponse::Refused { reason }
}

fn send(stream: &mut UnixStream, response: &ObserverResponse) -> io::Result<()> {
    stream.write_all(&encode(response).map_err(io::Error::other)?)
}
