//! The applier's link: what to carry comes in, what can be carried goes out.
//!
//! While there is no link, nobody renews what lets clients in. An applier that was restarted is back within a second, so flows stay
//! for [`ALONE`]; then all of them end, and nothing is carried until an applier says what.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use policy::messages::forwarder::{FromForwarder, MappingState, SOCKETS, ToForwarder, WORKERS};
use policy::messages::{Inbox, encode};
use policy::name::Name;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tracing::{info, warn};

use crate::config::Carried;
use crate::flows::lock;
use crate::shared::Shared;
use crate::sockets::Sockets;

pub struct Link {
    pub path: PathBuf,
    /// User ids whose socket is believed to be the applier's.
    pub appliers: Vec<u32>,
    pub shared: Arc<Shared>,
    /// Who works with the sockets that come.
    pub sockets: Box<dyn FnMut(Sockets) + Send>,
}

/// Without a link for so long, everything ends.
pub const ALONE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(100);
const USAGE: Duration = Duration::from_secs(1);
/// Of messages that the applier does not take.
const MOST_UNSENT: usize = 16 << 20;
/// Descriptors that one message brings at most; what is more ends the link.
const MOST_DESCRIPTORS: usize = 64;

/// One connection to the applier, and what it has been told.
struct Talk<'a> {
    stream: UnixStream,
    shared: &'a Shared,
    inbox: Inbox,
    outbox: Vec<u8>,
    sent: usize,
    descriptors: VecDeque<OwnedFd>,
    states: BTreeMap<Name, MappingState>,
    /// How many probes of each upstream had ended when it was told.
    told: BTreeMap<Name, u64>,
    usage: BTreeMap<Name, u64>,
    usage_due: Instant,
}

impl Link {
    pub fn run(&mut self) -> io::Result<()> {
        let mut alone_since = Some(Instant::now());
        let mut refused = String::new();
        loop {
            match self.connect() {
                Ok(stream) => {
                    info!("linked to the applier");
                    refused.clear();
                    let why = self.talk(stream);
                    warn!(why, "the link to the applier is lost");
                    alone_since = Some(Instant::now());
                }
                Err(why) if why != refused => {
                    info!(why, "no link to the applier");
                    refused = why;
                }
                Err(_) => {}
            }
            if alone_since.is_some_and(|since| since.elapsed() >= ALONE) {
                alone_since = None;
                let ended = self.shared.carry_nothing();
                warn!(ended, "no applier: nothing is carried");
            }
            // News is for an applier, and the next one is told everything; but who was knocked at opens.
            self.shared.news.take();
            std::thread::sleep(RETRY);
        }
    }

    fn connect(&self) -> Result<UnixStream, String> {
        let stream = UnixStream::connect(&self.path).map_err(|error| error.to_string())?;
        let peer = getsockopt(&stream, PeerCredentials).map_err(|error| error.to_string())?;
        if !self.appliers.contains(&peer.uid()) {
            return Err(format!("user {} serves its socket, who is not the applier", peer.uid()));
        }
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        Ok(stream)
    }

    /// Until the link is lost; says why.
    fn talk(&mut self, stream: UnixStream) -> String {
        let shared = self.shared.clone();
        let mut talk = Talk::new(stream, &shared);
        loop {
            if let Err(why) = talk.wait().and_then(|()| talk.say_news()).and_then(|()| talk.write()) {
                return why;
            }
            loop {
                match talk.inbox.take() {
                    Ok(None) => break,
                    Ok(Some(ToForwarder::Sockets)) => match Sockets::of(&mut talk.descriptors) {
                        Some(sockets) => (self.sockets)(sockets),
                        None => return format!("it did not send the {} sockets that it announced", WORKERS * SOCKETS.len()),
                    },
                    Ok(Some(said)) => {
                        if let Err(why) = talk.heard(said) {
                            return why;
                        }
                    }
                    Err(error) => return error.to_string(),
                }
            }
            if let Err(why) = talk.say_news().and_then(|()| talk.write()) {
                return why;
            }
        }
    }
}

