//! Rates, with real packets. A slow machine makes everything slower, so what is limited is asserted from above only.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use kernel::tc::{self, Shaped};
use policy::name::IfName;

use crate::far::Far;
use crate::space::{alone, run};

/// A megabyte a second.
const RATE: u64 = 8_000_000;
const LIMITED: usize = 1_500_000;
/// Less than what the limited bytes take at the rate, by as much as queues and bursts may hide.
const AT_LEAST: Duration = Duration::from_millis(1_100);
/// At the rate this would take half a minute.
const UNLIMITED: usize = 30_000_000;
const AT_MOST: Duration = Duration::from_secs(20);

fn open() -> Far {
    std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
    let client = Far::plug("lan0", "02:00:00:00:00:77");
    for address in ["192.168.2.1/24", "fd00:2::1/64"] {
        run("ip", &["addr", "add", address, "dev", "lan0"]);
    }
    for address in ["192.168.2.10/24", "192.168.2.99/24", "fd00:2::10/64"] {
        client.ip(&["addr", "add", address, "dev", "eth0"]);
    }
    client
}

fn on_lan0(shaped: Shaped) -> BTreeMap<IfName, Vec<Shaped>> {
    BTreeMap::from([(IfName::try_from("lan0").unwrap(), vec![shaped])])
}

fn shaped(clients: &[&str]) -> Shaped {
    Shaped { id: 0x1234, clients: clients.iter().map(|net| net.parse().unwrap()).collect(), ..Shaped::default() }
}

/// How long `bytes` take between the box and the client with that address.
fn took(client: &Far, address: &str, bytes: usize, down: bool) -> Duration {
    let address: IpAddr = address.parse().unwrap();
    let server = client.within(|| TcpListener::bind(SocketAddr::new(address, 0))).unwrap();
    let near = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let far = server.accept().unwrap().0;
    let (mut from, mut to) = if down { (near, far) } else { (far, near) };
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = from.write_all(&vec![0; bytes]);
        });
        let mut room = vec![0; 1 << 16];
        let mut count = 0;
        while count < bytes {
            count += to.read(&mut room).unwrap();
        }
    });
    began.elapsed()
}

#[test]
fn a_limited_client_gets_no_more_than_its_rate_and_others_all() {
    alone(|| {
        let client = open();
        let limited = ["192.168.2.10", "fd00:2::10"];
        let clients = shaped(&["192.168.2.10/32", "fd00:2::10/127"]);
        for (wanted, down) in [
            (on_lan0(Shaped { down: Some(RATE), ..clients.clone() }), true),
            (on_lan0(Shaped { up: Some(RATE), ..clients.clone() }), false),
        ] {
            assert!(!tc::differences(&wanted).unwrap().is_empty());
            tc::reconcile(&wanted).unwrap();
            assert_eq!(tc::differences(&wanted).unwrap(), []);
            for address in limited {
                let time = took(&client, address, LIMITED, down);
                assert!(time > AT_LEAST, "{address} (down: {down}) in {time:?}");
            }
            let other_way = took(&client, "192.168.2.10", UNLIMITED, !down);
            let other_client = took(&client, "192.168.2.99", UNLIMITED, down);
            assert!(other_way < AT_MOST && other_client < AT_MOST, "(down: {down}) in {other_way:?} and {other_client:?}");
        }
    });
}

#[test]
fn a_client_is_limited_by_its_hardware_address_whatever_address_it_uses() {
    alone(|| {
        let client = open();
        let macs = [[2, 0, 0, 0, 0, 0x77]].into();
        let wanted = on_lan0(Shaped { id: 7, macs, down: Some(RATE), up: Some(RATE), ..Shaped::default() });
        tc::reconcile(&wanted).unwrap();
        assert_eq!(tc::differences(&wanted).unwrap(), []);
        for (address, down) in [("192.168.2.99", true), ("fd00:2::10", true), ("192.168.2.99", false), ("fd00:2::10", false)] {
            let time = took(&client, address, LIMITED, down);
            assert!(time > AT_LEAST, "{address} (down: {down}) in {time:?}");
        }
        let other = on_lan0(Shaped { id: 7, macs: [[2, 0, 0, 0, 0, 0x78]].into(), down: Some(RATE), up: Some(RATE), ..Shaped::default() });
        tc::reconcile(&other).unwrap();
        for down in [true, false] {
            let time = took(&client, "192.168.2.99", UNLIMITED, down);
            assert!(time < AT_MOST, "another's limit (down: {down}): {time:?}");
        }
    });
}

