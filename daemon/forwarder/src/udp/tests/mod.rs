//! The whole way of a datagram, with real upstreams, tproxy and conntrack, in network namespaces.

mod lab;
mod limits;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use lab::{Lab, inside, until};
use policy::messages::forwarder::Datagrams;
use policy::plan::proxy::{Dns, Group, Proxy, Strategy, Via};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::config::samples::name;
use crate::dns::samples::{answer, question};

/// Answers what it is sent; to a number, with so many bytes.
fn echo(lab: &Lab, on: &'static str) {
    let socket = inside(lab.far, move || UdpSocket::bind(on).unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let answer = text.parse().map_or_else(|_| text.into_bytes(), |size| vec![b'x'; size]);
            _ = socket.send_to(&answer, from);
        }
    });
}

fn carries_udp(proxy: &mut Proxy) {
    proxy.mappings.get_mut(&name("desk")).unwrap().udp = true;
}

fn asks_by(dns: Dns) -> impl FnOnce(&mut Proxy) {
    move |proxy| proxy.mappings.get_mut(&name("desk")).unwrap().dns = dns
}

/// As they are told to whoever asks the forwarder.
fn counted(lab: &Lab) -> Datagrams {
    let mut told = Datagrams::default();
    lab.handle.counters.tell(&mut told);
    told
}

fn told(socket: &UdpSocket, message: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = [0; 65_536];
    socket.send(message).unwrap();
    socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
}

#[test]
fn datagrams_are_carried_and_answers_come_from_the_address_that_was_asked() {
    let Some(mut lab) = Lab::new(carries_udp) else { return };
    lab.danted();
    echo(&lab, "192.0.2.7:9000");
    echo(&lab, "192.0.2.8:9000");
    // A connected socket takes nothing from anybody else.
    let socket = lab.asks("10.0.0.2:5000", "192.0.2.7:9000");
    assert_eq!(told(&socket, b"hello").as_deref(), Some(&b"hello"[..]));
    let other = lab.asks("10.0.0.2:5001", "192.0.2.8:9000");
    assert_eq!(told(&other, b"other").as_deref(), Some(&b"other"[..]));
    let (flows, total) = lab.ground.flows.list(|_| true, 9);
    assert_eq!((total, flows[0].protocol.as_str(), flows[0].up_bytes, flows[0].down_bytes), (2, "udp", 5, 5));
    // The client may read an answer before it was counted.
    until("both answers are counted", || counted(&lab).down == 2);
    let datagrams = counted(&lab);
    assert_eq!((datagrams.up, datagrams.questions), (2, 0));
    assert_eq!(datagrams.dropped.values().sum::<u64>(), 0, "{datagrams:?}");
    assert_eq!(lab.ground.flows.counts().protocols, [("udp".to_owned(), 2)].into());

    assert_eq!(told(&socket, b"4000"), Some(vec![b'x'; 4000]), "in fragments, because it is larger than the link");
    assert!(lab.counter("answers") >= 3);

    assert_eq!(lab.ground.flows.close(|_| true), 2);
    until("the end of both", || lab.ground.flows.count() == 0);
    assert_eq!(told(&socket, b"again").as_deref(), Some(&b"again"[..]), "a new association");
    assert_eq!(lab.counter("astray"), 0, "packets that went past the upstream");
}

#[test]
fn an_upstream_that_cannot_carry_udp_is_no_reason_to_send_it_elsewhere() {
    let Some(mut lab) = Lab::new(|proxy| {
        carries_udp(proxy);
        proxy.mappings.get_mut(&name("desk")).unwrap().via = Via::Upstream(name("two"));
    }) else {
        return;
    };
    lab.microsocks(1081);
    echo(&lab, "192.0.2.7:9000");
    let socket = lab.asks("10.0.0.2:5000", "192.0.2.7:9000");
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert_eq!(told(&socket, b"hello"), None);
    assert_eq!(told(&socket, b"hello"), None);
    let dropped = counted(&lab).dropped;
    assert!(dropped["upstream-without-udp"] + dropped["no-upstream"] > 0, "{dropped:?}");
    assert_eq!((lab.ground.flows.count(), lab.counter("astray"), lab.counter("answers")), (0, 0, 0));
}

