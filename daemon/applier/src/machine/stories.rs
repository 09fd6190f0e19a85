//! The machine told stories, one behaviour each.

use super::properties::world::World;
use super::*;

fn principal(name: &str, connected_at: Option<u64>) -> Principal {
    Principal { name: name.into(), address: None, connected_at }
}

/// A box on which generation 1 is confirmed.
fn confirmed_box() -> World {
    let mut world = World::new();
    world.apply("anna");
    world.pass(1);
    world.confirm_new_connection("anna", 1);
    assert_eq!(world.kernel(), Some(1));
    assert_eq!(world.disk.confirmed, Some(1));
    world
}

#[test]
fn a_new_box_is_locked_down() {
    let world = World::new();
    assert_eq!(world.kernel(), None);
    assert!(world.machine.summary().contains("locked down"));
}

#[test]
fn an_unconfirmed_change_goes_back() {
    let mut world = confirmed_box();
    world.apply("anna");
    assert_eq!(world.kernel(), Some(2));
    world.pass(59);
    assert_eq!(world.kernel(), Some(2));
    world.pass(1);
    assert_eq!(world.kernel(), Some(1));
    assert_eq!(world.disk.trial, None);
}

#[test]
fn the_first_change_of_all_goes_back_to_lockdown() {
    let mut world = World::new();
    world.apply("anna");
    world.pass(60);
    assert_eq!(world.kernel(), None);
}

#[test]
fn a_second_change_during_a_trial_is_told_who_and_until_when() {
    let mut world = confirmed_box();
    world.apply("anna");
    let ApplierResponse::Refused { reason, .. } = world.apply("ben") else { panic!("not refused") };
    assert!(reason.contains("generation 2 by anna is on trial until 20"), "{reason}");
}

#[test]
fn nobody_else_confirms() {
    let mut world = confirmed_box();
    world.apply("anna");
    world.pass(1);
    let wall = world.now.wall;
    let reply = world.request(ApplierRequest::Confirm { generation: 2, by: principal("ben", Some(wall)) });
    assert!(matches!(reply, Some(ApplierResponse::Refused { reason, .. }) if reason.contains("only they can confirm")));
    assert_eq!(world.disk.confirmed, Some(1));
}

#[test]
fn a_connection_from_before_the_change_does_not_confirm() {
    let mut world = confirmed_box();
    let before = world.now.wall;
    world.pass(1);
    world.apply("anna");
    world.pass(5);
    let reply = world.request(ApplierRequest::Confirm { generation: 2, by: principal("anna", Some(before)) });
    assert!(matches!(reply, Some(ApplierResponse::Refused { reason, .. }) if reason.contains("older than generation 2")));
    // The local caller's own connection counts, and this one is old as well.
    let old = world.caller_opened(Duration::ZERO);
    let reply = world.request_from(old, ApplierRequest::Confirm { generation: 2, by: principal("anna", None) });
    assert!(matches!(reply, Some(ApplierResponse::Refused { .. })));
}

#[test]
fn a_clock_set_back_or_forth_neither_confirms_nor_prolongs() {
    for jump in [-3_600_000_i64, -3_000, 3_000, 3_600_000] {
        let mut world = confirmed_box();
        let before = world.now.wall;
        world.pass(1);
        world.jump(jump);
        world.apply("anna");
        world.jump(-jump);
        world.pass(1);
        let reply = world.request(ApplierRequest::Confirm { generation: 2, by: principal("anna", Some(before)) });
        assert!(matches!(reply, Some(ApplierResponse::Refused { .. })), "jump {jump}");
        world.pass(59);
        assert_eq!(world.kernel(), Some(1), "jump {jump}");
    }
}

#[test]
fn a_policy_file_that_changed_by_itself_is_confirmed_by_whoever_sees_that_it_works() {
    let mut world = confirmed_box();
    world.apply("hot-reload");
    world.pass(1);
    world.confirm_new_connection("anna", 2);
    assert_eq!(world.disk.confirmed, Some(2));
}

#[test]
fn a_full_disk_refuses_the_change_and_touches_nothing() {
    for broken in ["save", "record"] {
        let mut world = confirmed_box();
        world.fail_next(broken);
        let ApplierResponse::Refused { reason, .. } = world.apply("anna") else { panic!("not refused") };
        assert!(reason.contains("nothing was changed"), "{reason}");
        assert_eq!(world.installs, 1, "the kernel was touched");
        assert!(matches!(world.apply("anna"), ApplierResponse::OnTrial { .. }));
    }
}

#[test]
fn what_cannot_be_installed_goes_back_and_says_so() {
    let mut world = confirmed_box();
    world.fail_next("install");
    let ApplierResponse::Failed { reason, generation: 1 } = world.apply("anna") else { panic!("not failed") };
    assert!(reason.contains("could not be installed"), "{reason}");
    assert_eq!(world.kernel(), Some(1));
    assert_eq!(world.disk.trial, None);
}