impl<'a> Talk<'a> {
    fn new(stream: UnixStream, shared: &'a Shared) -> Talk<'a> {
        Talk {
            stream,
            shared,
            inbox: Inbox::default(),
            outbox: vec![],
            sent: 0,
            descriptors: VecDeque::new(),
            states: BTreeMap::new(),
            told: BTreeMap::new(),
            usage: BTreeMap::new(),
            usage_due: Instant::now() + USAGE,
        }
    }

    /// For something to read, room to write, news, or the time to tell usage.
    fn wait(&mut self) -> Result<(), String> {
        let mut flags = PollFlags::POLLIN;
        flags.set(PollFlags::POLLOUT, self.sent < self.outbox.len());
        let mut fds = [PollFd::new(self.stream.as_fd(), flags), PollFd::new(self.shared.news.as_fd(), PollFlags::POLLIN)];
        let wait = self.usage_due.saturating_duration_since(Instant::now()).as_millis() as u16;
        match poll(&mut fds, PollTimeout::from(wait.saturating_add(1))) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.to_string()),
        }
        let readable = fds[0].revents().is_some_and(|flags| flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR));
        if readable { self.read() } else { Ok(()) }
    }

    fn read(&mut self) -> Result<(), String> {
        let mut bytes = vec![0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let read = match recvmsg(&self.stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) if message.bytes == 0 => return Err("the applier closed it".into()),
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if self.descriptors.len() > MOST_DESCRIPTORS {
            return Err("it sent descriptors without end".into());
        }
        self.inbox.push(bytes.get(..read).unwrap_or_default());
        Ok(())
    }

    fn heard(&mut self, said: ToForwarder) -> Result<(), String> {
        match said {
            ToForwarder::Sockets => {}
            ToForwarder::Become { generation, proxy, secrets, own } => {
                info!(generation, mappings = proxy.mappings.len(), upstreams = proxy.upstreams.len(), "carrying");
                self.shared.become_(Carried::new(generation, proxy, secrets, own));
                self.say(&FromForwarder::Became { generation })?;
                // All of them are said anew.
                self.states.clear();
                self.told.clear();
                self.usage.clear();
            }
            ToForwarder::Probe { upstreams } => {
                self.shared.rounds.demand(&upstreams);
            }
            ToForwarder::End { mappings, why } => {
                let ended = self.shared.flows.close(|entry| mappings.contains(&entry.mapped.name));
                info!(ended, why, "flows end");
            }
        }
        Ok(())
    }

    /// What has changed since the applier was told.
    fn say_news(&mut self) -> Result<(), String> {
        self.shared.news.take();
        let Some(carried) = self.shared.carried() else { return Ok(()) };
        let generation = carried.generation;
        let (mut states, mut healths) = (BTreeMap::new(), vec![]);
        {
            let board = lock(&self.shared.board);
            for (name, mapping) in &carried.proxy.mappings {
                let state = board.state(&mapping.via);
                if self.states.get(name) != Some(&state) {
                    states.insert(name.clone(), state);
                }
            }
            for name in carried.proxy.upstreams.keys() {
                let Some(health) = board.health(name) else { continue };
                if self.told.get(name) != Some(&board.probes(name)) && board.probes(name) > 0 {
                    self.told.insert(name.clone(), board.probes(name));
                    healths.push((name.clone(), health.clone()));
                }
            }
        }
        // Deaths first.
        if !states.is_empty() {
            self.states.extend(states.clone());
            self.say(&FromForwarder::Mappings { generation, states })?;
        }
        for (upstream, health) in healths {
            self.say(&FromForwarder::Health { generation, upstream, health })?;
        }
        if Instant::now() >= self.usage_due {
            self.usage_due = Instant::now() + USAGE;
            let now = self.shared.flows.usage();
            let bytes: BTreeMap<_, _> = now.into_iter().filter(|(name, bytes)| self.usage.get(name).unwrap_or(&0) != bytes).collect();
            if !bytes.is_empty() {
                self.usage.extend(bytes.clone());
                self.say(&FromForwarder::Usage { bytes })?;
            }
        }
        Ok(())
    }

    fn say(&mut self, message: &FromForwarder) -> Result<(), String> {
        self.outbox.extend(encode(message).map_err(|error| error.to_string())?);
        if self.outbox.len() - self.sent > MOST_UNSENT {
            return Err("the applier does not listen".into());
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), String> {
        while self.sent < self.outbox.len() {
            match self.stream.write(&self.outbox[self.sent..]) {
                Ok(0) => return Err("the applier closed it".into()),
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        self.outbox.clear();
        self.sent = 0;
        Ok(())
    }
}
