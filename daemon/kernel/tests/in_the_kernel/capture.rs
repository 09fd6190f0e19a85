//! The whole way of a mapped client's packets, with real packets: a client, the box with the forwarder's sockets, and the Internet
//! behind it. What is not let in arrives nowhere, and nothing of a mapped client is ever forwarded.

use std::collections::BTreeSet;
use std::io::{IoSliceMut, Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use kernel::nft::NewElement;
use kernel::{Nft, conntrack, rules, sockets};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, getsockopt, recvmsg, sendto, sockopt};
use policy::compile::proxy::{ANSWER, CAPTURED, MAPPING, MAPPING_SHIFT, PERMITS, REDIRECTED};
use policy::messages::forwarder::{DATAGRAMS_PORT, REDIRECTED_PORT, SOCKETS, SocketKind, TRANSPARENT_PORT};
use policy::plan::{RouteAction, RouteRule, RouteSelector};
use policy::ruleset::*;

use crate::build::*;
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

        rules::reconcile(&route_rules()).unwrap();
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
        rules::reconcile(&BTreeSet::new()).unwrap();
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

fn seen(kind: SocketKind, stream: TcpStream, client: SocketAddr) -> Accepted {
    let destination = match kind {
        SocketKind::Redirected4 => {
            let address = getsockopt(&stream, sockopt::OriginalDst).unwrap();
            SocketAddr::new(u32::from_be(address.sin_addr.s_addr).to_be_bytes().into(), u16::from_be(address.sin_port))
        }
        SocketKind::Redirected6 => {
            let address = getsockopt(&stream, sockopt::Ip6tOriginalDst).unwrap();
            SocketAddr::new(address.sin6_addr.s6_addr.into(), u16::from_be(address.sin6_port))
        }
        _ => stream.local_addr().unwrap(),
    };
    let mark = getsockopt(&stream, sockopt::Mark).unwrap();
    Accepted { stream, client, destination, mark }
}

fn take_datagram(socket: &OwnedFd) -> Option<(Vec<u8>, SocketAddr, SocketAddr, u32)> {
    let mut bytes = [0; 2048];
    let mut space = cmsg_space!([u8; 256]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT).ok()?;
    let source = message.address.as_ref().unwrap();
    let source = match (source.as_sockaddr_in(), source.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::new(v4.ip().into(), v4.port()),
        (_, Some(v6)) => SocketAddr::new(v6.ip().into(), v6.port()),
        _ => panic!("from nowhere"),
    };
    let (mut destination, mut mark) = (None, None);
    for control in message.cmsgs().unwrap() {
        match control {
            ControlMessageOwned::Ipv4OrigDstAddr(to) => {
                destination = Some(SocketAddr::new(to.sin_addr.s_addr.to_ne_bytes().into(), u16::from_be(to.sin_port)));
            }
            ControlMessageOwned::Ipv6OrigDstAddr(to) => {
                destination = Some(SocketAddr::new(to.sin6_addr.s6_addr.into(), u16::from_be(to.sin6_port)));
            }
            ControlMessageOwned::Unknown(other) if other.cmsg_header.cmsg_type == nix::libc::SO_MARK => {
                mark = other.data_bytes.get(..4).map(|bytes| u32::from_ne_bytes(bytes.try_into().unwrap()));
            }
            _ => {}
        }
    }
    let count = message.bytes;
    Some((bytes[..count].to_vec(), source, destination.expect("an original destination"), mark.expect("a mark")))
}

/// IP and UDP headers (RFC 791, RFC 8200, RFC 768). The kernel fills in IPv4's length and checksum.
fn datagram_packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut udp = Vec::new();
    for number in [from.port(), to.port(), length, 0] {
        udp.extend_from_slice(&number.to_be_bytes());
    }
    udp.extend_from_slice(payload);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
            packet.extend_from_slice(&from.octets());
            packet.extend_from_slice(&to.octets());
            [packet, udp].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            let sum = checksum(&[&addresses[..], &[0, 0], &length.to_be_bytes(), &[0, 0, 0, 17], &udp[..]].concat());
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
            let [high, low] = length.to_be_bytes();
            [&[0x60, 0, 0, 0, high, low, 17, 64], &addresses[..], &udp[..]].concat()
        }
        _ => panic!("of two families"),
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if sum == 0xffff { 0xffff } else { !sum as u16 }
}

fn route_rules() -> BTreeSet<RouteRule> {
    let rule = |preference, selector, action| RouteRule { preference, selector, action };
    BTreeSet::from([
        rule(50, RouteSelector::FromBox, RouteAction::Main),
        rule(60, RouteSelector::Mark { mask: CAPTURED, value: CAPTURED }, RouteAction::Deliver),
        rule(100, RouteSelector::WithoutMark { mask: 1, value: 1 }, RouteAction::Unreachable),
    ])
}

