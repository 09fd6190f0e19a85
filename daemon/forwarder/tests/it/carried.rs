//! What is carried, and how it ends when it should.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use policy::messages::forwarder::*;
use policy::plan::proxy::*;

use super::applier::{Applier, name, proxy, single, upstream};
use super::room::*;
use super::upstreams::*;

const DESCRIPTORS: u32 = 1024;

/// Whether an upstream goes on with one direction when the other has ended.
#[derive(Clone, Copy, PartialEq)]
pub enum HalfClose {
    Carried,
    /// microsocks and tinyproxy end both.
    EndsBoth,
}
pub use HalfClose::{Carried, EndsBoth};

/// Through this proxy: words, ends, and bulk both ways at once, in these families.
pub fn carries(proxy: &Proxy, secrets: &[(&str, &str)], half_close: HalfClose, room: &Room, families: &[SocketAddr]) {
    let mut applier = Applier::new(room.dir.path());
    let _forwarder = room.forwarder(&[], DESCRIPTORS);
    applier.link();
    applier.become_(1, proxy, secrets);
    applier.hears_up("desk");
    let mut bytes = 0;
    for to in families {
        let mut stream = client(7, *to).unwrap();
        assert!(is_carried(&stream), "to {to}");
        if half_close == Carried {
            stream.write_all(b"the rest").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "the rest", "to {to}, after our end was said");
            bytes += 16;
        }

        let stream = client(7, *to).unwrap();
        // Their small windows and delayed acknowledgements make turns slow, so there are fewer.
        let size = if half_close == Carried { 8_000_000u32 } else { 1_000_000 };
        let data: Vec<u8> = (0..size).map(|n| ((n * 31) >> 5) as u8).collect();
        // microsocks writes to either side with a blocking call, from one thread: bulk both ways at once can lock it up with a server
        // that echoes. There it goes by turns that fit the sockets.
        let portion = if half_close == Carried { data.len() } else { 64 << 10 };
        let mut came = vec![0; data.len()];
        for (sends, takes) in data.chunks(portion).zip(came.chunks_mut(portion)) {
            thread::scope(|scope| {
                let writer = scope.spawn(|| (&stream).write_all(sends));
                (&stream).read_exact(takes).unwrap();
                writer.join().unwrap().unwrap();
            });
        }
        assert!(came == data, "bulk to {to} is not what was sent");
        bytes += 2 * (data.len() as u64 + 4);
    }
    within(Duration::from_secs(3), "usage is told", || applier.usage("desk") == bytes);
    let status = room.status();
    assert_eq!((status.mappings[&name("desk")].up_bytes, status.mappings[&name("desk")].down_bytes), (bytes / 2, bytes / 2));
    within(Duration::from_secs(2), "all flows have ended", || room.status().flows == 0);
}

#[test]
fn by_microsocks_in_both_families() {
    let Some(room) = installed("microsocks").then(room).flatten() else { return };
    let _upstream = microsocks(1080, &[]);
    carries(&single(UpstreamKind::Socks5, 1080), &[], EndsBoth, &room, &[to4(ECHO), to6(ECHO)]);
}

#[test]
fn by_microsocks_with_a_password() {
    let Some(room) = installed("microsocks").then(room).flatten() else { return };
    let _upstream = microsocks(1080, &["-u", "gate", "-P", "right"]);
    let mut one = upstream(UpstreamKind::Socks5, 1080);
    (one.username, one.password) = (Some("gate".into()), Some("key".into()));
    carries(&proxy(&[("one", one)], Via::Upstream(name("one"))), &[("key", "right")], EndsBoth, &room, &[to4(ECHO)]);
}

#[test]
fn by_dante() {
    let Some(room) = installed("danted").then(room).flatten() else { return };
    let _upstream = danted(room.dir.path(), 1080);
    carries(&single(UpstreamKind::Socks5, 1080), &[], Carried, &room, &[to4(ECHO)]);
}

#[test]
fn by_tinyproxy() {
    let Some(room) = installed("tinyproxy").then(room).flatten() else { return };
    let _upstream = tinyproxy(room.dir.path(), 8888);
    carries(&single(UpstreamKind::HttpConnect, 8888), &[], EndsBoth, &room, &[to4(ECHO), to6(ECHO)]);
}

fn begun(room: &Room, proxy: &Proxy) -> (Applier, Process, Mock) {
    let mock = Mock::start(1080);
    let mut applier = Applier::new(room.dir.path());
    let forwarder = room.forwarder(&[], DESCRIPTORS);
    applier.link();
    applier.become_(1, proxy, &[]);
    applier.hears_up("desk");
    (applier, forwarder, mock)
}

#[test]
fn a_transparent_socket_tells_the_destination_too() {
    let Some(room) = room() else { return };
    let (_applier, _forwarder, _mock) = begun(&room, &single(UpstreamKind::Socks5, 1080));
    // The destination is the listener itself, reached around the redirecting rule; carried there it arrives without a mark, and is refused.
    run("nft flush ruleset");
    let stream = client(7, SocketAddr::from(([127, 0, 0, 5], TRANSPARENT_PORT))).unwrap();
    within(Duration::from_secs(5), "the flow is there", || room.status().mappings[&name("desk")].connections > 0);
    assert!(!is_carried(&stream));
}

