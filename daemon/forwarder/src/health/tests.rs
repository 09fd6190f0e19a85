//! The board, with time as a story tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use policy::messages::forwarder::{HealthStatus, MappingState};
use policy::name::Name;
use policy::plan::proxy::{Group, Proxy, Strategy as Choice, Upstream, UpstreamKind, Via};
use proptest::prelude::*;

use super::{Bad, Board, Good, Job, Moment, Probe};
use crate::dial::tests::upstream;

mod conversations;
mod groups;
mod pace;
mod proxies;

/// A board and its time.
struct Story {
    board: Board,
    proxy: Proxy,
    start: Instant,
    millis: u64,
}

pub fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

pub fn single(text: &str) -> Via {
    Via::Upstream(name(text))
}

fn group() -> Via {
    Via::Group(name("all"))
}

pub fn proxy(upstreams: &[(&str, Upstream)], groups: &[(&str, Group)]) -> Proxy {
    Proxy {
        upstreams: upstreams.iter().map(|(key, upstream)| (name(key), upstream.clone())).collect(),
        groups: groups.iter().map(|(key, group)| (name(key), group.clone())).collect(),
        mappings: BTreeMap::new(),
    }
}

fn all(strategy: Choice, fail_after: u32, recover_after: u32) -> Group {
    Group { strategy, members: ["c", "a", "b"].map(name).to_vec(), fail_after, recover_after }
}

impl Story {
    /// Upstreams `a`, `b` and `c`, all in the group `all` where there is one; `a` is probed for its own sake only without it.
    fn of(groups: &[(&str, Group)]) -> Story {
        let http = || upstream(UpstreamKind::HttpConnect);
        let proxy = proxy(&[("a", http()), ("b", http()), ("c", http())], groups);
        let start = Instant::now();
        let board = Board::new(&proxy, &["203.0.113.1".parse().unwrap()], Moment { instant: start, clock: 0 });
        Story { board, proxy, start, millis: 0 }
    }

    /// Everybody was found well.
    fn well(groups: &[(&str, Group)]) -> Story {
        let mut story = Story::of(groups);
        for job in story.due() {
            story.end(&job, Ok(Good { latency_us: 1000, exit: "198.51.100.1".parse().unwrap() }));
        }
        story
    }

    fn now(&self) -> Moment {
        Moment { instant: self.start + Duration::from_millis(self.millis), clock: self.millis }
    }

    fn later(&mut self, millis: u64) {
        self.millis += millis;
    }

    fn due(&mut self) -> Vec<Job> {
        let now = self.now();
        self.board.due(now)
    }

    fn names_due(&mut self) -> String {
        self.due().iter().map(|job| job.name.to_string()).collect::<Vec<_>>().join(" ")
    }

    fn end(&mut self, job: &Job, outcome: Result<Good, Bad>) -> bool {
        let now = self.now();
        self.board.probed(&job.name, Probe { epoch: job.epoch, began: now.instant, outcome }, now)
    }

    fn good(&mut self, job: &Job) -> bool {
        self.exit(job, "198.51.100.1")
    }

    fn exit(&mut self, job: &Job, exit: &str) -> bool {
        self.end(job, Ok(Good { latency_us: 1000, exit: exit.parse().unwrap() }))
    }

    fn bad(&mut self, job: &Job) -> bool {
        self.end(job, Err(Bad { why: "it refuses connections".into(), confirmed: false }))
    }

    fn flow_fails(&mut self, upstream: &str) -> bool {
        let now = self.now();
        self.board.failed(&name(upstream), "it refuses connections", now)
    }

    fn job(&mut self, upstream: &str) -> Job {
        self.due().into_iter().find(|job| job.name == name(upstream)).expect("it is due")
    }

    fn up(&self, via: &Via) -> Option<String> {
        match self.board.state(via) {
            MappingState::Up { upstream } => Some(upstream.to_string()),
            MappingState::Down { .. } => None,
        }
    }

