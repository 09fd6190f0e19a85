//! Whole screens, as they stand in `screens/`. `UPDATE=1` writes them anew.

use std::fs;
use std::path::Path;

use policy::messages::rescue::RescueStatus;
use policy::messages::{DriftFinding, Status};

use crate::stand_in::{NOW, StandIn, on_trial, status};

/// The line with the clock is the first.
fn same(name: &str, screen: &str) {
    let text = screen.replace("\r\n", "\n");
    let text: Vec<&str> = text.trim_start().lines().filter(|line| !line.starts_with("PORTCULLIS ")).collect();
    let text = text.join("\n") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console/screens").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap_or_default(), "{name} is another screen now");
    assert!(text.lines().count() <= 23, "{name} is longer than a screen");
}

#[test]
fn a_box_that_is_well() {
    same("well", &StandIn::well().session().menu());
}

#[test]
fn a_trial_shows_where_it_goes_and_when() {
    let stand_in = StandIn::well();
    stand_in.applier(on_trial());
    same("trial", &stand_in.session().menu());
}

#[test]
fn safe_mode_is_the_first_thing_that_is_read() {
    let stand_in = StandIn::well();
    stand_in.applier(Status { running: None, safe_mode: Some("console".into()), ..status() });
    same("safe-mode", &stand_in.session().menu());
}

#[test]
fn a_new_box_shows_its_code_and_where_to_type_it() {
    let stand_in = StandIn::well();
    stand_in.rescue(RescueStatus { setup_code: Some("ABCDE-FGHJK-MNPQR".into()), ..RescueStatus::default() });
    same("new", &stand_in.session().menu());
}

#[test]
fn everything_that_is_broken_is_named() {
    let stand_in = StandIn::empty();
    stand_in.processes("failed", "Result=signal\\nExecMainCode=2\\nExecMainStatus=9");
    stand_in.rescue(RescueStatus { damaged: Some("config.db is damaged (file is not a database)".into()), ..RescueStatus::default() });
    let mut session = stand_in.session();
    same("broken", &session.menu());
    session.send(b"1\r");
    let all = session.expect("-- Enter goes on --");
    for wanted in ["the applier is down", "the updater is down", "the database cannot be used: config.db is damaged", "signal 9"] {
        assert!(all.contains(wanted), "{wanted} is missing in:\n{all}");
    }
    session.answer("", "said: could not open /var: \"No space left on device\"");
}

#[test]
fn status_in_full_tells_of_drift_ports_and_slots() {
    let stand_in = StandIn::well();
    let finding = DriftFinding {
        what: "chain forward".into(),
        expected: "drop".into(),
        found: "accept \u{1b}[2J caf\u{e9}".into(),
        who: None,
        at: NOW,
        repaired: false,
    };
    stand_in.applier(Status { drift: vec![finding], ..status() });
    let mut session = stand_in.session();
    session.menu();
    session.send(b"1\r");
    let all = session.expect("Enter goes back to the menu.");
    for wanted in
        ["found accept ?[2J caf?", "lan0", "02:00:00:00:00:01", "zone lan", "192.168.1.1/24", "Slot", "0.0.9: not proven, 2 tries left"]
    {
        assert!(all.contains(wanted), "{wanted} is missing in:\n{all}");
    }
}
