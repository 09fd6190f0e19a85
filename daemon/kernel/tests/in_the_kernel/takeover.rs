//! Nobody opens the gate: not another program's flush, not the death of the owner, not the take-over by the next one.
//!
//! A client floods a server through the box, whose ruleset forbids it. What arrives has leaked.

use std::net::UdpSocket;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kernel::Nft;
use nix::sched::{CloneFlags, setns};
use policy::ruleset::*;

use crate::build::*;
use crate::space::{alone, nft_load, run};

const HELD: &str = "KERNEL_TEST_HOLDS_A_TABLE";
const ROUNDS: usize = 25;

fn shut(owned: bool) -> Ruleset {
    let forward =
        Chain { base: base(ChainKind::Filter, Hook::Forward, 0, BasePolicy::Drop), rules: vec![Rule::of([Part::Counter, drop()])] };
    let mut ruleset = table(vec![], vec![("forward", forward)]);
    ruleset.tables[0].owned = owned;
    ruleset
}

/// The owner that gets killed: this test binary, started again for this one "test".
#[test]
#[ignore = "only as a child of the tests below"]
fn hold_until_killed() {
    if std::env::var_os(HELD).is_none() {
        return;
    }
    let mut nft = Nft::open().unwrap();
    nft.apply(&shut(true)).unwrap();
    println!("holding");
    std::thread::sleep(Duration::from_secs(60));
}

