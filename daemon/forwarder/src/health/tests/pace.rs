//! When probes are due.

use std::iter;
use std::time::Duration;

use policy::messages::forwarder::HealthStatus;
use policy::plan::proxy::Strategy as Choice;

use super::{Story, all, name, single};
use crate::health::{Good, Probe};

#[test]
fn flows_that_fail_while_probes_are_good_do_not_make_a_storm_of_probes() {
    let mut story = Story::well(&[]);
    let mut probes = 0;
    for _ in 0..1000 {
        story.later(1);
        story.flow_fails("a");
        let now = story.now();
        story.board.succeeded(&name("a"), now);
        for job in story.due() {
            probes += 1;
            story.good(&job);
        }
    }
    assert!((1..=6).contains(&probes), "{probes}");
}

#[test]
fn a_probe_that_began_before_the_failure_does_not_disprove_it() {
    let mut story = Story::well(&[]);
    story.later(30_000);
    let job = story.job("a");
    let began = story.now().instant;
    story.later(10);
    story.flow_fails("a");
    let now = story.now();
    let outcome = Ok(Good { latency_us: 1, exit: "198.51.100.1".parse().unwrap() });
    story.board.probed(&name("a"), Probe { epoch: job.epoch, began, outcome }, now);
    assert_eq!(story.names_due(), "a");
}

#[test]
fn a_failed_one_is_probed_four_times_a_second_then_every_second_and_comes_back_with_the_first_good_probe() {
    let mut story = Story::well(&[]);
    story.flow_fails("a");
    story.flow_fails("a");
    let mut job = story.job("a");
    // 10 seconds are 40 quarters.
    for pause in iter::repeat_n(250, 40).chain(iter::repeat_n(1000, 5)) {
        story.bad(&job);
        story.later(pause - 1);
        assert_eq!(story.names_due(), "");
        story.later(1);
        job = story.job("a");
    }
    assert!(story.good(&job));
    assert_eq!(story.up(&single("a")), Some("a".into()));
}

#[test]
fn rounds_come_every_thirty_seconds_and_history_is_bounded() {
    let mut story = Story::of(&[]);
    for round in 1..=300 {
        let jobs = story.due();
        assert_eq!((jobs.len(), story.board.rounds()), (3, round));
        assert!(story.due().is_empty(), "each is handed out once");
        jobs.iter().for_each(|job| _ = story.good(job));
        assert_eq!(story.board.next(), story.start + Duration::from_secs(30 * round));
        story.later(30_000);
    }
    assert_eq!(story.board.statuses()[&name("a")].history.len(), 240);
}

#[test]
fn seconds_of_a_failed_one_do_not_push_two_hours_out_of_the_history() {
    let mut story = Story::well(&[]);
    story.flow_fails("a");
    story.flow_fails("a");
    for _ in 0..100 {
        story.later(1000);
        let job = story.job("a");
        story.bad(&job);
    }
    assert!(story.board.statuses()[&name("a")].history.len() < 10);
}

#[test]
fn what_this_box_lacks_is_no_verdict() {
    let mut story = Story::well(&[]);
    story.later(30_000);
    let job = story.job("a");
    let now = story.now();
    story.board.postponed(&name("a"), job.epoch, now);
    assert_eq!((story.up(&single("a")), story.names_due()), (Some("a".into()), String::new()));
    story.later(1000);
    assert_eq!(story.names_due(), "a");
}

#[test]
fn a_failure_right_after_a_good_probe_is_looked_into_at_once() {
    let mut story = Story::well(&[]);
    story.later(1);
    story.flow_fails("a");
    let job = story.job("a");
    assert!(story.bad(&job));
    assert_eq!(story.up(&single("a")), None);
    // Back, and dead again before anybody could take a breath.
    story.later(250);
    let job = story.job("a");
    assert!(story.good(&job));
    story.later(1);
    story.flow_fails("a");
    let job = story.job("a");
    assert!(story.bad(&job));
    assert_eq!(story.up(&single("a")), None);
}

#[test]
fn doubts_are_looked_into_at_once_and_then_once_a_second() {
    let mut story = Story::well(&[]);
    let mut probes = vec![];
    for milli in 1..=3000 {
        story.later(1);
        let now = story.now();
        story.board.doubt(&name("a"), now);
        for job in story.due() {
            probes.push(milli);
            story.good(&job);
        }
    }
    assert_eq!(probes, [1, 1001, 2001]);
    assert_eq!(story.up(&single("a")), Some("a".into()), "a doubt is no failure");
    // After its death and return the next doubt need not wait.
    story.flow_fails("a");
    story.flow_fails("a");
    let job = story.job("a");
    story.good(&job);
    let now = story.now();
    story.board.doubt(&name("a"), now);
    assert_eq!(story.names_due(), "a");
}

#[test]
fn a_group_that_allows_five_failures_knows_within_a_second() {
    let mut story = Story::well(&[("all", all(Choice::Priority, 5, 1))]);
    let begin = story.now().instant;
    story.flow_fails("c");
    while story.status("c") != HealthStatus::Failed {
        for job in story.due() {
            story.bad(&job);
        }
        story.later(1);
    }
    assert!(story.now().instant < begin + Duration::from_secs(1));
}