#[test]
fn whoever_is_nobodys_client_is_reset() {
    let Some(room) = room() else { return };
    let mut two = single(UpstreamKind::Socks5, 1080);
    two.mappings.get_mut(&name("desk")).unwrap().clients = ["fd00::/64".parse().unwrap()].into();
    let (_applier, _forwarder, _mock) = begun(&room, &two);
    assert!(is_carried(&client(7, to6(ECHO)).unwrap()));
    assert!(is_reset(&client(8, to6(ECHO)).unwrap()), "a mark of no mapping");
    assert!(is_reset(&client(7, to4(ECHO)).unwrap()), "an address that is not the mapping's");
}

#[test]
fn what_changes_nothing_for_a_flow_lets_it_go_on() {
    let Some(room) = room() else { return };
    let mut proxy = single(UpstreamKind::Socks5, 1080);
    let (mut applier, _forwarder, _mock) = begun(&room, &proxy);
    let stream = client(7, to4(ECHO)).unwrap();
    assert!(is_carried(&stream));
    for generation in 2..20 {
        let mut other = proxy.mappings[&name("desk")].clone();
        (other.id, other.clients) = (100 + generation as u16, [format!("10.9.{generation}.0/24").parse().unwrap()].into());
        proxy.mappings.insert(name(&format!("other-{generation}")), other);
        applier.become_(generation, &proxy, &[]);
        assert!(is_carried(&stream), "in generation {generation}");
    }
    proxy.upstreams.get_mut(&name("one")).unwrap().username = Some("somebody".into());
    applier.become_(20, &proxy, &[]);
    assert!(is_reset(&stream), "its upstream is another");
}

#[test]
fn what_shall_end_ends_at_once() {
    let Some(room) = room() else { return };
    let (mut applier, _forwarder, _mock) = begun(&room, &single(UpstreamKind::Socks5, 1080));
    let stream = client(7, to4(ECHO)).unwrap();
    assert!(is_carried(&stream));
    let said = Instant::now();
    applier.say(&ToForwarder::End { mappings: vec![name("desk")], why: "its quota is spent".into() });
    assert!(is_reset(&stream));
    assert!(said.elapsed() < Duration::from_millis(50), "after {:?}", said.elapsed());

    let (stream, other) = (client(7, to4(ECHO)).unwrap(), client(7, to6(ECHO)).unwrap());
    assert!(is_carried(&stream) && is_carried(&other));
    let ForwarderResponse::Flows { flows, total: 2 } = room.ask(&ForwarderRequest::Flows { mapping: None, client: None, limit: 10 }) else {
        panic!("not two flows")
    };
    let flow = flows.iter().find(|flow| flow.client == stream.local_addr().unwrap()).unwrap();
    assert_eq!((flow.destination, flow.up_bytes, flow.down_bytes, &*flow.protocol), (to4(ECHO), 4, 4, "tcp"));
    assert_eq!(room.ask(&ForwarderRequest::Close { flow: Some(flow.id), client: None }), ForwarderResponse::Closed { flows: 1 });
    assert!(is_reset(&stream) && is_carried(&other));
    let client: IpAddr = SERVER6.parse().unwrap();
    assert_eq!(room.ask(&ForwarderRequest::Close { flow: None, client: Some(client) }), ForwarderResponse::Closed { flows: 1 });
    assert!(is_reset(&other));
}

#[test]
fn a_reset_goes_through_both_ways() {
    let Some(room) = room() else { return };
    let (_applier, _forwarder, _mock) = begun(&room, &single(UpstreamKind::Socks5, 1080));
    serve((SERVER4.parse::<IpAddr>().unwrap(), 7009).into(), |mut stream| {
        _ = stream.read(&mut [0; 4])?;
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
        Ok(())
    });
    let mut stream = client(7, to4(7009)).unwrap();
    stream.write_all(b"ping").unwrap();
    // The mock between them turns the reset into an end; what matters is that it does not hang, and leaves nothing.
    let mut rest = vec![];
    _ = stream.read_to_end(&mut rest);
    drop(stream);
    within(Duration::from_secs(5), "no flow is left", || room.status().flows == 0);
}

#[test]
fn without_an_applier_flows_end_after_five_seconds_and_come_back_with_it() {
    let Some(room) = room() else { return };
    let proxy = single(UpstreamKind::Socks5, 1080);
    let (mut applier, _forwarder, _mock) = begun(&room, &proxy);
    let stream = client(7, to4(ECHO)).unwrap();
    assert!(is_carried(&stream));
    applier.unlink();
    applier.forget();
    applier.link();
    applier.become_(1, &proxy, &[]);
    assert!(is_carried(&stream), "an applier that is back soon costs no flow");

    applier.unlink();
    drop(std::fs::rename(room.dir.path().join("forwarder-link.sock"), room.dir.path().join("away")));
    let lost = Instant::now();
    assert!(is_reset(&stream));
    assert!((4..7).contains(&lost.elapsed().as_secs()), "after {:?}", lost.elapsed());
    assert!(is_reset(&client(7, to4(ECHO)).unwrap()));
    drop(std::fs::rename(room.dir.path().join("away"), room.dir.path().join("forwarder-link.sock")));
    applier.forget();
    applier.link();
    applier.become_(1, &proxy, &[]);
    applier.hears_up("desk");
    assert!(is_carried(&client(7, to4(ECHO)).unwrap()));
}
