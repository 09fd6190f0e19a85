//! Mapped clients on the real kernel: let in while everything speaks for it, and shut out by whatever dies.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use policy::messages::forwarder::{FromForwarder, ToForwarder};
use policy::messages::proxy::{Blocked, ProxyStatus};
use policy::messages::{ApplierRequest, ApplierResponse};
use policy::name::Name;

use crate::applier::{Applier, anna};
use crate::forwarder::{Forwarder, Manner, WELL};
use crate::namespace::Namespace;
use crate::office::{FAR, Office, WEB, policy};

const SOON: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_millis(400);
/// What the applier promises between an upstream's death and a shut door.
const SHUT_WITHIN: Duration = Duration::from_secs(1);

/// The office's client has one way out, and that is `lon`.
fn mapped(more: &str) -> String {
    let mapping = format!(
        "---
apiVersion: portcullis/v1
kind: Upstream
metadata: {{ name: lon }}
spec: {{ type: socks5, address: 203.0.113.1, port: 1080, passwordSecret: london, username: box, expectExit: [198.51.100.0/24] }}
---
apiVersion: portcullis/v1
kind: ProxyMapping
metadata: {{ name: kids }}
spec: {{ clients: [192.168.2.10], upstream: lon{more} }}
"
    );
    format!("{}\n{mapping}", policy("lan", WEB).trim_end())
}

struct Desk {
    office: Office,
    applier: Applier,
}

impl Desk {
    fn new() -> Desk {
        Desk::with(Applier::new())
    }

    fn with(applier: Applier) -> Desk {
        let mut desk = Desk { office: Office::new(), applier: applier.with("--forwarder-user", "0") };
        desk.applier.start(&desk.office.gate);
        // The far end answers whatever leaves directly: it must not.
        Office::listen(&desk.office.far, &format!("{FAR}:80"));
        assert_eq!(desk.secret("swordfish"), ApplierResponse::Done);
        desk
    }

    fn secret(&self, value: &str) -> ApplierResponse {
        self.applier.ask(&ApplierRequest::SetSecret { name: "london".into(), value: value.into(), by: anna() })
    }

