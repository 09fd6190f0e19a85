//! What a flow may cost, and that nothing is left behind.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use policy::plan::proxy::*;

use super::applier::{Applier, name, single};
use super::room::*;
use super::upstreams::*;

fn begun(room: &Room, descriptors: u32) -> (Applier, Process, Mock) {
    let mock = Mock::start(1080);
    let mut applier = Applier::new(room.dir.path());
    let forwarder = room.forwarder(&[], descriptors);
    applier.link();
    applier.become_(1, &single(UpstreamKind::Socks5, 1080), &[]);
    applier.hears_up("desk");
    (applier, forwarder, mock)
}

fn memory(forwarder: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", forwarder.0.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn readers_that_take_nothing_slow_their_servers_down_and_cost_little() {
    let Some(room) = room() else { return };
    let (_applier, forwarder, _mock) = begun(&room, 1024);
    let before = memory(&forwarder);
    let readers: Vec<_> = (0..100).map(|_| client(7, to4(FLOOD)).unwrap()).collect();
    let mut last = 1;
    within(Duration::from_secs(30), "all servers wait", || {
        thread::sleep(Duration::from_millis(500));
        let flooded = room.flooded.load(Relaxed);
        std::mem::replace(&mut last, flooded) == flooded && flooded > 0
    });
    let grown = memory(&forwarder).saturating_sub(before);
    eprintln!("100 readers that take nothing: the forwarder grew by {} KiB, pipes {}", grown >> 10, room.status().pipes);
    assert!(grown < 12 << 20, "it grew by {grown} bytes");
    // They go on where they stopped.
    for mut reader in &readers {
        let mut some = vec![0; 3 << 20];
        reader.read_exact(&mut some).unwrap();
        assert!(some.iter().all(|byte| *byte == 7));
    }
    drop(readers);
    within(Duration::from_secs(10), "all is given back", || room.status().flows == 0 && room.status().pipes <= 16);
}

#[test]
fn an_upstream_that_takes_nothing_slows_its_clients_down_and_costs_little() {
    let Some(room) = room() else { return };
    const SLOW: u16 = 7011;
    let over = Arc::new(AtomicBool::new(false));
    let waits = over.clone();
    serve(to4(SLOW), move |_stream| {
        while !waits.load(Relaxed) {
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    });
    let (_applier, forwarder, _mock) = begun(&room, 1024);
    let before = memory(&forwarder);
    let clients: Vec<_> = (0..100).map(|_| client(7, to4(SLOW)).unwrap()).collect();
    let mut sent = 0;
    for mut client in &clients {
        client.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        while let Ok(taken) = client.write(&[7; 64 << 10]) {
            sent += taken;
            assert!(sent < 4 << 30, "clients are never slowed down");
        }
    }
    let grown = memory(&forwarder).saturating_sub(before);
    eprintln!("100 clients wrote {} MiB to servers that read nothing: the forwarder grew by {} KiB", sent >> 20, grown >> 10);
    assert!(grown < 12 << 20, "it grew by {grown} bytes");
    drop(clients);
    // What the clients have said is still owed to the servers, until these are gone.
    assert_eq!(room.status().flows, 100);
    over.store(true, Relaxed);
    within(Duration::from_secs(30), "all is given back", || room.status().flows == 0);
}

#[test]
fn beyond_the_descriptors_clients_are_refused_and_the_rest_is_carried_on() {
    let Some(room) = room() else { return };
    let (_applier, _forwarder, _mock) = begun(&room, 200);
    // (200 - 50) / 2 flows in all, and half of them for one client.
    let here: Vec<_> = (0..60).map(|_| client(7, to4(ECHO)).unwrap()).collect();
    assert_eq!(here.iter().filter(|stream| is_carried(stream)).count(), 37);
    let there: Vec<_> = (0..60).map(|_| client(7, to6(ECHO)).unwrap()).collect();
    assert_eq!(there.iter().filter(|stream| is_carried(stream)).count(), 37);
    assert_eq!(room.status().refused_flows, 46);
    assert!(is_carried(&here[0]) && room.status().descriptors <= 200);
    drop((here, there));
    within(Duration::from_secs(5), "there is room again", || client(7, to4(ECHO)).is_ok_and(|stream| is_carried(&stream)));
}

#[test]
fn connections_cut_in_every_way_leave_no_descriptor_and_no_pipe() {
    let Some(room) = room() else { return };
    let (_applier, forwarder, mock) = begun(&room, 1024);
    assert!(is_carried(&client(7, to4(ECHO)).unwrap()));
    within(Duration::from_secs(5), "it is quiet", || room.status().flows == 0);
    let (descriptors, pipes) = (room.status().descriptors, room.status().pipes);
    for round in 0..8 {
        mock.behave([GOOD, GOOD, GOOD, REFUSING][round % 4]);
        let clients: Vec<_> = (0..8).map(|number| thread::spawn(move || cut(round * 8 + number))).collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
    }
    mock.behave(GOOD);
    within(Duration::from_secs(20), "no flow is left", || room.status().flows == 0);
    let status = room.status();
    // Pipes that are kept for the next bulk flow: two descriptors each.
    assert!(status.pipes <= 16, "{} pipes", status.pipes);
    within(Duration::from_secs(5), "descriptors are as before", || {
        let status = room.status();
        status.descriptors <= descriptors + 2 * status.pipes.saturating_sub(pipes)
    });
    assert!(memory(&forwarder) < 64 << 20);
    assert!(status.mappings[&name("desk")].connections >= 256);
    let mut pair = client(7, to4(ECHO)).unwrap();
    pair.write_all(b"ping").unwrap();
    assert!(pair.read_exact(&mut [0; 4]).is_ok());
}

/// Some connections, each in another way.
fn cut(seed: usize) {
    for turn in 0..8 {
        let Ok(mut stream) = client(7, if turn % 2 == 0 { to4(ECHO) } else { to6(FLOOD) }) else { continue };
        match (seed + turn) % 5 {
            // At once, before the upstream is reached.
            0 => {}
            1 => _ = is_carried(&stream),
            // With bytes under way, so that it is a reset.
            2 => _ = stream.write_all(&[7; 300_000]),
            3 => {
                _ = stream.shutdown(Shutdown::Write);
                _ = stream.read(&mut [0; 100]);
            }
            _ => {
                let mut some = vec![0; 1 << 20];
                _ = stream.write_all(b"ping");
                _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
                _ = stream.read_exact(&mut some);
            }
        }
    }
}
