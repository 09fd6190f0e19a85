//! `kill -9` of the applier, at any moment, never lets a forbidden packet through. Counted on the far side.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use std::os::fd::AsRawFd;

use crate::applier::{Applier, apply, ask_over};
use crate::namespace::Namespace;
use crate::office::{FAR, Office, SSH, WEB, policy};

const MARK: &[u8] = b"this must never arrive";

/// Sends the forbidden flow all the time, and counts on the far port, below any filter of the far side.
struct Flow {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    arrived: Arc<AtomicU64>,
}

impl Flow {
    fn start(office: &Office) -> Flow {
        let flow = Flow { stop: Arc::default(), sent: Arc::default(), arrived: Arc::default() };
        let (stop, sent) = (flow.stop.clone(), flow.sent.clone());
        office.client.run(move || {
            std::thread::spawn(move || {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                while !stop.load(Ordering::Relaxed) {
                    // Without a route or a neighbour there is an error; the next packet tries again.
                    if socket.send_to(MARK, (FAR, 9)).is_ok() {
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    sleep(Duration::from_micros(200));
                }
            })
        });
        let (stop, arrived) = (flow.stop.clone(), flow.arrived.clone());
        office.far.run(move || {
            let wire = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).expect("root may listen");
            std::thread::spawn(move || {
                let mut frame = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    match recv(wire.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                        Ok(length) if frame[..length].windows(MARK.len()).any(|window| window == MARK) => {
                            arrived.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(_) => {}
                        Err(_) => sleep(Duration::from_millis(1)),
                    }
                }
            })
        });
        flow
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The same world with forwarding switched on and nothing of ours: the count must see what passes, or it proves nothing.
#[test]
fn the_count_sees_packets_where_nothing_protects() {
    let office = Office::new();
    addresses(&office.gate);
    office.gate.command("sysctl", "-q -w net.ipv4.ip_forward=1");
    let flow = Flow::start(&office);
    let end = Instant::now() + Duration::from_secs(10);
    while flow.arrived() < 100 {
        assert!(Instant::now() < end, "{} sent, {} arrived", flow.sent(), flow.arrived());
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn no_forbidden_packet_passes_in_two_hundred_kills() {
    let office = Office::new();
    let mut applier = Applier::new();
    let mut luck = Luck(7);
    // Boot: addresses are there, and some other program has switched forwarding on already.
    addresses(&office.gate);
    let flow = Flow::start(&office);
    applier.start(&office.gate);
    applier.keep(&policy("lan", WEB));
    // While it starts and restores.
    for _ in 0..120 {
        applier.kill();
        applier.launch(&office.gate);
        sleep(luck.below(Duration::from_millis(60)));
    }
    // While it changes and goes back.
    for round in 0..90 {
        applier.kill();
        applier.start(&office.gate);
        let request = apply(&policy("lan", if round % 2 == 0 { SSH } else { WEB }), 60);
        let mut stream = applier.connect().expect("it listens");
        let asker = std::thread::spawn(move || ask_over(&mut stream, &request));
        sleep(luck.below(Duration::from_millis(60)));
        applier.kill();
        asker.join().expect("the asker ends");
    }
    eprintln!("{} sent, {} arrived, 210 kills", flow.sent(), flow.arrived());
    assert!(flow.sent() > 10_000, "only {} were sent", flow.sent());
    assert_eq!(flow.arrived(), 0);
}

#[test]
fn not_even_a_flushed_packet_filter_lets_anything_through() {
    let office = Office::new();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    applier.keep(&policy("lan", WEB));
    applier.kill();
    let flow = Flow::start(&office);
    // Whoever is root can remove a table whose owner is dead. What is left is the rule about unmarked packets.
    office.gate.command("nft", "flush ruleset");
    assert_eq!(office.gate.command("nft", "list ruleset").trim(), "");
    sleep(Duration::from_millis(500));
    assert!(flow.sent() > 500);
    assert_eq!(flow.arrived(), 0);
}

fn addresses(gate: &Namespace) {
    gate.ip("addr add 192.168.2.1/24 dev lan0");
    gate.ip("addr add 203.0.113.2/24 dev wan0");
    gate.ip("link set lan0 up");
    gate.ip("link set wan0 up");
    gate.ip("route add 198.51.100.0/24 via 203.0.113.1");
}

struct Luck(u64);

impl Luck {
    fn below(&mut self, most: Duration) -> Duration {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        most.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}