/// What the compiler writes for mapped clients, and of the rest only what it stands on.
fn ruleset() -> Ruleset {
    let rule = |parts: &[Part]| Rule::of(parts.to_vec());
    let mark = |id: u16| u32::from(id) << MAPPING_SHIFT;
    let among = |set: &str, negate| Part::InSet { fields: vec![Field::Mark], negate, set: set.into() };
    let bits = |field, mask, op| Part::Masked { field, mask, op, value: 0 };
    let set_bits = |bits| Part::SetMark { mask: bits, value: bits };
    let to_here = |kind| rule(&[is(Field::FibDaddrType, Datum::Byte(kind)), accept()]);
    let let_in = Chain { base: base(ChainKind::Filter, Hook::Prerouting, -150, BasePolicy::Accept), rules: vec![rule(&[set_bits(1)])] };
    let proxy = Chain {
        base: base(ChainKind::Filter, Hook::Prerouting, -140, BasePolicy::Accept),
        rules: vec![
            rule(&[ipv4(), Part::MarkFromMap { fields: vec![Field::Ip4Saddr], map: "proxy_clients4".into() }]),
            rule(&[ipv6(), Part::MarkFromMap { fields: vec![Field::Ip6Saddr], map: "proxy_clients6".into() }]),
            // The same machine plays all clients: only one of its addresses is looked up by hardware.
            rule(&[
                ipv4(),
                is(Field::Ip4Saddr, v4("192.168.2.12")),
                Part::MarkFromMap { fields: vec![Field::EtherSaddr], map: "proxy_macs".into() },
            ]),
            rule(&[bits(Field::Mark, MAPPING, Op::Eq), accept()]),
            rule(&[Part::CtMarkFromMark { mask: MAPPING }]),
            to_here(2),
            to_here(3),
            to_here(5),
            rule(&[among(PERMITS, true), Part::Counter, drop()]).because("proxy/blocked"),
            rule(&[tcp(), among("proxy_tproxy", false), Part::Tproxy { port: TRANSPARENT_PORT }, set_bits(CAPTURED), accept()]),
            rule(&[tcp(), among("proxy_tproxy", true), set_bits(CAPTURED | REDIRECTED), accept()]),
            rule(&[udp(), Part::Tproxy { port: DATAGRAMS_PORT }, set_bits(CAPTURED), accept()]),
            rule(&[Part::Counter, drop()]).because("proxy/other"),
        ],
    };
    let dstnat = Chain {
        base: base(ChainKind::Nat, Hook::Prerouting, -100, BasePolicy::Accept),
        rules: vec![rule(&[bits(Field::Mark, REDIRECTED, Op::Ne), tcp(), Part::Redirect { port: Some(REDIRECTED_PORT) }])],
    };
    let input = Chain {
        base: base(ChainKind::Filter, Hook::Input, 0, BasePolicy::Drop),
        rules: vec![
            rule(&[bits(Field::Mark, CAPTURED, Op::Ne), accept()]),
            rule(&[ipv6(), is(Field::L4Proto, Datum::Byte(58)), accept()]),
            rule(&[drop()]),
        ],
    };
    let forward = Chain {
        base: base(ChainKind::Filter, Hook::Forward, 0, BasePolicy::Accept),
        rules: vec![rule(&[bits(Field::Mark, MAPPING, Op::Ne), Part::Counter, drop()]).because("proxy/forward")],
    };
    let output = Chain {
        base: base(ChainKind::Filter, Hook::Output, 0, BasePolicy::Accept),
        rules: vec![
            rule(&[
                bits(Field::Mark, ANSWER, Op::Ne),
                Part::Masked { field: Field::CtState, mask: 2, op: Op::Ne, value: 0 },
                bits(Field::CtMark, MAPPING, Op::Ne),
                accept(),
            ]),
            rule(&[bits(Field::Mark, ANSWER, Op::Ne), Part::Counter, drop()]).because("proxy/unasked"),
        ],
    };
    let v4_clients = vec![marked(Span::One(v4("192.168.2.10")), mark(BY_REDIRECT)), marked(Span::One(v4("192.168.2.11")), mark(BY_TPROXY))];
    let v6_clients = vec![marked(Span::One(v6("fd00:2::10")), mark(BY_REDIRECT)), marked(Span::One(v6("fd00:2::11")), mark(BY_TPROXY))];
    let map = |field, interval, elements| Set { maps_to: Some(Maps::Mark), interval, ..set(&[field], elements) };
    let sets = vec![
        ("proxy_clients4", map(Field::Ip4Saddr, true, v4_clients)),
        ("proxy_clients6", map(Field::Ip6Saddr, true, v6_clients)),
        ("proxy_macs", map(Field::EtherSaddr, false, vec![marked(Span::One(Datum::Mac(MAPPED_MAC)), mark(BY_MAC))])),
        ("proxy_tproxy", set(&[Field::Mark], vec![element(&key(BY_TPROXY))])),
        (PERMITS, Set { timeout: true, ..set(&[Field::Mark], vec![]) }),
    ];
    let chains = vec![("let_in", let_in), ("proxy", proxy), ("dstnat", dstnat), ("input", input), ("forward", forward), ("output", output)];
    table(sets, chains)
}
