//! Who carries for a group.

use std::collections::BTreeMap;

use policy::plan::proxy::Strategy as Choice;

use super::{Story, all, group, name, single};
use crate::health::Good;

#[test]
fn hysteresis_is_the_groups() {
    let mut story = Story::well(&[("all", all(Choice::Priority, 3, 3))]);
    assert_eq!(story.up(&group()), Some("c".into()));
    assert!(!story.flow_fails("c") && !story.flow_fails("c"));
    assert_eq!(story.up(&group()), Some("a".into()), "one without a failure goes first");
    assert!(story.flow_fails("c"));
    story.later(1000);
    for expected in [false, false, true] {
        let job = story.job("c");
        assert_eq!(story.good(&job), expected);
        story.later(200);
    }
    assert_eq!(story.up(&group()), Some("c".into()));
    assert_eq!(story.up(&single("c")), None, "nobody is carried by it alone, so nobody judged it so");
}

#[test]
fn with_every_member_failed_the_group_says_why_of_each() {
    let mut story = Story::well(&[("all", all(Choice::Latency, 1, 1))]);
    for member in ["a", "b", "c"] {
        assert!(story.flow_fails(member));
    }
    let refused = "it refuses connections";
    assert_eq!(story.board.choose(&group()), Err(format!("no member of all is up: c: {refused}; a: {refused}; b: {refused}")));
}

#[test]
fn round_robin_takes_turns_and_leaves_out_who_is_down() {
    let mut story = Story::well(&[("all", all(Choice::RoundRobin, 1, 1))]);
    assert_eq!(story.choices(6), "cabcab");
    assert_eq!(story.up(&group()), Some("c".into()));
    story.flow_fails("a");
    assert!(!story.choices(6).contains('a'));
}

#[test]
fn latency_stays_unless_another_is_clearly_shorter() {
    let mut story = Story::of(&[("all", all(Choice::Latency, 2, 2))]);
    let told = |story: &mut Story, latencies: [u64; 3]| {
        for (job, latency_us) in story.due().into_iter().zip(latencies) {
            story.end(&job, Ok(Good { latency_us, exit: "198.51.100.1".parse().unwrap() }));
        }
        story.later(30_000);
    };
    told(&mut story, [20_000, 10_000, 30_000]);
    assert_eq!(story.choices(1), "b");
    told(&mut story, [10_000, 13_000, 30_000]);
    assert_eq!(story.choices(1), "b");
    for _ in 0..8 {
        told(&mut story, [1_000, 13_000, 30_000]);
    }
    assert_eq!(story.choices(1), "a");
}

#[test]
fn a_new_group_takes_an_upstream_as_it_is() {
    let mut story = Story::well(&[]);
    story.proxy.groups = BTreeMap::from([(name("all"), all(Choice::Priority, 5, 5))]);
    let now = story.now();
    story.board.become_(&story.proxy, &["203.0.113.1".parse().unwrap()], now);
    assert_eq!(story.up(&group()), Some("c".into()));
}