fn owner() -> Child {
    let generation = || Nft::open().unwrap().generation().unwrap();
    let before = generation();
    let exe = std::env::current_exe().unwrap();
    let child = Command::new(exe)
        .args(["--exact", "takeover::hold_until_killed", "--ignored"])
        .env(HELD, "1")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now();
    while generation() == before {
        assert!(patience.elapsed() < Duration::from_secs(20), "the owner does not come up");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

/// kill -9, and waits until the kernel has closed its socket.
fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn another_programs_flush_does_not_remove_an_owned_table() {
    alone(|| {
        let mut nft = Nft::open().unwrap();
        assert!(nft.features().owner && nft.features().persist, "this kernel cannot: Linux 6.9 or later is needed for this test");
        nft.apply(&shut(true)).unwrap();
        nft_load("flush ruleset").unwrap();
        assert_eq!(nft.differences(&shut(true)).unwrap(), []);
        assert!(nft_load("delete table inet portcullis").is_err(), "only the owner may");
        assert!(nft_load("add rule inet portcullis forward accept").is_err(), "only the owner may");
        // And the other way round: the next `Nft` cannot steal it while we live.
        let error = Nft::open().unwrap().apply(&shut(true)).unwrap_err().to_string();
        assert!(error.contains("table inet portcullis"), "{error}");
        assert_eq!(nft.differences(&shut(true)).unwrap(), []);
    });
}

#[test]
fn a_dead_owners_table_stays_and_the_next_adopts_it_without_a_gap() {
    alone(|| {
        let flood = Flood::through_this_box("own");
        let mut next = owner();
        assert!(flood.is_running());
        flood.forget();
        for _ in 0..ROUNDS {
            kill(next);
            let mut reader = Nft::open().unwrap();
            let told = reader.differences(&shut(true)).unwrap();
            assert_eq!(told.len(), 1, "{told:?}");
            assert_eq!(told[0].found, "flags persist (its owner is gone)");
            next = owner();
            assert_eq!(reader.differences(&shut(true)).unwrap(), [], "adopted");
        }
        kill(next);
        let mut ours = Nft::open().unwrap();
        ours.apply(&shut(true)).unwrap();
        flood.wait_for(1000);
        assert_eq!(flood.arrived(), 0, "of {} packets some leaked", flood.sent());
        assert!(ours.text(&["portcullis"]).unwrap().contains("flags owner,persist"));
    });
}

/// The control: what the tests above guard against does leak, and the flood sees it.
#[test]
fn a_plain_table_leaks_when_it_is_flushed_and_loaded_again() {
    alone(|| {
        let flood = Flood::through_this_box("plain");
        let mut nft = Nft::open().unwrap();
        nft.apply(&shut(false)).unwrap();
        flood.forget();
        for _ in 0..ROUNDS {
            nft_load("flush ruleset").unwrap();
            std::thread::sleep(Duration::from_millis(2));
            nft.apply(&shut(false)).unwrap();
        }
        assert!(flood.arrived() > 0, "the flood of {} packets cannot see a leak", flood.sent());
    });
}

/// The other control, and why `apply` refuses such chains: here only the policy drops, and the new chain gets it late.
#[test]
fn a_chain_that_leaves_dropping_to_its_policy_opens_while_it_is_replaced() {
    alone(|| {
        let flood = Flood::through_this_box("policy");
        let mut ruleset = shut(false);
        ruleset.tables[0].chains.get_mut("forward").unwrap().rules.clear();
        let error = Nft::open().unwrap().apply(&ruleset).unwrap_err().to_string();
        assert!(error.contains("chain forward") && error.contains("open for a moment"), "{error}");
        // The more the transaction removes, the longer the moment.
        ruleset.tables[0].chains.extend((0..5000).map(|number| (format!("z{number}"), chain(vec![]))));
        let script = ruleset.script();
        nft_load(&script).unwrap();
        flood.forget();
        for _ in 0..100 {
            nft_load(&script).unwrap();
            if flood.arrived() > 0 {
                return;
            }
        }
        panic!("not one of {} packets leaked: is the rule against such chains still needed on this kernel?", flood.sent());
    });
}

#[test]
fn replacing_the_ruleset_again_and_again_never_opens_it() {
    alone(|| {
        let flood = Flood::through_this_box("again");
        let mut nft = Nft::open().unwrap();
        nft.apply(&shut(true)).unwrap();
        flood.forget();
        for _ in 0..200 {
            nft.apply(&shut(true)).unwrap();
        }
        flood.wait_for(200);
        assert_eq!(flood.arrived(), 0);
    });
}

/// A client and a server, each in its own namespace, and the calling thread's namespace as the box between them.
struct Flood {
    names: [String; 2],
    stop: Arc<AtomicBool>,
    /// Each packet carries the epoch in which it was sent, so that one of before, that comes late, is no leak.
    epoch: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    arrived: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn through_this_box(story: &str) -> Flood {
        let names = ["client", "server"].map(|end| format!("kern-{}-{story}-{end}", std::process::id()));
        for (index, (name, side)) in names.iter().zip(["10.1.0", "10.2.0"]).enumerate() {
            let (port, peer) = (format!("box{index}"), format!("end{index}"));
            run("ip", &["netns", "add", name]);
            run("ip", &["link", "add", &port, "type", "veth", "peer", "name", &peer, "netns", name]);
            run("ip", &["addr", "add", &format!("{side}.1/24"), "dev", &port]);
            run("ip", &["link", "set", &port, "up"]);
            run("ip", &["-n", name, "addr", "add", &format!("{side}.2/24"), "dev", &peer]);
            run("ip", &["-n", name, "link", "set", &peer, "up"]);
            run("ip", &["-n", name, "route", "add", "default", "via", &format!("{side}.1")]);
        }
        kernel::sysctl::write(&[("net/ipv4/ip_forward".to_owned(), "1".to_owned())].into()).unwrap();
        let mut flood = Flood {
            names,
            stop: Arc::default(),
            epoch: Arc::default(),
            sent: Arc::default(),
            arrived: Arc::default(),
            threads: Vec::new(),
        };
        let (stop, epoch, sent, name) = (flood.stop.clone(), flood.epoch.clone(), flood.sent.clone(), flood.names[0].clone());
        flood.threads.push(std::thread::spawn(move || {
            enter(&name);
            let socket = UdpSocket::bind("10.1.0.2:0").unwrap();
            while !stop.load(Ordering::Relaxed) {
                let stamp = epoch.load(Ordering::SeqCst).to_be_bytes();
                if socket.send_to(&stamp, "10.2.0.2:9").is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        }));
        let (stop, epoch, arrived, name) = (flood.stop.clone(), flood.epoch.clone(), flood.arrived.clone(), flood.names[1].clone());
        flood.threads.push(std::thread::spawn(move || {
            enter(&name);
            let socket = UdpSocket::bind("10.2.0.2:9").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let mut stamp = [0; 8];
                if socket.recv(&mut stamp).is_ok() && u64::from_be_bytes(stamp) == epoch.load(Ordering::SeqCst) {
                    arrived.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
        // The way is open before any ruleset stands.
        let patience = Instant::now();
        while flood.arrived() == 0 {
            assert!(patience.elapsed() < Duration::from_secs(10), "no packet gets through an open box");
            std::thread::sleep(Duration::from_millis(5));
        }
        flood
    }

    fn is_running(&self) -> bool {
        let before = self.sent();
        std::thread::sleep(Duration::from_millis(50));
        self.sent() > before
    }

    /// Counts anew: only what is sent from now on.
    fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.arrived.store(0, Ordering::SeqCst);
        self.sent.store(0, Ordering::SeqCst);
    }

    fn wait_for(&self, packets: u64) {
        let patience = Instant::now();
        while self.sent() < packets {
            assert!(patience.elapsed() < Duration::from_secs(20), "{} packets are no flood", self.sent());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn enter(name: &str) {
    let space = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
    setns(space, CloneFlags::CLONE_NEWNET).unwrap();
}