    fn status(&self) -> ProxyStatus {
        match self.applier.ask(&ApplierRequest::Proxy) {
            ApplierResponse::Proxy(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn permits(&self) -> usize {
        permits(&self.office.gate)
    }

    fn is_let_in(&self) -> bool {
        Office::dial(&self.office.client, &format!("{FAR}:80"), PATIENCE).is_ok()
    }

    /// How long until nobody is let in.
    fn shut_after(&self, deed: impl FnOnce()) -> Duration {
        let begun = Instant::now();
        deed();
        while self.permits() > 0 {
            assert!(begun.elapsed() < SOON, "the door stays open; the log:\n{}", self.applier.log());
        }
        begun.elapsed()
    }
}

fn permits(gate: &Namespace) -> usize {
    gate.command("nft", "list set inet portcullis proxy_permits").matches("expires").count()
}

#[test]
fn a_mapped_client_reaches_the_forwarder_and_nothing_else_while_everything_speaks_for_it() {
    let desk = Desk::new();
    let forwarder = Forwarder::connect(&desk.applier, WELL);
    let generation = desk.applier.keep(&mapped(""));
    let told = forwarder.hears(|message| matches!(message, ToForwarder::Become { generation: told, .. } if *told == generation));
    let ToForwarder::Become { secrets, own, .. } = told else { panic!("{told:?}") };
    assert_eq!(secrets, BTreeMap::from([("london".to_owned(), "swordfish".to_owned())]));
    assert!(own.contains(&"203.0.113.2".parse().unwrap()), "{own:?}");
    let status = desk.status();
    assert!(status.mappings.values().all(|effect| effect.permitted) && status.forwarder_connected, "{status:?}");
    let connection = Office::dial(&desk.office.client, &format!("{FAR}:80"), SOON).expect("let in");
    drop(connection);
    let accepted = (0..2).any(|worker| {
        let listener = forwarder.listener(worker);
        listener.set_nonblocking(true).unwrap();
        listener.accept().is_ok()
    });
    assert!(accepted, "it ended elsewhere");
    assert_eq!(desk.applier.drift(), []);
}

#[test]
fn whatever_dies_or_says_down_shuts_the_door_at_once() {
    let desk = Desk::new();
    let mut forwarder = Forwarder::connect(&desk.applier, WELL);
    desk.applier.keep(&mapped(""));
    assert!(desk.is_let_in());
    let down = desk.shut_after(|| forwarder.says_all(false));
    assert!(!desk.is_let_in());
    let ended = forwarder.hears(|message| matches!(message, ToForwarder::End { .. }));
    assert!(matches!(ended, ToForwarder::End { why, .. } if why.contains("refused")));
    forwarder.says_all(true);
    desk.applier.until("it is let in again", SHUT_WITHIN, || desk.permits() == 1);
    let dead = desk.shut_after(|| forwarder.dies());
    assert!(!desk.is_let_in());
    println!("shut {down:?} after an upstream's death and {dead:?} after the forwarder's, nft's own time included");
    assert!(down < SHUT_WITHIN && dead < SHUT_WITHIN);
    assert!(matches!(desk.status().mappings.values().next().unwrap().blocked, Some(Blocked::NoForwarder)));
}

#[test]
fn permits_lapse_without_the_applier_and_come_back_only_with_the_forwarders_word() {
    let mut desk = Desk::with(Applier::new().with("--permits-last", "2"));
    let mut forwarder = Forwarder::connect(&desk.applier, WELL);
    desk.applier.keep(&mapped(""));
    std::thread::sleep(Duration::from_secs(3));
    assert!(desk.is_let_in(), "it was not renewed");
    let begun = Instant::now();
    desk.applier.kill();
    while desk.permits() > 0 {
        assert!(begun.elapsed() < SOON, "permits do not lapse");
    }
    println!("lapsed {:?} after the applier was killed", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_millis(2500) && !desk.is_let_in());

    desk.applier.start(&desk.office.gate);
    assert!(!desk.is_let_in(), "let in before anybody said a word");
    forwarder = {
        drop(forwarder);
        Forwarder::connect(&desk.applier, Manner { becomes: false, ..WELL })
    };
    std::thread::sleep(Duration::from_millis(300));
    forwarder.says_all(true);
    assert!(!desk.is_let_in(), "let in although the forwarder carries something else");
    forwarder.says(&FromForwarder::Became { generation: forwarder.carries() });
    forwarder.says_all(true);
    desk.applier.until("it is let in", SHUT_WITHIN, || desk.permits() == 1);
    assert!(desk.is_let_in());
}

#[test]
fn a_change_whose_upstream_is_dead_goes_back_and_names_it_and_what_ran_goes_on() {
    let desk = Desk::new();
    let forwarder = Forwarder::connect(&desk.applier, WELL);
    let kept = desk.applier.keep(&mapped(""));
    for (exit, said) in
        [(None, "connection refused"), (Some("203.0.113.2"), "this box itself"), (Some("192.0.2.1"), "not in 198.51.100.0/24")]
    {
        forwarder.changes(Manner { becomes: true, exit });
        let ApplierResponse::Failed { reason, generation } = desk.applier.apply(&mapped(", udp: false"), 60) else { panic!("{exit:?}") };
        assert!(reason.contains("mapping kids") && reason.contains("upstream lon") && reason.contains(said), "{reason}");
        assert_eq!(generation, kept);
        forwarder.changes(WELL);
        assert!(matches!(desk.applier.ask(&ApplierRequest::ProbeUpstreams { upstreams: vec![] }), ApplierResponse::Done));
        forwarder.hears(|message| matches!(message, ToForwarder::Become { generation, .. } if *generation == kept));
    }
    // A change that leaves the mapping as it is asks no upstream.
    forwarder.changes(Manner { becomes: true, exit: None });
    let other = mapped("").replace("tcp/80", "tcp/81");
    assert!(matches!(desk.applier.apply(&other, 60), ApplierResponse::OnTrial { .. }));
}

#[test]
fn without_a_forwarder_or_a_secret_a_new_mapping_is_refused_and_says_why() {
    let desk = Desk::new();
    let begun = Instant::now();
    let ApplierResponse::Failed { reason, .. } = desk.applier.apply(&mapped(""), 60) else { panic!("not failed") };
    assert!(reason.contains("forwarder is not there"), "{reason}");
    assert!(begun.elapsed() < Duration::from_secs(13), "{:?}", begun.elapsed());
    assert_eq!(desk.secret(""), ApplierResponse::Done);
    let ApplierResponse::Failed { reason, .. } = desk.applier.apply(&mapped(""), 60) else { panic!("not failed") };
    assert!(reason.contains("secret london is not set"), "{reason}");
    assert!(matches!(desk.applier.apply(&mapped(", enabled: false"), 60), ApplierResponse::OnTrial { .. }), "what is off proves nothing");
}

#[test]
fn a_secret_that_is_removed_shuts_the_door_and_a_quota_that_is_spent_too_over_a_restart() {
    let mut desk = Desk::new();
    let mut forwarder = Forwarder::connect(&desk.applier, WELL);
    desk.applier.keep(&mapped(", dailyMb: 1"));
    assert!(desk.is_let_in());
    desk.shut_after(|| drop(desk.secret("")));
    assert_eq!(desk.status().secrets_missing, ["london"]);
    desk.secret("swordfish");
    desk.applier.until("it is let in again", SHUT_WITHIN, || desk.permits() == 1);
    let kids = || Name::try_from("kids").unwrap();
    let spent = FromForwarder::Usage { bytes: BTreeMap::from([(kids(), 1_100_000)]) };
    desk.shut_after(|| forwarder.says(&spent));
    assert_eq!(desk.status().mappings[&kids()].blocked, Some(Blocked::DailyQuota));
    std::thread::sleep(Duration::from_millis(300));
    desk.applier.kill();
    desk.applier.start(&desk.office.gate);
    let _again = Forwarder::connect(&desk.applier, WELL);
    desk.applier.until("it is told again", SOON, || desk.status().mappings[&kids()].today == 1_100_000);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((desk.permits(), desk.status().mappings[&kids()].blocked.clone()), (0, Some(Blocked::DailyQuota)));
}

#[test]
fn rates_are_the_kernels_and_drift_like_everything_else() {
    let desk = Desk::new();
    let _forwarder = Forwarder::connect(&desk.applier, WELL);
    desk.applier.keep(&mapped(", downMbit: 8"));
    assert!(desk.office.gate.command("tc", "class show dev lan0").contains("8Mbit"));
    assert_eq!(desk.applier.drift(), []);
    desk.office.gate.command("tc", "qdisc del dev lan0 root");
    assert!(desk.applier.drift().iter().any(|finding| finding.repaired));
    assert!(desk.office.gate.command("tc", "class show dev lan0").contains("8Mbit"));
    desk.applier.keep(&policy("lan", WEB));
    assert!(!desk.office.gate.command("tc", "class show dev lan0").contains("8Mbit"));
}

#[test]
fn permits_come_back_when_the_table_was_repaired() {
    let desk = Desk::new();
    let _forwarder = Forwarder::connect(&desk.applier, WELL);
    desk.applier.keep(&mapped(""));
    desk.office.gate.command("nft", "flush ruleset");
    desk.applier.until("it is let in again", SOON, || desk.applier.drift().is_empty() && desk.is_let_in());
}

#[test]
fn a_storm_of_messages_and_garbage_do_not_hold_the_applier_up() {
    let desk = Desk::new();
    let _first = Forwarder::connect(&desk.applier, WELL);
    let generation = desk.applier.keep(&mapped(""));
    let storm = policy::messages::encode(&FromForwarder::Became { generation }).unwrap().repeat(100_000);
    let mut other = std::os::unix::net::UnixStream::connect(desk.applier.folder.path().join("forwarder-link.sock")).unwrap();
    let thread = std::thread::spawn({
        let mut stream = other.try_clone().unwrap();
        move || std::io::Write::write_all(&mut stream, &storm).ok()
    });
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let begun = Instant::now();
        desk.applier.status();
        longest = longest.max(begun.elapsed());
    }
    println!("at most {longest:?} for an answer during a storm");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    thread.join().unwrap();
    assert!(std::io::Write::write_all(&mut other, b"\0\0\0\x02[]").is_ok());
    let mut rest = vec![];
    other.set_read_timeout(Some(SOON)).unwrap();
    other.read_to_end(&mut rest).ok();
    desk.applier.until("it hangs up", SOON, || !desk.status().forwarder_connected);
    let _second = Forwarder::connect(&desk.applier, WELL);
    desk.applier.until("it is let in again", SOON, || desk.permits() == 1);
}
