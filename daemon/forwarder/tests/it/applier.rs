//! The test as the applier: it binds the sockets, hands them over, says what to carry and hears what can be.

use std::collections::BTreeMap;
use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::*;
use policy::messages::forwarder::*;
use policy::messages::{Inbox, encode};
use policy::name::Name;
use policy::plan::proxy::*;

pub struct Applier {
    listener: UnixListener,
    stream: Option<UnixStream>,
    sockets: Vec<OwnedFd>,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    said: Mutex<Vec<(Instant, FromForwarder)>>,
    news: Condvar,
}

impl Applier {
    pub fn new(run_dir: &Path) -> Applier {
        let sockets = (0..WORKERS).flat_map(|_| SOCKETS.map(bound)).collect();
        Applier { listener: UnixListener::bind(run_dir.join("forwarder-link.sock")).unwrap(), stream: None, sockets, heard: Arc::default() }
    }

    /// Waits for the forwarder and gives it its sockets.
    pub fn link(&mut self) {
        let (stream, _) = self.listener.accept().unwrap();
        let message = encode(&ToForwarder::Sockets).unwrap();
        let descriptors: Vec<_> = self.sockets.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&message)], &rights, MsgFlags::empty(), None).unwrap();
        assert_eq!(sent, message.len());
        let (mut hears, heard) = (stream.try_clone().unwrap(), self.heard.clone());
        thread::spawn(move || {
            let mut inbox = Inbox::default();
            let mut piece = [0; 64 << 10];
            while let Ok(read @ 1..) = hears.read(&mut piece) {
                inbox.push(&piece[..read]);
                while let Some(said) = inbox.take().unwrap() {
                    heard.said.lock().unwrap().push((Instant::now(), said));
                    heard.news.notify_all();
                }
            }
        });
        self.stream = Some(stream);
    }

    pub fn unlink(&mut self) {
        let stream = self.stream.take().unwrap();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    }

    pub fn say(&mut self, message: &ToForwarder) {
        self.stream.as_mut().unwrap().write_all(&encode(message).unwrap()).unwrap();
    }

    /// Says what to carry, and waits until it is.
    pub fn become_(&mut self, generation: u64, proxy: &Proxy, secrets: &[(&str, &str)]) {
        let secrets = secrets.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        self.say(&ToForwarder::Become { generation, proxy: proxy.clone(), secrets, own: vec![] });
        self.hears("that it has become it", |said| matches!(said, FromForwarder::Became { generation: it } if *it == generation));
    }

    /// When it was first heard.
    pub fn hears(&self, what: &str, is: impl Fn(&FromForwarder) -> bool) -> Instant {
        let said = self.heard.said.lock().unwrap();
        let waiting = |said: &mut Vec<(Instant, FromForwarder)>| !said.iter().any(|(_, said)| is(said));
        let (said, _) = self.heard.news.wait_timeout_while(said, Duration::from_secs(15), waiting).unwrap();
        said.iter().find(|(_, said)| is(said)).unwrap_or_else(|| panic!("never heard {what}, but {said:#?}")).0
    }

    pub fn forget(&self) {
        self.heard.said.lock().unwrap().clear();
    }

    pub fn hears_up(&self, mapping: &str) -> Instant {
        self.hears(&format!("{mapping} up"), |said| matches!(said_of(said, mapping), Some(MappingState::Up { .. })))
    }

    pub fn hears_down(&self, mapping: &str) -> (Instant, String) {
        let at = self.hears(&format!("{mapping} down"), |said| matches!(said_of(said, mapping), Some(MappingState::Down { .. })));
        let said = self.heard.said.lock().unwrap();
        let why = said.iter().find_map(|(_, said)| match said_of(said, mapping) {
            Some(MappingState::Down { why }) => Some(why.clone()),
            _ => None,
        });
        (at, why.unwrap())
    }

    /// Down with a reason that has this word.
    pub fn hears_down_for(&self, mapping: &str, word: &str) {
        let so = |said: &FromForwarder| matches!(said_of(said, mapping), Some(MappingState::Down { why }) if why.contains(word));
        self.hears(&format!("{mapping} down for {word}"), so);
    }

    pub fn usage(&self, mapping: &str) -> u64 {
        let said = self.heard.said.lock().unwrap();
        let usage = said.iter().rev().find_map(|(_, said)| match said {
            FromForwarder::Usage { bytes } => bytes.get(&name(mapping)).copied(),
            _ => None,
        });
        usage.unwrap_or(0)
    }
}

fn said_of<'a>(said: &'a FromForwarder, mapping: &str) -> Option<&'a MappingState> {
    match said {
        FromForwarder::Mappings { states, .. } => states.get(&name(mapping)),
        _ => None,
    }
}

fn bound(kind: SocketKind) -> OwnedFd {
    use SocketKind::*;
    let (v4, listens, port) = match kind {
        Redirected4 => (true, true, REDIRECTED_PORT),
        Redirected6 => (false, true, REDIRECTED_PORT),
        Transparent4 => (true, true, TRANSPARENT_PORT),
        Transparent6 => (false, true, TRANSPARENT_PORT),
        Datagrams4 | Answers4 => (true, false, 0),
        Datagrams6 | Answers6 => (false, false, 0),
    };
    let family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let sort = if listens { SockType::Stream } else { SockType::Datagram };
    let fd = socket(family, sort, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
    setsockopt(&fd, sockopt::ReusePort, &true).unwrap();
    let address: SocketAddr = match v4 {
        true => (Ipv4Addr::UNSPECIFIED, port).into(),
        false => {
            setsockopt(&fd, sockopt::Ipv6V6Only, &true).unwrap();
            (Ipv6Addr::UNSPECIFIED, port).into()
        }
    };
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    if listens {
        listen(&fd, Backlog::new(1024).unwrap()).unwrap();
    }
    fd
}

pub fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

pub fn upstream(kind: UpstreamKind, port: u16) -> Upstream {
    Upstream {
        kind,
        address: "127.0.0.1".parse().unwrap(),
        port,
        username: None,
        password: None,
        server_name: None,
        authority: None,
        udp: false,
        probe: format!("http://{}:{}/", super::room::SERVER4, super::room::PROBE),
        expect_exit: vec![],
    }
}

/// Mapping 7, `desk`: everybody here, by `via`.
pub fn proxy(upstreams: &[(&str, Upstream)], via: Via) -> Proxy {
    let mapping = Mapping {
        id: 7,
        enabled: true,
        clients: ["127.0.0.0/8", "::1/128", "fd00::/64"].map(|text| text.parse().unwrap()).into(),
        macs: [].into(),
        interfaces: [].into(),
        via,
        tcp: TcpCapture::Redirect,
        udp: false,
        dns: Dns::Drop,
        quota: Quota::default(),
        schedule: None,
    };
    Proxy {
        upstreams: upstreams.iter().map(|(text, upstream)| (name(text), upstream.clone())).collect(),
        groups: BTreeMap::new(),
        mappings: [(name("desk"), mapping)].into(),
    }
}

pub fn single(kind: UpstreamKind, port: u16) -> Proxy {
    proxy(&[("one", upstream(kind, port))], Via::Upstream(name("one")))
}
