//! The whole way of a mapped client's packets, with real packets: a client, the box with the forwarder's sockets, and the Internet
//! behind it. What is not let in arrives nowhere, and nothing of a mapped client is ever forwarded.

mod rules;
mod wire;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use kernel::nft::NewElement;
use kernel::{Nft, conntrack, sockets};
use nix::sys::socket::{MsgFlags, SockaddrIn, SockaddrIn6, sendto};
use policy::compile::proxy::{MAPPING, MAPPING_SHIFT, PERMITS};
use policy::messages::forwarder::{SOCKETS, SocketKind};
use policy::ruleset::*;

use self::rules::{route_rules, ruleset};
use self::wire::{datagram_packet, seen, take_datagram};
use crate::far::Far;
use crate::space::{alone, nft_load, run};

/// Long enough for anything on a busy machine: it must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// For what must not come.
const SILENCE: Duration = Duration::from_millis(300);

const BY_REDIRECT: u16 = 0x0102;
const BY_TPROXY: u16 = 0xfe03;
const BY_MAC: u16 = 0x0004;
const MAPPED_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x77];

struct Story {
    client: Far,
    internet: Far,
    nft: Nft,
    made: Vec<(SocketKind, OwnedFd)>,
}

/// What the forwarder sees of one connection.
struct Accepted {
    stream: TcpStream,
    client: SocketAddr,
    destination: SocketAddr,
    mark: u32,
}

