//! Every item of the menu, with what it asks of whom.

use policy::messages::ApplierRequest;
use policy::messages::rescue::{RescueRequest, RescueStatus};
use policy::messages::updater::UpdaterRequest;

use crate::stand_in::{StandIn, on_trial, status};

fn asked<T: Clone>(of: &std::sync::Mutex<Vec<T>>, wanted: impl Fn(&T) -> bool) -> usize {
    of.lock().unwrap().iter().filter(|request| wanted(request)).count()
}

#[test]
fn a_trial_is_confirmed_or_ended() {
    let stand_in = StandIn::well();
    stand_in.applier(on_trial());
    let mut session = stand_in.session();
    session.choose("2", &[("", "Generation 8 is confirmed")]);
    session.choose("3", &[("", "Generation 7 runs again")]);
    let is_confirm = |request: &ApplierRequest| matches!(request, ApplierRequest::Confirm { generation: 8, by } if by.name == "console");
    assert_eq!(asked(&stand_in.applier, is_confirm), 1);
    assert_eq!(asked(&stand_in.applier, |request| matches!(request, ApplierRequest::GoBack { generation: None, .. })), 1);
}

#[test]
fn with_nothing_on_trial_nothing_is_asked_of_the_box() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    session.choose("2", &[("", "nothing is on trial")]);
    session.choose("3", &[("", "nothing is on trial")]);
    assert_eq!(asked(&stand_in.applier, |request| matches!(request, ApplierRequest::Confirm { .. } | ApplierRequest::GoBack { .. })), 0);
}

#[test]
fn an_earlier_generation_goes_on_trial() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    session.choose("4", &[("", "generation 6 by ada"), ("99", "\"99\" is not the number of one of these")]);
    session.choose("4", &[("", "run on trial?"), ("6", "runs on trial as generation 9")]);
    assert_eq!(asked(&stand_in.applier, |request| matches!(request, ApplierRequest::GoBack { generation: Some(6), .. })), 1);
}

#[test]
fn a_port_is_repaired_by_a_change_of_the_policy_on_trial() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    let steps = [
        ("", "Which port"),
        ("1", "Its zone (lan)"),
        ("lan", "Its address"),
        ("10.9.8.1/24", "The gateway"),
        ("10.9.8.254", "Type yes"),
        ("yes", "Generation 9 is on trial"),
    ];
    session.choose("5", &steps);
    let applied = stand_in.applier.lock().unwrap().iter().find_map(|request| match request {
        ApplierRequest::Apply { sources, digest, confirm_within, by } => {
            Some((sources.clone(), digest.clone(), *confirm_within, by.clone()))
        }
        _ => None,
    });
    let (sources, digest, confirm_within, by) = applied.unwrap();
    let judged = policy::judge(&sources).unwrap();
    assert_eq!(judged.digest, digest);
    assert_eq!((confirm_within, by.name.as_str()), (Some(300), "console"));
    let config = judged.checked.config();
    let (_, port) = config.interfaces.iter().next().unwrap();
    assert_eq!(port.spec.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.9.8.1/24"]);
    assert_eq!(config.routes.len(), 1);
}

#[test]
fn a_repair_with_problems_says_all_of_them_and_changes_nothing() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    let said = session.choose(
        "5",
        &[("", "Which port"), ("1", "Its zone"), ("nowhere", "Its address"), ("10.9.8.300", "The gateway"), ("", "nothing was changed")],
    );
    assert!(said.contains("10.9.8.300"), "{said}");
    assert_eq!(asked(&stand_in.applier, |request| matches!(request, ApplierRequest::Apply { .. })), 0);
}

#[test]
fn a_box_without_a_policy_gets_its_first_one_at_the_console() {
    let stand_in = StandIn::well();
    stand_in.applier(policy::messages::Status { running: None, last_confirmed: None, kept: vec![], ..status() });
    let mut session = stand_in.session();
    session.choose(
        "5",
        &[
            ("", "Which port"),
            ("1", "Its zone"),
            ("lan", "Its address"),
            ("192.168.1.1/24", "The gateway"),
            ("", "Type yes"),
            ("yes", "on trial"),
        ],
    );
    assert_eq!(asked(&stand_in.applier, |request| matches!(request, ApplierRequest::Apply { .. })), 1);
}

