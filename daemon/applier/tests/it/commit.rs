//! A change, kept and taken back, as packets see it.

use std::time::Duration;

use policy::Sources;
use policy::messages::{ApplierRequest, ApplierResponse};

use crate::applier::{Applier, anna, other_digest};
use crate::office::{BOX, FAR, Office, SSH, WEB, policy};

const PATIENCE: Duration = Duration::from_millis(400);

#[test]
fn nothing_passes_before_a_policy_and_only_what_it_permits_afterwards() {
    let office = Office::new();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    Office::listen(&office.far, &format!("{FAR}:80"));
    Office::listen(&office.far, &format!("{FAR}:22"));
    assert_eq!(applier.running(), None);
    assert!(Office::dial(&office.client, &format!("{FAR}:80"), PATIENCE).is_err());

    applier.keep(&policy("lan", WEB));
    Office::dial(&office.client, &format!("{FAR}:80"), Duration::from_secs(5)).expect("permitted");
    assert!(Office::dial(&office.client, &format!("{FAR}:22"), PATIENCE).is_err());
    assert_eq!(applier.drift(), []);
}

#[test]
fn two_capabilities_are_enough() {
    let office = Office::new();
    let mut applier = Applier::new().unprivileged();
    applier.start(&office.gate);
    let status = std::fs::read_to_string(format!("/proc/{}/status", applier.pid())).unwrap();
    assert!(status.contains("Uid:\t65534") && status.contains("CapEff:\t0000000000003000"), "{status}");
    applier.keep(&policy("lan", WEB));
    applier.apply(&policy("lan", SSH), 60);
    applier.stop();
    applier.start(&office.gate);
    assert_eq!((applier.running(), applier.drift()), (Some(1), vec![]));
    assert!(!applier.log().contains("could not be opened"), "the forwarder's sockets: {}", applier.log());
}

#[test]
fn an_administrator_who_cuts_off_their_own_access_gets_it_back() {
    let office = Office::new();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    applier.keep(&policy("lan", WEB));
    Office::listen(&office.gate, &format!("{BOX}:443"));
    Office::dial(&office.client, &format!("{BOX}:443"), Duration::from_secs(5)).expect("the pages can be reached");

    let ApplierResponse::OnTrial { generation: 2, .. } = applier.apply(&policy("wan", WEB), 2) else { panic!("{}", applier.log()) };
    assert!(Office::dial(&office.client, &format!("{BOX}:443"), PATIENCE).is_err(), "the change did not cut anybody off");
    applier.until("it goes back", Duration::from_secs(4), || applier.running() == Some(1));
    Office::dial(&office.client, &format!("{BOX}:443"), Duration::from_secs(5)).expect("the pages can be reached again");
    let event = applier.status().last_event.expect("an event").text;
    assert!(event.contains("not confirmed in time"), "{event}");
}

#[test]
fn a_digest_that_is_not_ours_is_refused_and_both_are_named() {
    let office = Office::new();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    let sources = Sources::single("box.yaml", policy("lan", WEB));
    let request = ApplierRequest::Apply { sources, digest: other_digest(), confirm_within: None, by: anna() };
    let ApplierResponse::Refused { reason, .. } = applier.ask(&request) else { panic!("not refused") };
    assert!(reason.contains(&other_digest().0), "{reason}");
    assert!(reason.matches(|c: char| c.is_ascii_hexdigit()).count() >= 128, "{reason}");
    assert_eq!(applier.running(), None);
}

#[test]
fn a_policy_with_problems_is_refused_with_all_of_them() {
    let office = Office::new();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    let sources = Sources::single("box.yaml", policy("lna", WEB));
    let request = ApplierRequest::Apply { sources, digest: other_digest(), confirm_within: None, by: anna() };
    let ApplierResponse::Refused { problems, .. } = applier.ask(&request) else { panic!("not refused") };
    assert!(!problems.is_empty());
}

#[test]
fn a_port_that_is_not_there_sends_the_change_back_before_anything_was_touched() {
    let office = Office::new();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    applier.keep(&policy("lan", WEB));
    let elsewhere = policy("lan", WEB).replace("wan0", "wan7");
    let ApplierResponse::Failed { reason, generation: 1 } = applier.apply(&elsewhere, 60) else { panic!("not failed") };
    assert!(reason.contains("wan7"), "{reason}");
    assert_eq!(applier.running(), Some(1));
    assert_eq!(applier.drift(), []);
}

#[test]
fn a_connection_that_the_new_policy_forbids_ends_and_the_others_go_on() {
    use std::io::Write;
    let office = Office::new();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    Office::listen(&office.far, &format!("{FAR}:80"));
    Office::listen(&office.far, &format!("{FAR}:22"));
    applier.keep(&policy("lan", &format!("{WEB}{SSH}")));
    let mut web = Office::dial(&office.client, &format!("{FAR}:80"), Duration::from_secs(5)).unwrap();
    let mut ssh = Office::dial(&office.client, &format!("{FAR}:22"), Duration::from_secs(5)).unwrap();
    let tracked = |port: u16| {
        let table = office.gate.command("conntrack", "-L -p tcp");
        table.lines().filter(|line| line.contains("ESTABLISHED") && line.contains(&format!("dport={port}"))).count()
    };
    assert_eq!((tracked(80), tracked(22)), (1, 1));
    applier.keep(&policy("lan", WEB));
    assert_eq!((tracked(80), tracked(22)), (1, 0));
    web.write_all(b"still there").unwrap();
    ssh.write_all(b"anybody?").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!((tracked(80), tracked(22)), (1, 0));
}

#[test]
fn sigterm_leaves_what_is_confirmed_and_takes_back_what_is_on_trial() {
    let office = Office::new();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    applier.keep(&policy("lan", WEB));
    let confirmed = office.gate.command("nft", "list table inet portcullis");
    applier.apply(&policy("lan", SSH), 60);
    assert_ne!(rules(&office.gate.command("nft", "list table inet portcullis")), rules(&confirmed));
    applier.stop();
    assert_eq!(rules(&office.gate.command("nft", "list table inet portcullis")), rules(&confirmed));
    applier.start(&office.gate);
    assert_eq!(applier.running(), Some(1));
    assert_eq!(applier.drift(), []);
}

/// Without figures that run, and without who owns the table.
fn rules(listing: &str) -> String {
    let listing = listing.replace("# progname portcullis-appl", "").replace("flags owner", "");
    let mut words = listing.split_whitespace().filter(|word| *word != "flags" && *word != "persist");
    let mut kept = vec![];
    while let Some(word) = words.next() {
        kept.push(word);
        if matches!(word, "packets" | "bytes") {
            words.next();
        }
    }
    kept.join(" ")
}