impl Story {
    fn open() -> Story {
        for (key, value) in [
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv4/tcp_fwmark_accept", "1"),
            ("net/ipv4/conf/all/rp_filter", "1"),
            ("net/ipv4/conf/all/src_valid_mark", "1"),
            ("net/ipv4/conf/default/rp_filter", "1"),
        ] {
            std::fs::write(format!("/proc/sys/{key}"), value).unwrap_or_else(|error| panic!("{key}: {error}"));
        }
        let client = Far::plug("lan0", "02:00:00:00:00:77");
        let internet = Far::plug("wan0", "02:00:00:00:00:99");
        for (port, addresses) in [("lan0", ["192.168.2.1/24", "fd00:2::1/64"]), ("wan0", ["203.0.113.2/24", "2001:db8::2/64"])] {
            addresses.iter().for_each(|address| drop_text(run("ip", &["addr", "add", address, "dev", port])));
        }
        for address in ["192.168.2.10/24", "192.168.2.11/24", "192.168.2.12/24", "192.168.2.99/24", "fd00:2::10/64", "fd00:2::11/64"] {
            client.ip(&["addr", "add", address, "dev", "eth0"]);
        }
        client.ip(&["route", "add", "default", "via", "192.168.2.1"]);
        client.ip(&["-6", "route", "add", "default", "via", "fd00:2::1"]);
        for address in ["203.0.113.9/24", "2001:db8::9/64"] {
            internet.ip(&["addr", "add", address, "dev", "eth0"]);
        }
        internet.ip(&["route", "add", "default", "via", "203.0.113.2"]);
        internet.ip(&["-6", "route", "add", "default", "via", "2001:db8::2"]);

        kernel::rules::reconcile(&route_rules()).unwrap();
        let mut nft = Nft::open().unwrap();
        nft.apply(&ruleset()).unwrap();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        // Sees what leaves to the Internet, behind everything of ours.
        nft_load(
            "table inet witness {
                chain c {
                    type filter hook postrouting priority 500;
                    oifname wan0 ip saddr 192.168.2.0/24 ip saddr != 192.168.2.99 counter comment \"leaked\"
                    oifname wan0 ip6 saddr fd00:2::/64 counter comment \"leaked\"
                }
            }",
        )
        .unwrap();
        let made = sockets::for_the_forwarder().unwrap();
        let kinds = SOCKETS.into_iter().cycle();
        Story { client, internet, nft, made: kinds.zip(made).collect() }
    }

    fn permit(&mut self, id: u16) {
        let element = NewElement { key: key(id), to: None, timeout: Some(Duration::from_secs(90)) };
        self.nft.renew_elements("portcullis", PERMITS, &[element]).unwrap();
    }

    fn forbid(&mut self, id: u16) {
        self.nft.delete_elements("portcullis", PERMITS, &[key(id)]).unwrap();
    }

    /// The client's address decides whose it is.
    fn client_is(&self, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        let (family, gateway) = if address.is_ipv4() { ("-4", "192.168.2.1") } else { ("-6", "fd00:2::1") };
        self.client.ip(&[family, "route", "replace", "default", "via", gateway, "dev", "eth0", "src", &address.to_string()]);
    }

    fn sockets_of(&self, kinds: [SocketKind; 2]) -> impl Iterator<Item = (SocketKind, &OwnedFd)> {
        self.made.iter().filter(move |(kind, _)| kinds.contains(kind)).map(|(kind, socket)| (*kind, socket))
    }

    fn accept(&self, patience: Duration) -> Option<(SocketKind, Accepted)> {
        use SocketKind::{Redirected4, Redirected6, Transparent4, Transparent6};
        let end = Instant::now() + patience;
        loop {
            for kinds in [[Redirected4, Redirected6], [Transparent4, Transparent6]] {
                for (kind, socket) in self.sockets_of(kinds) {
                    let listener = TcpListener::from(socket.try_clone().unwrap());
                    if let Ok((stream, client)) = listener.accept() {
                        return Some((kind, seen(kind, stream, client)));
                    }
                }
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A datagram with the place it was sent to, where it came from, and its mark.
    fn datagram(&self, patience: Duration) -> Option<(Vec<u8>, SocketAddr, SocketAddr, u32)> {
        let end = Instant::now() + patience;
        loop {
            for (_, socket) in self.sockets_of([SocketKind::Datagrams4, SocketKind::Datagrams6]) {
                if let Some(found) = take_datagram(socket) {
                    return Some(found);
                }
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// An answer of which the client believes that it came from where it had asked.
    fn answer(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> nix::Result<usize> {
        let packet = datagram_packet(from, to, payload);
        let kind = if to.is_ipv4() { SocketKind::Answers4 } else { SocketKind::Answers6 };
        let (_, socket) = self.sockets_of([kind, kind]).next().unwrap();
        // The port must be zero for a raw IPv6 socket: the kernel takes it for a protocol.
        match to {
            SocketAddr::V4(to) => sendto(socket.as_raw_fd(), &packet, &SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0)), MsgFlags::empty()),
            SocketAddr::V6(to) => {
                sendto(socket.as_raw_fd(), &packet, &SockaddrIn6::from(SocketAddrV6::new(*to.ip(), 0, 0, 0)), MsgFlags::empty())
            }
        }
    }

    fn nothing_leaked(&self) {
        let listed = run("nft", &["list", "table", "inet", "witness"]);
        assert_eq!(listed.matches("packets 0 bytes 0 comment \"leaked\"").count(), 2, "{listed}");
    }
}

#[test]
fn what_a_permitted_client_sends_arrives_at_the_forwarder_with_its_mapping_and_destination() {
    alone(|| {
        let mut story = Story::open();
        use SocketKind::{Redirected4, Redirected6, Transparent4, Transparent6};
        for (from, to, id, expected) in [
            ("192.168.2.10", "203.0.113.9:80", BY_REDIRECT, Redirected4),
            ("fd00:2::10", "[2001:db8::9]:80", BY_REDIRECT, Redirected6),
            ("192.168.2.11", "203.0.113.9:443", BY_TPROXY, Transparent4),
            ("fd00:2::11", "[2001:db8::9]:443", BY_TPROXY, Transparent6),
            // Nobody there, and nobody asks.
            ("192.168.2.11", "198.51.100.1:22", BY_TPROXY, Transparent4),
            // By its hardware address, whatever address it uses.
            ("192.168.2.12", "203.0.113.9:80", BY_MAC, Redirected4),
        ] {
            story.permit(id);
            story.client_is(from);
            let to: SocketAddr = to.parse().unwrap();
            let mut client = story.client.connect(to, PATIENCE).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
            let (kind, mut accepted) = story.accept(PATIENCE).unwrap();
            assert_eq!((kind, accepted.destination, accepted.client.ip()), (expected, to, from.parse().unwrap()), "{from} to {to}");
            assert_eq!((accepted.mark & MAPPING) >> MAPPING_SHIFT, u32::from(id), "{from} to {to}: mark {:#x}", accepted.mark);

            client.write_all(b"question").unwrap();
            let mut heard = [0; 8];
            accepted.stream.set_nonblocking(false).unwrap();
            accepted.stream.read_exact(&mut heard).unwrap();
            accepted.stream.write_all(&heard).unwrap();
            client.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"question");

            // The permit goes: the established connection hears nothing more, and no new one begins.
            story.forbid(id);
            client.write_all(b"unheard").unwrap();
            accepted.stream.set_read_timeout(Some(SILENCE)).unwrap();
            assert!(accepted.stream.read(&mut heard).is_err(), "{from} to {to}: heard without a permit");
            assert!(story.client.connect(to, SILENCE).is_err(), "{from} to {to}: connected without a permit");
            assert!(story.accept(Duration::ZERO).is_none());
            let mark = u32::from(id) << MAPPING_SHIFT;
            assert!(!conntrack::list_marked(mark, MAPPING).unwrap().is_empty(), "{from} to {to}: its connections are not found");
            conntrack::flush_marked(mark, MAPPING).unwrap();
            assert_eq!(conntrack::list_marked(mark, MAPPING).unwrap(), []);
            story.nothing_leaked();
        }
    });
}

#[test]
fn datagrams_of_a_permitted_client_arrive_and_are_answered_from_where_it_had_asked() {
    alone(|| {
        let mut story = Story::open();
        for (from, to) in [("192.168.2.11", "203.0.113.9:53"), ("fd00:2::11", "[2001:db8::9]:53")] {
            story.client_is(from);
            let to: SocketAddr = to.parse().unwrap();
            let client = story.client.within(|| UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })).unwrap();
            client.connect(to).unwrap();
            client.set_read_timeout(Some(SILENCE)).unwrap();

            client.send(b"unheard").unwrap();
            assert!(story.datagram(SILENCE).is_none(), "{from}: arrived without a permit");
            story.nothing_leaked();
            // An answer to a connection that nobody had is no answer.
            let stranger = SocketAddr::new(from.parse().unwrap(), 40_000);
            let _ = story.answer(to, stranger, b"unasked");
            let unasked = "proxy/unasked";
            assert!(counted(&mut story, unasked) > 0, "{from}: an answer without a question went out");

            story.permit(BY_TPROXY);
            client.send(b"question").unwrap();
            let (payload, source, destination, mark) = story.datagram(PATIENCE).unwrap_or_else(|| panic!("{from}: nothing arrived"));
            assert_eq!((payload.as_slice(), destination, source.ip()), (&b"question"[..], to, from.parse().unwrap()));
            assert_eq!((mark & MAPPING) >> MAPPING_SHIFT, u32::from(BY_TPROXY), "{mark:#x}");
            story.answer(to, source, b"answer").unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut heard = [0; 16];
            assert_eq!(client.recv(&mut heard).unwrap(), 6, "{from}");
            story.forbid(BY_TPROXY);
            story.nothing_leaked();
        }
    });
}

#[test]
fn without_the_forwarders_sockets_a_captured_packet_goes_nowhere() {
    alone(|| {
        let mut story = Story::open();
        story.made.clear();
        [BY_REDIRECT, BY_TPROXY].into_iter().for_each(|id| story.permit(id));
        for (from, to) in [
            ("192.168.2.10", "203.0.113.9:80"),
            ("fd00:2::10", "[2001:db8::9]:80"),
            ("192.168.2.11", "203.0.113.9:80"),
            ("fd00:2::11", "[2001:db8::9]:80"),
        ] {
            story.client_is(from);
            let to = to.parse().unwrap();
            assert!(story.client.connect(to, SILENCE).is_err(), "{from} connected to nobody");
            story.client.within(|| {
                let client = UdpSocket::bind(if from.contains(':') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
                let _ = client.send_to(b"unheard", to);
            });
        }
        assert!(counted(&mut story, "proxy/other") > 0, "nothing fell through to the drop behind tproxy");
        story.nothing_leaked();
    });
}

/// The other layers, each alone: without our table the routing rule holds, and without the rules our table does.
#[test]
fn each_guard_alone_keeps_a_mapped_client_from_being_forwarded() {
    alone(|| {
        let mut story = Story::open();
        let to: SocketAddr = "203.0.113.9:7".parse().unwrap();
        let internet = story.internet.within(|| UdpSocket::bind(to)).unwrap();
        let mut heard = [0; 8];
        let mut send = |story: &Story, from: &str, patience: Duration| {
            story.client_is(from);
            story.client.within(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", to)).unwrap();
            internet.set_read_timeout(Some(patience)).unwrap();
            internet.recv(&mut heard).is_ok()
        };
        assert!(send(&story, "192.168.2.99", PATIENCE), "a client that is not mapped is forwarded");
        assert!(!send(&story, "192.168.2.10", SILENCE));

        // Marked as its mapping's and let on by everything else: the guarding rule, then the forward chain alone.
        let mut careless = ruleset();
        let chains = &mut careless.tables[0].chains;
        chains.get_mut("proxy").unwrap().rules.truncate(3);
        let forward = std::mem::take(&mut chains.get_mut("forward").unwrap().rules);
        story.nft.apply(&careless).unwrap();
        assert!(!send(&story, "192.168.2.10", SILENCE), "forwarded past the routing rule");
        careless.tables[0].chains.get_mut("forward").unwrap().rules = forward;
        story.nft.apply(&careless).unwrap();
        kernel::rules::reconcile(&BTreeSet::new()).unwrap();
        assert!(!send(&story, "192.168.2.10", SILENCE), "forwarded past the forward chain");
        assert!(counted(&mut story, "proxy/forward") > 0);
        story.nothing_leaked();
    });
}

fn counted(story: &mut Story, comment: &str) -> u64 {
    let text = story.nft.text(&["portcullis"]).unwrap();
    let line = text.lines().find(|line| line.contains(comment)).unwrap_or_else(|| panic!("no {comment} in {text}"));
    let number = line.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    number.parse().unwrap()
}

fn key(id: u16) -> Vec<Span> {
    vec![Span::One(Datum::Word(u32::from(id) << MAPPING_SHIFT))]
}

fn drop_text(_: String) {}

/// The same way through everything that the compiler writes of a policy.
#[test]
fn the_compiled_plan_lets_a_permitted_client_in_and_nobody_else() {
    const MAPPINGS: &str = r#"
apiVersion: portcullis/v1
kind: Upstream
metadata: { name: berlin }
spec: { type: socks5, address: 198.51.100.7, port: 1080 }
---
apiVersion: portcullis/v1
kind: ProxyMapping
metadata: { name: desk }
spec: { clients: [192.168.2.10, "fd00:2::10"], upstream: berlin }
---
apiVersion: portcullis/v1
kind: ProxyMapping
metadata: { name: phone }
spec: { clients: [192.168.2.11, "fd00:2::11"], upstream: berlin, tcp: tproxy, dns: proxied }
"#;
    let base = include_str!("../../../policy/cases/base.yaml");
    let sources = policy::Sources([("base.yaml", base), ("mappings.yaml", MAPPINGS)].map(|(name, text)| (name.into(), text.into())).into());
    let plan = policy::compile(&policy::load(&sources).unwrap_or_else(|problems| panic!("{problems:?}")));
    alone(move || {
        let mut story = Story::open();
        let _guest = Far::plug("guest0", "02:00:00:00:00:33");
        kernel::links::reconcile(&plan.links).unwrap();
        kernel::rules::reconcile(&plan.route_rules).unwrap();
        story.nft.apply(&plan.ruleset).unwrap();
        kernel::sysctl::write(&plan.sysctls).unwrap();
        assert_eq!(
            (story.nft.differences(&plan.ruleset).unwrap(), kernel::rules::differences(&plan.route_rules).unwrap()),
            (vec![], vec![])
        );
        let id = |name: &str| plan.proxy.mappings.iter().find(|(found, _)| found.as_str() == name).unwrap().1.id;
        for (from, to, id) in [
            ("192.168.2.10", "203.0.113.9:80", id("desk")),
            ("fd00:2::10", "[2001:db8::9]:80", id("desk")),
            ("192.168.2.11", "203.0.113.9:80", id("phone")),
            ("fd00:2::11", "[2001:db8::9]:80", id("phone")),
        ] {
            story.client_is(from);
            let to: SocketAddr = to.parse().unwrap();
            assert!(story.client.connect(to, SILENCE).is_err(), "{from} connected without a permit");
            story.permit(id);
            let mut client = story.client.connect(to, PATIENCE).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
            let (_, mut accepted) = story.accept(PATIENCE).unwrap();
            assert_eq!((accepted.destination, (accepted.mark & MAPPING) >> MAPPING_SHIFT), (to, u32::from(id)), "{from}");
            accepted.stream.write_all(b"answer").unwrap();
            client.read_exact(&mut [0; 6]).unwrap();
            story.forbid(id);
            story.nothing_leaked();
        }
        story.permit(id("phone"));
        for (from, to) in [("192.168.2.11", "203.0.113.9:53"), ("fd00:2::11", "[2001:db8::9]:53")] {
            story.client_is(from);
            let to: SocketAddr = to.parse().unwrap();
            let client = story.client.within(|| UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })).unwrap();
            client.connect(to).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.send(b"question").unwrap();
            let (_, source, destination, _) = story.datagram(PATIENCE).unwrap_or_else(|| panic!("{from}: nothing arrived"));
            assert_eq!(destination, to);
            story.answer(to, source, b"answer").unwrap();
            assert_eq!(client.recv(&mut [0; 16]).unwrap(), 6, "{from}");
        }
        story.nothing_leaked();
    });
}