#[test]
fn when_going_back_fails_too_the_box_is_shut_and_tries_again() {
    let mut world = confirmed_box();
    world.fail_next("install");
    world.fail_next("install");
    let ApplierResponse::Failed { reason, generation: 0 } = world.apply("anna") else { panic!("not failed") };
    assert!(reason.contains("locked down"), "{reason}");
    assert_eq!(world.kernel(), None);
    world.pass(5);
    assert_eq!(world.kernel(), Some(1));
}

#[test]
fn a_confirmation_that_cannot_be_stored_is_not_acknowledged() {
    let mut world = confirmed_box();
    world.apply("anna");
    world.pass(1);
    world.fail_next("point");
    let wall = world.now.wall;
    let reply = world.request(ApplierRequest::Confirm { generation: 2, by: principal("anna", Some(wall)) });
    assert!(matches!(reply, Some(ApplierResponse::Failed { generation: 1, .. })), "{reply:?}");
    assert_eq!(world.disk.confirmed, Some(1));
    world.restart();
    assert_eq!(world.kernel(), Some(1));
}

#[test]
fn a_restart_during_a_trial_goes_back_and_tells() {
    let mut world = confirmed_box();
    world.apply("anna");
    world.restart();
    assert_eq!(world.kernel(), Some(1));
    let event = world.machine.last_event.clone().unwrap().text;
    assert!(event.contains("generation 2 by anna was on trial"), "{event}");
}

#[test]
fn stopping_during_a_trial_goes_back_first() {
    let mut world = confirmed_box();
    world.apply("anna");
    world.input(Input::Shutdown);
    assert!(world.exited);
    assert_eq!(world.kernel(), Some(1));
}

#[test]
fn stopping_otherwise_leaves_everything_standing() {
    let mut world = confirmed_box();
    let installs = world.installs;
    world.input(Input::Shutdown);
    assert!(world.exited);
    assert_eq!((world.kernel(), world.installs), (Some(1), installs));
}

#[test]
fn an_earlier_generation_comes_back_on_trial_under_a_new_number() {
    let mut world = confirmed_box();
    let reply = world.request(ApplierRequest::GoBack { generation: Some(1), by: principal("anna", None) });
    assert!(matches!(reply, Some(ApplierResponse::OnTrial { generation: 2, .. })));
    let reply = world.request(ApplierRequest::GoBack { generation: None, by: principal("ben", None) });
    assert_eq!(reply, Some(ApplierResponse::WentBack { generation: 1 }));
}

#[test]
fn drift_is_repaired_or_reported_as_the_policy_says() {
    for repair in [true, false] {
        let mut world = confirmed_box();
        world.repair = repair;
        world.restart();
        world.drifted = true;
        world.pass(30);
        assert_eq!(world.drifted, !repair);
        let findings = &world.machine.watch.findings;
        assert_eq!((findings.len(), findings[0].repaired), (1, repair));
        let first = findings[0].at;
        world.pass(30);
        assert_eq!(world.machine.watch.findings[0].at, first, "reported anew");
    }
}

#[test]
fn a_strangers_change_is_looked_at_at_once_but_not_all_the_time() {
    let mut world = confirmed_box();
    world.pass(2);
    world.drifted = true;
    let before = world.compared;
    world.input(Input::TablesChanged);
    assert!(!world.drifted);
    for _ in 0..100 {
        world.input(Input::TablesChanged);
    }
    assert_eq!(world.compared, before + 1);
}

/// A box on which generation 1 is confirmed, and a change that maps clients stands and is probed.
fn probing() -> World {
    let mut world = confirmed_box();
    world.maps = true;
    let by = principal("anna", None);
    let digest = Digest(String::new());
    let request = ApplierRequest::Apply { sources: policy::Sources::default(), digest, confirm_within: None, by };
    assert_eq!(world.request(request), None, "answered before it was probed");
    assert_eq!(world.kernel(), Some(2));
    world
}

#[test]
fn a_change_whose_mappings_can_be_carried_goes_on_trial_and_its_time_runs_from_then() {
    let mut world = probing();
    world.pass(5);
    assert!(world.machine.summary().contains("probed"));
    world.input(Input::Probed(Ok(())));
    let Some(ApplierResponse::OnTrial { generation: 2, deadline, phases }) = world.settle_asked() else { panic!("not on trial") };
    assert_eq!((deadline, phases.get("probe")), (world.now.wall + 60_000, Some(&5_000_000)));
    world.confirm_new_connection("anna", 2);
}

#[test]
fn a_change_whose_mappings_cannot_be_carried_goes_back_by_itself_with_the_reason() {
    let mut world = probing();
    world.input(Input::Probed(Err("mapping kids cannot be carried: upstream lon: connection refused".into())));
    let Some(ApplierResponse::Failed { reason, generation: 1 }) = world.settle_asked() else { panic!("not failed") };
    assert!(reason.contains("refused") && reason.contains("mapping kids") && reason.contains("upstream lon"), "{reason}");
    assert_eq!((world.kernel(), world.disk.trial), (Some(1), None));
}