#[test]
fn when_an_upstream_is_dead_another_of_the_group_carries_the_first_datagram() {
    let Some(mut lab) = Lab::new(|proxy| {
        carries_udp(proxy);
        let members = vec![name("two"), name("one")];
        proxy.groups.insert(name("both"), Group { strategy: Strategy::Priority, members, fail_after: 1, recover_after: 1 });
        proxy.mappings.get_mut(&name("desk")).unwrap().via = Via::Group(name("both"));
    }) else {
        return;
    };
    lab.danted();
    echo(&lab, "192.0.2.7:9000");
    let socket = lab.asks("10.0.0.2:5000", "192.0.2.7:9000");
    assert_eq!(told(&socket, b"hello").as_deref(), Some(&b"hello"[..]));
    assert!(lab.ground.failed.lock().unwrap()[0].starts_with("two: could not connect"), "{:?}", lab.ground.failed);
}

#[test]
fn questions_over_udp_are_asked_over_tcp_of_the_server_that_was_asked() {
    let Some(mut lab) = Lab::new(asks_by(Dns::Proxied)) else { return };
    lab.microsocks(1080);
    let texts: Vec<String> = (0..8).map(|n| format!("--txt-record=big.test,{}", format!("{n}").repeat(200))).collect();
    let mut arguments =
        vec!["-k", "-C", "/dev/null", "-p", "53", "-h", "-R", "--address=/example.test/192.0.2.99", "--user=root", "--pid-file="];
    arguments.extend(texts.iter().map(String::as_str));
    lab.serve("dnsmasq", &arguments, 53);

    for (from, whom) in [("10.0.0.2:0", "192.0.2.53:53"), ("[fd00::2]:0", "[2001:db8::53]:53")] {
        let sockets: Vec<UdpSocket> = (0..5).map(|_| lab.asks(from, whom)).collect();
        // All with the same id, before any answer: over one connection they must be told apart.
        let asked: Vec<Vec<u8>> = (0..5).map(|n| question(77, &format!("n{n}.example.test"), Some(1232))).collect();
        sockets.iter().zip(&asked).for_each(|(socket, asked)| _ = socket.send(asked).unwrap());
        for (socket, asked) in sockets.iter().zip(&asked) {
            let mut buffer = [0; 2000];
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{whom}: {error}, {:?}", lab.handle.counters));
            let end = asked.len() - 11;
            assert_eq!((&buffer[..2], &buffer[12..end]), (&asked[..2], &asked[12..end]), "its own id and question");
            assert!(buffer[..length].windows(4).any(|four| four == [192, 0, 2, 99]));
        }
    }
    let mut big = question(5, "big.test", Some(4096));
    let end = big.len() - 11;
    big[end - 3] = 16;
    let socket = lab.asks("10.0.0.2:0", "192.0.2.53:53");
    let given = told(&socket, &big).unwrap();
    assert_eq!((given.len(), given[2] & 2), (big.len(), 2), "too large for a datagram: come again over TCP");

    let given = told(&lab.asks("10.0.0.2:0", "10.0.0.1:53"), &question(6, "a.test", None)).unwrap();
    assert_eq!(given[3] & 15, 5, "the box itself is no server that an upstream could ask");
    let given = told(&lab.asks("10.0.0.2:0", "192.0.2.7:53"), &question(7, "n.example.test", None)).unwrap();
    assert_eq!(given[3] & 15, 0);
    assert_eq!(given[..2], [0, 7]);
    let nobody = told(&lab.asks("10.0.0.2:0", "192.0.2.99:53"), &question(8, "a.test", None)).unwrap();
    assert_eq!((nobody[3] & 15, &nobody[..2]), (2, &[0, 8][..]), "SERVFAIL");
    let datagrams = counted(&lab);
    assert!(datagrams.failed_questions > 0 && datagrams.questions > datagrams.failed_questions, "{datagrams:?}");

    let socket = lab.asks("10.0.0.2:0", "192.0.2.53:53");
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert_eq!(told(&socket, b"no question at all"), None);
    assert_eq!(counted(&lab).dropped["malformed-question"], 1);
    assert_eq!(lab.counter("astray"), 0, "packets that went past the upstream");
}