    fn status(&self, upstream: &str) -> HealthStatus {
        self.board.health(&name(upstream)).unwrap().status
    }

    fn choices(&mut self, times: usize) -> String {
        (0..times).map(|_| self.board.choose(&group()).map_or("-".into(), String::from)).collect()
    }
}

#[test]
fn nothing_is_carried_before_a_probe_was_good_and_the_first_decides() {
    let mut story = Story::of(&[]);
    assert_eq!(story.board.state(&single("a")), MappingState::Down { why: "a has not been probed yet".into() });
    let jobs = story.due();
    assert_eq!(jobs.len(), 3, "at once");
    assert!(story.good(&jobs[0]) && story.bad(&jobs[1]));
    assert_eq!((story.up(&single("a")), story.up(&single("b"))), (Some("a".into()), None));
    assert_eq!(
        (story.status("a"), story.status("b"), story.status("c")),
        (HealthStatus::Healthy, HealthStatus::Failed, HealthStatus::Unknown)
    );
}

#[test]
fn a_failed_connection_is_looked_into_at_once_and_the_second_failure_is_death() {
    let mut story = Story::well(&[]);
    story.later(5000);
    assert!(!story.flow_fails("a"), "not after one");
    assert_eq!(story.status("a"), HealthStatus::Degraded);
    let job = story.job("a");
    story.later(1);
    assert!(story.bad(&job));
    assert_eq!(story.board.state(&single("a")), MappingState::Down { why: "a: it refuses connections".into() });
    assert_eq!(story.board.choose(&single("a")), Err("a: it refuses connections".into()));
    assert_eq!(story.up(&single("b")), Some("b".into()));
}

#[test]
fn two_connections_that_fail_in_a_row_are_enough() {
    let mut story = Story::well(&[]);
    assert!(!story.flow_fails("a") && story.flow_fails("a"));
    assert_eq!(story.up(&single("a")), None);
}

#[test]
fn an_accident_is_not_death() {
    let mut story = Story::well(&[]);
    for _ in 0..20 {
        story.later(1000);
        story.flow_fails("a");
        let job = story.job("a");
        story.later(1);
        story.good(&job);
        story.flow_fails("a");
        let now = story.now();
        story.board.succeeded(&name("a"), now);
    }
    assert_eq!((story.up(&single("a")), story.status("a")), (Some("a".into()), HealthStatus::Degraded));
    story.later(61_000);
    let job = story.job("a");
    story.good(&job);
    assert_eq!(story.status("a"), HealthStatus::Healthy);
}

#[test]
fn five_seconds_of_silence_with_a_second_attempt_are_two_failures() {
    let mut story = Story::well(&[]);
    story.later(30_000);
    let job = story.job("a");
    assert!(story.end(&job, Err(Bad { why: "it does not answer".into(), confirmed: true })));
}

#[test]
fn a_wrong_exit_is_decisive_and_named() {
    let mut story = Story::well(&[]);
    story.later(30_000);
    let job = story.job("a");
    assert!(story.exit(&job, "203.0.113.1"));
    let health = story.board.health(&name("a")).unwrap().clone();
    assert_eq!(health.why.as_deref(), Some("it comes out at 203.0.113.1, which is an address of this box"));
    assert_eq!((health.status, health.exit), (HealthStatus::Failed, Some(IpAddr::from([203, 0, 113, 1]))));

    story.proxy.upstreams.get_mut(&name("b")).unwrap().expect_exit = vec!["198.51.100.0/24".parse().unwrap()];
    let now = story.now();
    story.board.become_(&story.proxy, &[], now);
    let job = story.job("b");
    story.exit(&job, "192.0.2.9");
    assert_eq!(
        story.board.health(&name("b")).unwrap().why.as_deref(),
        Some("it comes out at 192.0.2.9, which is not where it is expected")
    );
    story.later(5000);
    let job = story.job("b");
    assert!(story.exit(&job, "198.51.100.77"));
}

