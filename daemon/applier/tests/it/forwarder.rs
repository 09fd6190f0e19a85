//! A forwarder that carries nothing: it speaks the link's protocol and says what a test wants it to say.
//!
//! A stand-in, since what is tested here is what the applier does with a forwarder's words, its silence and its death, each at a moment
//! that the test chooses; the real one would say them when it sees fit. Its socket, its credentials and the sockets that it is
//! handed are real, and a client's connection ends in one of those.

use std::collections::BTreeMap;
use std::io::{IoSliceMut, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use policy::messages::forwarder::{FromForwarder, Health, HealthStatus, MappingState, SOCKETS, ToForwarder, WORKERS};
use policy::messages::{Inbox, encode};
use policy::name::Name;
use policy::plan::proxy::Proxy;

use crate::applier::Applier;

/// What it says when it is asked.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Whether it takes what it is told to become.
    pub becomes: bool,
    /// Where its upstreams come out; None: their probes fail.
    pub exit: Option<&'static str>,
}

pub const WELL: Manner = Manner { becomes: true, exit: Some("198.51.100.77") };

pub struct Forwarder {
    stream: UnixStream,
    manner: Arc<Mutex<Manner>>,
    /// Handed over; held as long as it lives.
    sockets: Vec<OwnedFd>,
    heard: Receiver<ToForwarder>,
    carried: Arc<Mutex<(u64, Proxy)>>,
}

impl Forwarder {
    pub fn connect(applier: &Applier, manner: Manner) -> Forwarder {
        let stream = UnixStream::connect(applier.folder.path().join("forwarder-link.sock")).expect("it listens");
        let mut inbox = Inbox::default();
        let sockets = first(&stream, &mut inbox);
        let manner = Arc::new(Mutex::new(manner));
        let carried = Arc::new(Mutex::new((0, Proxy::default())));
        let (tell, heard) = channel();
        let thread = (stream.try_clone().expect("a copy"), manner.clone(), carried.clone());
        std::thread::spawn(move || serve(thread.0, inbox, &thread.1, &thread.2, &tell));
        Forwarder { stream, manner, sockets, heard, carried }
    }

    pub fn changes(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// All of its mappings are up, or down.
    pub fn says_all(&mut self, up: bool) {
        let (generation, proxy) = self.carried.lock().unwrap().clone();
        let message = FromForwarder::Mappings { generation, states: states(&proxy, up) };
        self.stream.write_all(&encode(&message).unwrap()).unwrap();
    }

    pub fn says(&mut self, message: &FromForwarder) {
        self.stream.write_all(&encode(message).unwrap()).unwrap();
    }

    pub fn carries(&self) -> u64 {
        self.carried.lock().unwrap().0
    }

    pub fn hears(&self, wanted: impl Fn(&ToForwarder) -> bool) -> ToForwarder {
        loop {
            let message = self.heard.recv_timeout(Duration::from_secs(5)).expect("it says so in time");
            if wanted(&message) {
                return message;
            }
        }
    }

    /// The listener for redirected connections over IPv4 of a worker.
    pub fn listener(&self, worker: usize) -> TcpListener {
        assert_eq!(self.sockets.len(), WORKERS * SOCKETS.len());
        TcpListener::from(self.sockets[worker * SOCKETS.len()].try_clone().unwrap())
    }

    /// As the kernel ends its connections when a process is killed.
    pub fn dies(self) {
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
}

/// The first message and the sockets that come with it.
fn first(stream: &UnixStream, inbox: &mut Inbox) -> Vec<OwnedFd> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut bytes = [0; 1 << 16];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; WORKERS * SOCKETS.len()]);
    let (count, sockets) = {
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut pieces, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
        let mut sockets = vec![];
        for control in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                // SAFETY: the kernel made these descriptors for us alone.
                #[expect(unsafe_code, reason = "there is no other way to take a descriptor over")]
                sockets.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
        }
        (message.bytes, sockets)
    };
    inbox.push(&bytes[..count]);
    assert_eq!(inbox.take::<ToForwarder>().unwrap(), Some(ToForwarder::Sockets));
    stream.set_read_timeout(None).unwrap();
    sockets
}

fn serve(mut stream: UnixStream, mut inbox: Inbox, manner: &Mutex<Manner>, carried: &Mutex<(u64, Proxy)>, tell: &Sender<ToForwarder>) {
    let mut bytes = [0; 1 << 16];
    loop {
        while let Some(message) = inbox.take::<ToForwarder>().expect("the applier speaks properly") {
            let manner = manner.lock().unwrap().clone();
            if let ToForwarder::Become { generation, proxy, .. } = &message {
                *carried.lock().unwrap() = (*generation, proxy.clone());
            }
            let said = answers(&message, &manner, carried);
            tell.send(message).ok();
            for answer in said {
                if stream.write_all(&encode(&answer).unwrap()).is_err() {
                    return;
                }
            }
        }
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(count) => inbox.push(&bytes[..count]),
        }
    }
}

fn answers(message: &ToForwarder, manner: &Manner, carried: &Mutex<(u64, Proxy)>) -> Vec<FromForwarder> {
    let (now, _) = carried.lock().unwrap().clone();
    match message {
        ToForwarder::Become { generation, proxy, .. } if manner.becomes => {
            let states = states(proxy, manner.exit.is_some());
            vec![FromForwarder::Became { generation: *generation }, FromForwarder::Mappings { generation: *generation, states }]
        }
        ToForwarder::Probe { upstreams } => upstreams.iter().map(|upstream| health(now, upstream, manner)).collect(),
        ToForwarder::Sockets | ToForwarder::Become { .. } | ToForwarder::End { .. } => vec![],
    }
}

fn states(proxy: &Proxy, up: bool) -> BTreeMap<Name, MappingState> {
    let upstream = || proxy.upstreams.keys().next().expect("an upstream").clone();
    let state = || if up { MappingState::Up { upstream: upstream() } } else { MappingState::Down { why: "connection refused".into() } };
    proxy.mappings.keys().map(|name| (name.clone(), state())).collect()
}

fn health(generation: u64, upstream: &Name, manner: &Manner) -> FromForwarder {
    let status = if manner.exit.is_some() { HealthStatus::Healthy } else { HealthStatus::Failed };
    let why = manner.exit.is_none().then(|| "connection refused".to_owned());
    let exit = manner.exit.map(|exit| exit.parse().unwrap());
    let at = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let health = Health { at, status, latency_us: Some(100), exit, why };
    FromForwarder::Health { generation, upstream: upstream.clone(), health }
}
