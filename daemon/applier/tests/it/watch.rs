//! What others do to the kernel, what the clock does to a policy, and what a start finds.

use std::time::Duration;

use policy::messages::ApplierResponse;

use crate::applier::Applier;
use crate::office::{Office, WEB, policy};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn what_others_change_is_told_and_repaired() {
    let office = Office::new();
    let mut applier = Applier::new().with("--drift-every", "0.5");
    applier.start(&office.gate);
    applier.keep(&policy("lan", WEB));
    for (deed, shown) in [
        ("addr del 203.0.113.2/24 dev wan0", "link wan0"),
        ("rule del pref 100", "rule"),
        ("route del default", "route"),
        ("link set lan0 mtu 1300 down", "link lan0"),
    ] {
        office.gate.ip(deed);
        applier.until(deed, SOON, || {
            let drift = applier.status().drift;
            drift.iter().any(|finding| finding.what.contains(shown)) && drift.iter().all(|finding| finding.repaired)
        });
        assert_eq!(applier.drift(), [], "after {deed}");
    }
    office.gate.command("sysctl", "-q -w net.ipv4.ip_forward=0");
    applier.until("the setting", SOON, || office.gate.command("sysctl", "-n net.ipv4.ip_forward").trim() == "1");
}

#[test]
fn what_others_change_is_only_told_where_the_policy_says_so() {
    let office = Office::new();
    let mut applier = Applier::new().with("--drift-every", "0.5");
    applier.start(&office.gate);
    applier.keep(&policy("lan", WEB).replace("drift: repair", "drift: report"));
    office.gate.ip("addr del 203.0.113.2/24 dev wan0");
    applier.until("it is told", SOON, || applier.status().drift.iter().any(|finding| !finding.repaired));
    assert!(!office.gate.ip("addr show dev wan0").contains("203.0.113.2"), "it was repaired");
}

#[test]
fn while_the_applier_lives_nobody_else_can_change_its_table() {
    let office = Office::new();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    applier.keep(&policy("lan", WEB));
    let before = applier.status();
    if before.features.contains(&"table-owner".to_owned()) {
        let refused =
            office.gate.run(|| std::process::Command::new("nft").args(["delete", "table", "inet", "portcullis"]).output().unwrap());
        assert!(!refused.status.success());
        office.gate.command("nft", "flush ruleset");
    } else {
        office.gate.command("nft", "flush ruleset");
        applier.until("the stranger is named", SOON, || {
            applier.status().drift.iter().any(|finding| finding.repaired && finding.who.as_deref().is_some_and(|who| who.contains("nft")))
        });
    }
    assert_eq!(applier.drift(), []);
}

#[test]
fn a_schedule_that_is_open_lives_on_a_timeout_that_the_kernel_keeps_alone() {
    let office = Office::new();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    let rule =
        WEB.replace("action:", "schedule: { days: [mon, tue, wed, thu, fri, sat, sun], from: \"00:00\", until: \"24:00\" }, action:");
    applier.keep(&policy("lan", &rule));
    applier.kill();
    let table = office.gate.command("nft", "list table inet portcullis");
    assert!(table.contains("expires 9m") || table.contains("timeout 10m"), "{table}");
}

#[test]
fn a_box_that_never_had_a_policy_takes_the_one_it_came_with() {
    let office = Office::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("factory.yaml");
    std::fs::write(&file, policy("lan", WEB)).unwrap();
    let mut applier = Applier::new().with("--factory-policy", file.to_string_lossy());
    applier.start(&office.gate);
    let status = applier.status();
    assert_eq!((status.last_confirmed, status.running.map(|generation| generation.by)), (Some(1), Some("factory".into())));
}

#[test]
fn a_port_that_is_gone_at_start_does_not_keep_the_rest_from_standing() {
    let office = Office::new();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    applier.keep(&policy("lan", WEB));
    applier.kill();
    office.gate.ip("link del wan0");
    applier.start(&office.gate);
    let status = applier.status();
    assert_eq!(status.running.map(|generation| generation.number), Some(1));
    assert!(status.last_event.unwrap().text.contains("no interface wan0"));
    assert!(applier.drift().iter().any(|finding| finding.what.contains("wan0")));
}

#[test]
fn a_disk_without_space_refuses_the_change_and_leaves_the_box_as_it_is() {
    let office = Office::new();
    let mut applier = Applier::new();
    std::fs::create_dir(applier.state()).unwrap();
    let place = applier.state().to_string_lossy().into_owned();
    office.gate.command("mount", &format!("-t tmpfs -o size=64k portcullis-test {place}"));
    applier.start(&office.gate);
    applier.keep(&policy("lan", WEB));
    let long = format!("{}# {}\n", policy("lan", WEB), "long ".repeat(20_000));
    let response = applier.apply(&long, 60);
    let running = applier.running();
    let again = applier.apply(&policy("lan", WEB), 60);
    applier.kill();
    office.gate.command("umount", &place);
    let ApplierResponse::Refused { reason, .. } = response else { panic!("{response:?}") };
    assert!(reason.contains("No space left"), "{reason}");
    assert_eq!(running, Some(1));
    assert!(matches!(again, ApplierResponse::OnTrial { .. }), "{again:?}");
}