#[test]
fn a_password_is_typed_twice_and_never_shown() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    session.choose(
        "6",
        &[("", "Whose password"), ("ada", "New password"), ("one long password", "The same again"), ("another password", "not the same")],
    );
    let said = session.choose(
        "6",
        &[
            ("", "Whose password"),
            ("ada", "New password"),
            ("seven green bottles", "The same again"),
            ("seven green bottles", "The stand-in did it"),
        ],
    );
    assert!(!said.contains("bottles"), "the password was shown:\n{said}");
    let wanted = RescueRequest::ResetPassword { user: "ada".into(), password: "seven green bottles".into() };
    assert_eq!(asked(&stand_in.rescue, |request| *request == wanted), 1);
    session.choose("6", &[("", "Whose password"), ("ada", "New password"), ("short", "The same again"), ("short", "12 to 256 characters")]);
}

#[test]
fn a_login_shell_is_allowed_by_an_admin_alone_and_opens_at_the_box_alone() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    session.choose("7", &[("", "No login shell is allowed"), ("ada", "Password"), ("seven green bottles", "The stand-in did it")]);
    assert_eq!(
        asked(&stand_in.rescue, |request| matches!(request, RescueRequest::AllowShell { allow: true, name, .. } if name == "ada")),
        1
    );
    stand_in.rescue(RescueStatus { admins: vec!["ada".into()], shell_allowed: true, ..RescueStatus::default() });
    // A pty is no terminal of the box's own.
    session.choose("7", &[("", "Type open, forbid"), ("open", "own screen or serial line alone")]);
    session.choose("7", &[("", "Type open, forbid"), ("forbid", "The stand-in did it")]);
    session.choose("7", &[("", "Type open, forbid"), ("sesame", "neither open nor forbid")]);
}

#[test]
fn safe_mode_is_switched_on_and_left() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    session.choose("8", &[("", "Type yes"), ("no", "Nothing was changed")]);
    session.choose("8", &[("", "Type yes"), ("yes", "Safe mode is on.")]);
    assert_eq!(asked(&stand_in.applier, |request| matches!(request, ApplierRequest::SafeMode { .. })), 1);
    stand_in.applier(policy::messages::Status { running: None, safe_mode: Some("console".into()), ..status() });
    session.choose("8", &[("", "Leaving it"), ("yes", "Generation 7 runs again")]);
}

#[test]
fn reboot_power_off_and_the_other_slot_are_asked_for_twice() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    for number in ["9", "10", "11"] {
        session.choose(number, &[("", "Type yes"), ("y", "Nothing was changed")]);
    }
    assert_eq!(asked(&stand_in.updater, |request| !matches!(request, UpdaterRequest::Status)), 0);
    session.choose("9", &[("", "Type yes"), ("yes", "reboots into the other slot")]);
    session.choose("10", &[("", "Type yes"), ("yes", "The box reboots")]);
    session.choose("11", &[("", "Type yes"), ("yes", "switches itself off")]);
    for wanted in ["BootOther", "Reboot", "PowerOff"] {
        assert_eq!(asked(&stand_in.updater, |request| format!("{request:?}").starts_with(wanted)), 1, "{wanted}");
    }
}

#[test]
fn everything_is_forgotten_only_for_the_whole_phrase() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    for wrong in ["yes", "forget", "Forget Everything"] {
        session.choose("12", &[("", "type: forget everything"), (wrong, "not the phrase")]);
    }
    session.choose("12", &[("", "type: forget everything"), ("", "Nothing was changed")]);
    session.choose("12", &[("", "type: forget everything"), ("forget everything", "forgets everything and reboots")]);
    assert_eq!(asked(&stand_in.updater, |request| matches!(request, UpdaterRequest::FactoryReset { .. })), 1);
}

#[test]
fn diagnostics_lie_on_the_stick() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    session.choose("13", &[("", "sda1 \"KEYS\" vfat, 512 MiB free"), ("1", "4711 bytes, lies on the stick")]);
    assert_eq!(asked(&stand_in.updater, |request| matches!(request, UpdaterRequest::WriteToStick { stick, .. } if stick == "sda1")), 1);
}

#[test]
fn a_new_database_is_begun_only_where_the_old_one_is_damaged() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    session.choose("14", &[("", "no need for a new one")]);
    stand_in.rescue(RescueStatus { damaged: Some("file is not a database".into()), ..RescueStatus::default() });
    session.choose("6", &[("", "Choose 14 to begin a new one")]);
    session.choose("14", &[("", "Type yes"), ("yes", "The stand-in did it")]);
    assert_eq!(asked(&stand_in.rescue, |request| *request == RescueRequest::StartAnew), 1);
}