/// A server of DNS over HTTPS that answers each question with one address. Counts connections.
fn doh(lab: &Lab, certificate: rcgen::CertifiedKey<rcgen::KeyPair>) -> Arc<AtomicUsize> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(builder.with_single_cert(vec![certificate.cert.der().clone()], key).unwrap());
    let listener = inside(lab.far, || TcpListener::bind("192.0.2.8:8443").unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            counted.fetch_add(1, Relaxed);
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
            thread::spawn(move || while posted(&mut stream).is_some() {});
        }
    });
    connections
}

fn posted(stream: &mut StreamOwned<ServerConnection, TcpStream>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("POST /dns-query HTTP/1.1\r\nHost: dns.test:8443\r\n"), "{head}");
    let length: usize = head.split_once("Content-Length: ").unwrap().1.split_once('\r').unwrap().0.parse().unwrap();
    let mut asked = vec![0; length];
    stream.read_exact(&mut asked).ok()?;
    assert_eq!(asked[..2], [0, 0], "RFC 8484: the id is 0");
    let body = answer(&asked, 1);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}

fn stub(authority: &str) -> Dns {
    let server = Some("192.0.2.8".parse().unwrap());
    Dns::DohStub { url: "https://dns.test:8443/dns-query".into(), server, authority: Some(authority.into()) }
}

#[test]
fn the_stub_asks_by_https_whomever_the_client_asked_over_udp_and_tcp() {
    let certificate = rcgen::generate_simple_self_signed(vec!["dns.test".into()]).unwrap();
    let Some(mut lab) = Lab::new(asks_by(stub(&certificate.cert.pem()))) else { return };
    lab.microsocks(1080);
    let connections = doh(&lab, certificate);
    for (id, whom) in [(1, "198.51.100.1:53"), (2, "10.0.0.1:53"), (3, "198.51.100.2:53")] {
        let given = told(&lab.asks("10.0.0.2:0", whom), &question(id, "a.test", None))
            .unwrap_or_else(|| panic!("{whom} {:?}", lab.handle.counters));
        assert_eq!((given[1], given[3] & 15, given[7]), (id as u8, 0, 1), "{whom}");
    }
    assert_eq!(connections.load(Relaxed), 1, "kept for all three");

    let asking = inside(lab.client, || TcpStream::connect("198.51.100.3:53").unwrap());
    let (accepted, client) = lab.listener.accept().unwrap();
    let asked = accepted.local_addr().unwrap();
    lab.handle.answer_stream(accepted.into(), lab.mapped(), client, asked);
    let mut asking = asking;
    asking.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    for id in [0x1111, 0x2222] {
        let asked = question(id, "b.test", None);
        asking.write_all(&(asked.len() as u16).to_be_bytes()).unwrap();
        asking.write_all(&asked).unwrap();
        let mut length = [0; 2];
        asking.read_exact(&mut length).unwrap();
        let mut given = vec![0; usize::from(u16::from_be_bytes(length))];
        asking.read_exact(&mut given).unwrap();
        assert_eq!((u16::from_be_bytes([given[0], given[1]]), given[7]), (id, 1));
    }
    asking.write_all(&[0, 3, 1, 2, 3]).unwrap();
    assert_eq!(asking.read(&mut [0]).unwrap_or(0), 0, "what is no question ends the connection");
    assert_eq!(lab.counter("astray"), 0, "packets that went past the upstream");
}

#[test]
fn a_server_whose_certificate_is_of_somebody_else_is_told_nothing() {
    let certificate = rcgen::generate_simple_self_signed(vec!["dns.test".into()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["dns.test".into()]).unwrap();
    let Some(mut lab) = Lab::new(asks_by(stub(&other.cert.pem()))) else { return };
    lab.microsocks(1080);
    doh(&lab, certificate);
    let given = told(&lab.asks("10.0.0.2:0", "198.51.100.1:53"), &question(9, "a.test", None)).unwrap();
    assert_eq!((given[1], given[3] & 15), (9, 2), "SERVFAIL");
    assert_eq!(*lab.ground.failed.lock().unwrap(), [""; 0], "it is not the upstream's fault");
}