#[test]
fn rates_come_change_and_go_and_what_others_made_stays() {
    alone(|| {
        let _client = open();
        let before = run("tc", &["qdisc", "show"]);
        let both = |rate| on_lan0(Shaped { down: Some(rate), up: Some(rate), ..shaped(&["10.0.0.0/8", "fd00::/16", "0.0.0.0/0"]) });
        for rate in [RATE, 2 * RATE, 100_000_000_000] {
            tc::reconcile(&both(rate)).unwrap();
            assert_eq!(tc::differences(&both(rate)).unwrap(), [], "{rate}");
            tc::reconcile(&both(rate)).unwrap();
        }
        run("tc", &["class", "change", "dev", "lan0", "parent", "7070:", "classid", "7070:1234", "htb", "rate", "1gbit"]);
        run("tc", &["filter", "del", "dev", "lan0", "parent", "ffff:", "pref", "28786"]);
        let told = tc::differences(&both(RATE)).unwrap();
        assert_eq!(told.iter().filter(|told| told.what.contains("lan0")).count(), 2, "{told:?}");
        tc::reconcile(&both(RATE)).unwrap();
        assert_eq!(tc::differences(&both(RATE)).unwrap(), []);

        // Somebody else's filter on the ingress.
        run("tc", &["filter", "add", "dev", "lan0", "parent", "ffff:", "pref", "9", "protocol", "ip", "u32", "match", "u32", "0", "0"]);
        tc::reconcile(&BTreeMap::new()).unwrap();
        assert_eq!(tc::differences(&BTreeMap::new()).unwrap(), []);
        assert!(run("tc", &["filter", "show", "dev", "lan0", "ingress"]).contains("pref 9"));
        run("tc", &["qdisc", "del", "dev", "lan0", "ingress"]);
        assert_eq!(run("tc", &["qdisc", "show"]), before);

        run("tc", &["qdisc", "add", "dev", "lan0", "root", "handle", "1:", "htb"]);
        let told = tc::reconcile(&both(RATE)).unwrap_err().to_string();
        assert!(told.contains("somebody else"), "{told}");
        assert!(run("tc", &["qdisc", "show", "dev", "lan0"]).contains("htb 1:"));
    });
}

/// The queue's handle is the kernel's own, another for each queue that is made.
#[test]
fn another_rate_is_set_in_its_place_and_what_waits_there_stays() {
    alone(|| {
        let client = open();
        let both = |rate| on_lan0(Shaped { down: Some(rate), up: Some(rate), ..shaped(&["192.168.2.10/32"]) });
        let queue = || {
            let listed = run("tc", &["-s", "qdisc", "show", "dev", "lan0", "parent", "7070:1234"]);
            listed.split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>()
        };
        tc::reconcile(&both(RATE)).unwrap();
        took(&client, "192.168.2.10", 100_000, true);
        let before = (queue(), counted("7070:1234"));
        tc::reconcile(&both(4 * RATE)).unwrap();
        assert_eq!(tc::differences(&both(4 * RATE)).unwrap(), []);
        assert!(before.1 > 100_000, "the class has carried {} bytes", before.1);
        assert!(counted("7070:1234") >= before.1, "the class began anew");
        if before.0[1] != "bfifo" {
            assert_eq!(queue(), before.0);
        }
        let time = took(&client, "192.168.2.10", 4 * LIMITED, true);
        assert!(time > AT_LEAST, "the new rate does not hold: {time:?}");
        // Another client is another tree.
        let other = on_lan0(Shaped { down: Some(RATE), ..shaped(&["192.168.2.11/32"]) });
        tc::reconcile(&other).unwrap();
        assert_eq!(tc::differences(&other).unwrap(), []);
    });
}

/// Bytes that went through this class on lan0.
fn counted(class: &str) -> u64 {
    let listed = run("tc", &["-s", "class", "show", "dev", "lan0", "classid", class]);
    let sent = listed.split("Sent ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{listed}"));
    sent.parse().unwrap()
}

#[test]
fn a_port_that_is_not_there_has_no_rates() {
    alone(|| {
        let wanted = on_lan0(Shaped { down: Some(RATE), ..shaped(&["10.0.0.0/8"]) });
        tc::reconcile(&wanted).unwrap();
        assert_eq!(tc::differences(&wanted).unwrap(), []);
    });
}