#[test]
fn what_is_the_same_stays_and_what_changed_is_unknown() {
    let mut story = Story::well(&[]);
    story.proxy.upstreams.get_mut(&name("b")).unwrap().port = 1;
    story.proxy.upstreams.remove(&name("c"));
    let now = story.now();
    story.board.become_(&story.proxy, &["203.0.113.1".parse().unwrap()], now);
    assert_eq!((story.up(&single("a")), story.up(&single("b")), story.up(&single("c"))), (Some("a".into()), None, None));
    let job = story.job("b");
    let old = Job { epoch: job.epoch - 1, ..job.clone() };
    assert!(!story.good(&old), "of what it was before");
    assert!(story.good(&job));
}

#[test]
fn a_socks_server_is_asked_once_whether_it_may_be_pipelined_and_again_after_a_failure() {
    let socks = proxy(&[("a", upstream(UpstreamKind::Socks5))], &[]);
    let mut story = Story::of(&[]);
    let now = story.now();
    story.board.become_(&socks, &[], now);
    let job = story.job("a");
    assert!(!job.pipelined && !job.learning);
    story.good(&job);
    let lesson = story.job("a");
    assert!(lesson.pipelined && lesson.learning && lesson.limit <= Duration::from_secs(1));
    story.flow_fails("a");
    story.later(200);
    let probe = story.job("a");
    assert!(!probe.learning, "a lesson does not keep from a probe");
    story.good(&probe);
    story.board.learned(&name("a"), lesson.epoch, true);
    assert!(story.board.pipelined(&name("a")) && story.due().is_empty());
    story.flow_fails("a");
    assert!(!story.board.pipelined(&name("a")));
    story.later(200);
    let probe = story.job("a");
    assert!(!probe.pipelined);
    story.good(&probe);
    let lesson = story.job("a");
    story.board.learned(&name("a"), lesson.epoch, false);
    assert!(!story.board.pipelined(&name("a")) && story.due().is_empty());
}

proptest! {
    /// Whatever happens in whatever order: who is chosen is up, nobody is probed twice at once, and something is always due.
    #[test]
    fn the_board_holds_what_it_says(
        events in prop::collection::vec((0u8..8, 0usize..3, 0u64..2000), 1..200),
        strategy in prop::sample::select(vec![Choice::Priority, Choice::RoundRobin, Choice::Latency]),
        fail_after in 1u32..4, recover_after in 1u32..4,
    ) {
        let mut story = Story::of(&[("all", all(strategy, fail_after, recover_after))]);
        let mut flying: Vec<Job> = Vec::new();
        let mut in_a_row = [0u32; 3];
        let names = ["a", "b", "c"];
        for (event, who, millis) in events {
            match event {
                0 => { in_a_row[who] += 1; story.flow_fails(names[who]); }
                1 => { let now = story.now(); story.board.succeeded(&name(names[who]), now); in_a_row[who] = 0; }
                2..=4 => flying.extend(story.due()),
                5 | 6 if !flying.is_empty() => {
                    let job = flying.swap_remove(who % flying.len());
                    let who = names.iter().position(|each| name(each) == job.name).unwrap();
                    if event == 5 { in_a_row[who] = 0; story.good(&job); } else { in_a_row[who] += 1; story.bad(&job); }
                }
                _ => story.later(millis),
            }
            let in_flight: BTreeSet<_> = flying.iter().map(|job| &job.name).collect();
            prop_assert_eq!(in_flight.len(), flying.len());
            if in_flight.len() < 3 {
                prop_assert!(story.board.next() <= story.now().instant + Duration::from_secs(30));
            }
            match story.board.choose(&group()) {
                Ok(chosen) => {
                    let who = names.iter().position(|each| name(each) == chosen).unwrap();
                    prop_assert!(in_a_row[who] < fail_after, "failed {} times", in_a_row[who]);
                    prop_assert!(story.up(&group()).is_some());
                }
                Err(why) => {
                    prop_assert_eq!(story.board.state(&group()), MappingState::Down { why });
                }
            }
        }
    }
}
