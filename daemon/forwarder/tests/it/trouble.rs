//! Upstreams that die, hang, lie or refuse: who is told what, and how soon.

use std::io::Read;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use policy::messages::forwarder::*;
use policy::plan::proxy::*;

use super::applier::{Applier, name, proxy, single, upstream};
use super::room::*;
use super::upstreams::*;

fn linked(room: &Room, flags: &[&str]) -> (Applier, Process) {
    let mut applier = Applier::new(room.dir.path());
    let forwarder = room.forwarder(flags, 1024);
    applier.link();
    (applier, forwarder)
}

#[test]
fn a_killed_upstream_is_told_within_50_ms_of_the_first_client_that_asks() {
    let Some(room) = installed("microsocks").then(room).flatten() else { return };
    let (mut applier, _forwarder) = linked(&room, &[]);
    let mut slowest = Duration::ZERO;
    for round in 0..10 {
        let mut killed = microsocks(1080, &[]);
        applier.become_(round, &single(UpstreamKind::Socks5, 1080), &[]);
        let began = Instant::now();
        applier.hears_up("desk");
        assert!(began.elapsed() < Duration::from_secs(3), "back after {:?}", began.elapsed());
        assert!(is_carried(&client(7, to4(ECHO)).unwrap()));
        // A good probe answers for 200 ms, so that flows that fail do not lead to one probe after the other.
        std::thread::sleep(Duration::from_millis(250));
        applier.forget();
        killed.kill(Signal::SIGKILL);
        let asked = Instant::now();
        let stream = client(7, to4(ECHO)).unwrap();
        let (at, why) = applier.hears_down("desk");
        slowest = slowest.max(at - asked);
        assert!(why.contains("refuses connections"), "{why}");
        assert!(is_reset(&stream));
        applier.forget();
    }
    eprintln!("a killed upstream was told within {slowest:?}, the slowest of 10");
    assert!(slowest < Duration::from_millis(50), "{slowest:?}");
}

#[test]
fn a_wrong_password_is_the_upstreams_state() {
    let Some(room) = installed("microsocks").then(room).flatten() else { return };
    let _upstream = microsocks(1080, &["-u", "gate", "-P", "right"]);
    let (mut applier, _forwarder) = linked(&room, &[]);
    let mut one = upstream(UpstreamKind::Socks5, 1080);
    (one.username, one.password) = (Some("gate".into()), Some("key".into()));
    let proxy = proxy(&[("one", one)], Via::Upstream(name("one")));
    applier.become_(1, &proxy, &[("key", "wrong")]);
    applier.hears("a failed probe", |said| matches!(said, FromForwarder::Health { health, .. } if health.status == HealthStatus::Failed));
    assert!(is_reset(&client(7, to4(ECHO)).unwrap()));
    applier.forget();
    applier.become_(2, &proxy, &[("key", "right")]);
    applier.hears_up("desk");
    assert!(is_carried(&client(7, to4(ECHO)).unwrap()));
}

#[test]
fn an_upstream_that_turns_silent_or_strange_is_told_and_its_clients_are_reset() {
    let Some(room) = room() else { return };
    let mock = Mock::start(1080);
    let (mut applier, _forwarder) = linked(&room, &["--connect-within", "0.5"]);
    for (generation, how) in [(1, SILENT), (2, GARBLED), (3, CLOSING)] {
        mock.behave(GOOD);
        applier.become_(generation, &single(UpstreamKind::Socks5, 1080), &[]);
        applier.hears_up("desk");
        applier.forget();
        mock.behave(how);
        let asked = Instant::now();
        assert!(is_reset(&client(7, to4(ECHO)).unwrap()), "behaviour {how}");
        assert!(asked.elapsed() < Duration::from_millis(1500), "behaviour {how}: reset after {:?}", asked.elapsed());
        if how != SILENT {
            // Of silence a probe must be sure; it takes its own time.
            applier.hears_down("desk");
            assert!(asked.elapsed() < Duration::from_millis(500), "behaviour {how}: told after {:?}", asked.elapsed());
        } else {
            applier.hears_down("desk");
        }
        applier.forget();
    }
}

#[test]
fn what_a_destination_does_is_not_held_against_the_upstream() {
    let Some(room) = room() else { return };
    let mock = Mock::start(1080);
    let (mut applier, _forwarder) = linked(&room, &["--answer-within", "0.7"]);
    applier.become_(1, &single(UpstreamKind::Socks5, 1080), &[]);
    applier.hears_up("desk");
    mock.behave(REFUSING);
    for _ in 0..5 {
        assert!(is_reset(&client(7, to4(ECHO)).unwrap()));
    }
    mock.behave(WAITING);
    let asked = Instant::now();
    assert!(is_reset(&client(7, to4(ECHO)).unwrap()));
    assert!(asked.elapsed() < Duration::from_secs(3));
    mock.behave(GOOD);
    assert!(is_carried(&client(7, to4(ECHO)).unwrap()), "the upstream is up all the time");
}

#[test]
fn a_group_carries_by_the_next_member_before_the_client_notices() {
    let Some(room) = installed("microsocks").then(room).flatten() else { return };
    let (mut first, _second) = (microsocks(1080, &[]), microsocks(1081, &[]));
    let (mut applier, _forwarder) = linked(&room, &[]);
    let group = Group { strategy: Strategy::Priority, members: vec![name("one"), name("two")], fail_after: 2, recover_after: 1 };
    let members = [("one", upstream(UpstreamKind::Socks5, 1080)), ("two", upstream(UpstreamKind::Socks5, 1081))];
    let mut proxy = proxy(&members, Via::Group(name("both")));
    proxy.groups.insert(name("both"), group);
    applier.become_(1, &proxy, &[]);
    for member in ["one", "two"] {
        applier.hears("a good probe", |said| {
            matches!(said, FromForwarder::Health { upstream, health, .. } if *upstream == name(member) && health.status == HealthStatus::Healthy)
        });
    }
    assert!(is_carried(&client(7, to4(ECHO)).unwrap()));
    first.kill(Signal::SIGKILL);
    for _ in 0..20 {
        let stream = client(7, to4(ECHO)).unwrap();
        assert!(is_carried(&stream));
        let ForwarderResponse::Flows { flows, .. } = room.ask(&ForwarderRequest::Flows { mapping: None, client: None, limit: 10 }) else {
            panic!()
        };
        assert!(flows.iter().filter(|flow| flow.client == stream.local_addr().unwrap()).all(|flow| flow.upstream == name("two")));
    }
    applier.hears("the other member", |said| {
        matches!(said, FromForwarder::Mappings { states, .. } if states.get(&name("desk")) == Some(&MappingState::Up { upstream: name("two") }))
    });
}

#[test]
fn a_connection_without_a_byte_ends() {
    let Some(room) = room() else { return };
    let _mock = Mock::start(1080);
    let (mut applier, _forwarder) = linked(&room, &["--idle-after", "1"]);
    applier.become_(1, &single(UpstreamKind::Socks5, 1080), &[]);
    applier.hears_up("desk");
    let (idle, busy) = (client(7, to4(ECHO)).unwrap(), client(7, to4(ECHO)).unwrap());
    assert!(is_carried(&idle));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        assert!(is_carried(&busy));
        std::thread::sleep(Duration::from_millis(100));
    }
    idle.set_nonblocking(true).unwrap();
    assert!((&idle).read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
}