#[test]
fn a_gate_that_never_answers_sends_the_change_back_and_a_late_answer_changes_nothing() {
    let mut world = probing();
    world.pass(11);
    assert_eq!(world.kernel(), Some(2));
    world.pass(1);
    assert_eq!(world.kernel(), Some(1));
    world.input(Input::Probed(Ok(())));
    assert_eq!(world.kernel(), Some(1));
}

#[test]
fn while_it_is_probed_a_change_can_be_taken_back_and_both_are_answered() {
    let mut world = probing();
    let confirm = world.request(ApplierRequest::Confirm { generation: 2, by: principal("anna", None) });
    assert!(matches!(confirm, Some(ApplierResponse::Refused { .. })), "confirmed before it was proven");
    let other = world.apply("ben");
    assert!(matches!(other, ApplierResponse::Refused { reason, .. } if reason.contains("anna is being probed")));
    let reply = world.request(ApplierRequest::GoBack { generation: None, by: principal("ben", None) });
    assert_eq!(reply, Some(ApplierResponse::WentBack { generation: 1 }));
    assert!(world.asked.is_empty(), "who applied it was answered too");
}

#[test]
fn stopping_and_dying_while_it_is_probed_go_back() {
    let mut world = probing();
    world.input(Input::Shutdown);
    assert!(world.exited && world.kernel() == Some(1));
    let mut world = probing();
    world.restart();
    assert_eq!(world.kernel(), Some(1));
}

#[test]
fn what_was_confirmed_is_restored_without_a_probe() {
    let mut world = probing();
    world.pass(1);
    world.probed(true);
    world.confirm_new_connection("anna", 2);
    world.restart();
    assert_eq!(world.kernel(), Some(2));
    assert!(matches!(world.machine.work, Work::Nothing));
}

fn switch_safe_mode_on(world: &mut World) -> Option<ApplierResponse> {
    world.request(ApplierRequest::SafeMode { by: principal("console", None) })
}

#[test]
fn safe_mode_stands_over_restarts_until_somebody_ends_it() {
    let mut world = confirmed_box();
    assert_eq!(switch_safe_mode_on(&mut world), Some(ApplierResponse::WentBack { generation: 0 }));
    assert_eq!(world.kernel(), None);
    assert_eq!(world.machine.summary(), "safe mode, nothing is forwarded");
    world.restart();
    world.pass(100);
    assert_eq!(world.machine.summary(), "safe mode, nothing is forwarded");
    let back = world.request(ApplierRequest::GoBack { generation: None, by: principal("console", None) });
    assert_eq!(back, Some(ApplierResponse::WentBack { generation: 1 }));
    assert_eq!(world.kernel(), Some(1));
    world.restart();
    assert_eq!(world.kernel(), Some(1));
}

#[test]
fn safe_mode_ends_a_trial() {
    let mut world = confirmed_box();
    world.apply("anna");
    assert_eq!(switch_safe_mode_on(&mut world), Some(ApplierResponse::WentBack { generation: 0 }));
    assert_eq!(world.machine.summary(), "safe mode, nothing is forwarded");
    assert_eq!(world.disk.trial, None);
}

#[test]
fn a_change_in_safe_mode_goes_back_to_it_and_ends_it_when_it_is_confirmed() {
    let mut world = confirmed_box();
    switch_safe_mode_on(&mut world);
    world.apply("anna");
    assert_eq!(world.kernel(), Some(2));
    world.pass(60);
    assert_eq!(world.machine.summary(), "safe mode, nothing is forwarded");
    world.apply("anna");
    world.pass(1);
    world.confirm_new_connection("anna", 3);
    assert_eq!(world.disk.safe_mode, None);
    world.restart();
    assert_eq!(world.kernel(), Some(3));
}

#[test]
fn safe_mode_that_cannot_be_installed_is_lockdown_and_tried_again() {
    let mut world = confirmed_box();
    world.fail_next("install");
    let said = switch_safe_mode_on(&mut world);
    assert!(matches!(said, Some(ApplierResponse::Failed { reason, generation: 0 }) if reason.contains("safe mode could not be installed")));
    assert!(world.machine.summary().contains("locked down"));
    world.pass(6);
    assert_eq!(world.machine.summary(), "safe mode, nothing is forwarded");
}

#[test]
fn whoever_stands_at_the_box_keeps_anybodys_change() {
    let mut world = confirmed_box();
    world.apply("anna");
    world.pass(1);
    // Not over the network: there it is a name like any other.
    let wall = world.now.wall;
    let remote = world.request(ApplierRequest::Confirm { generation: 2, by: principal("console", Some(wall)) });
    assert!(matches!(remote, Some(ApplierResponse::Refused { .. })));
    let here = world.request(ApplierRequest::Confirm { generation: 2, by: principal("console", None) });
    assert_eq!(here, Some(ApplierResponse::Confirmed { generation: 2 }));
}
