//! One behaviour each.

use policy::plan::Window;
use policy::plan::proxy::{MappingSchedule, Quota};

use super::*;
use crate::mapped::samples::{EXIT, down, mapping, name, probe, probe_at, proxy, up};

pub const LASTS: Duration = Duration::from_secs(90);
const GENERATION: u64 = 7;

fn at(seconds: u64) -> Now {
    Now { boot: Duration::from_secs(1000 + seconds), wall: 1_800_000_000_000 + seconds * 1000 }
}

fn carried(proxy: Proxy) -> Input {
    Input::Stands(Some(Carried { generation: GENERATION, proxy: Rc::new(proxy), unproven: BTreeSet::new() }))
}

fn grant(id: u16) -> Effect {
    Effect::Grant { id, lasts: LASTS }
}

/// `one` may be let in, by everything that was said.
fn ready(proxy: Proxy) -> (Permits, Vec<Effect>) {
    let mut permits = Permits::new(LASTS);
    let said = [FromForwarder::Became { generation: GENERATION }, up(GENERATION, "one", "lon"), probe(GENERATION, "lon", Some(EXIT))];
    let inputs = [carried(proxy), Input::Connected].into_iter().chain(said.map(Input::Said));
    let effects = permits.handle(inputs, at(0));
    (permits, effects)
}

fn withdrawn(effects: &[Effect]) -> Option<&str> {
    effects.iter().find_map(|effect| match effect {
        Effect::Withdraw { id: 1, why, .. } => Some(why.as_str()),
        _ => None,
    })
}

#[test]
fn a_mapping_is_let_in_when_everything_speaks_for_it_and_what_is_not_known_is_asked_for() {
    let (permits, effects) = ready(proxy());
    assert_eq!(effects, [grant(1), Effect::Probe(vec![name("par")])]);
    let shown = permits.shown();
    assert!(shown[&name("one")].permitted && shown[&name("one")].blocked.is_none());
    assert_eq!(shown[&name("many")].blocked, Some(Blocked::NoForwarder), "nothing was said of it");
}

#[test]
fn a_permit_is_renewed_before_twenty_seconds_have_passed_and_not_all_the_time() {
    let (mut permits, _) = ready(proxy());
    let mut said = |second: u64| {
        let round = ["lon", "par"].map(|upstream| Input::Said(probe_at(second, GENERATION, upstream, Some(EXIT))));
        let inputs: Vec<Input> = round.into_iter().filter(|_| second.is_multiple_of(30)).collect();
        permits.handle(inputs, at(second))
    };
    let renewed: Vec<u64> = (1..=60).filter(|second| said(*second) == [grant(1)]).collect();
    assert_eq!(renewed, [15, 30, 45, 60]);
}

#[test]
fn a_forwarder_that_is_connected_and_probes_nothing_is_asked_and_then_not_believed() {
    let (mut permits, _) = ready(proxy());
    let mut second_of = |wanted: &dyn Fn(&[Effect]) -> bool, from: u64| (from..200).find(|second| wanted(&permits.handle([], at(*second))));
    let asked = |effects: &[Effect]| effects.contains(&Effect::Probe(vec![name("lon")]));
    assert_eq!(second_of(&asked, 1), Some(36), "a round is overdue");
    assert_eq!(second_of(&|effects| withdrawn(effects).is_some(), 37), Some(45));
    assert_eq!(second_of(&|effects| !effects.is_empty(), 46), None, "it is asked once");
    let Some(Blocked::UpstreamDown { why }) = &permits.shown()[&name("one")].blocked else { panic!("not blocked") };
    assert!(why.contains("lon was heard of for 45 seconds"), "{why}");
    assert_eq!(permits.handle([Input::Said(probe(GENERATION, "lon", Some(EXIT)))], at(200)), [], "what it said long ago");
    assert_eq!(permits.handle([Input::Said(probe_at(2, GENERATION, "lon", Some(EXIT)))], at(201)), [grant(1)]);
}

#[test]
fn an_old_word_does_not_become_new_by_another_generation() {
    let (mut permits, _) = ready(proxy());
    permits.handle([Input::Stands(Some(Carried { generation: 8, proxy: Rc::new(proxy()), unproven: BTreeSet::new() }))], at(40));
    let said = [FromForwarder::Became { generation: 8 }, up(8, "one", "lon"), probe(8, "lon", Some(EXIT))];
    assert!(permits.handle(said.map(Input::Said), at(41)).contains(&grant(1)));
    assert!(withdrawn(&permits.handle([], at(45))).is_some());
}

#[test]
fn a_quota_alone_ends_nothing_unless_it_is_spent_already() {
    let (mut permits, _) = ready(proxy());
    let mut limited = |generation, daily, used, second| {
        let mut proxy = proxy();
        proxy.mappings.get_mut(&name("one")).unwrap().quota.daily = Some(daily);
        let used = BTreeMap::from([(name("one"), Used { today: used, this_month: used })]);
        let stands = Input::Stands(Some(Carried { generation, proxy: Rc::new(proxy), unproven: BTreeSet::new() }));
        let said = [FromForwarder::Became { generation }, up(generation, "one", "lon")].map(Input::Said);
        [permits.handle([Input::Used(used), stands], at(second)), permits.handle(said, at(second))]
    };
    let [stands, said] = limited(8, 100, 50, 1);
    assert_eq!((stands, &said[0]), (vec![], &grant(1)), "its flows wait for its permit");
    let [stands, said] = limited(9, 40, 50, 2);
    let end = |why: &str| vec![Effect::End { mapping: name("one"), id: 1, why: why.into() }];
    assert_eq!((stands, said), (end("the day's quota is spent"), vec![Effect::Probe(vec![name("par")])]));
}

#[test]
fn the_first_word_of_an_upstreams_death_takes_the_permit() {
    let (mut permits, _) = ready(proxy());
    let effects = permits.handle([Input::Said(down(GENERATION, "one"))], at(1));
    assert_eq!(withdrawn(&effects), Some("refused"));
    assert_eq!(permits.handle([Input::Said(up(GENERATION, "one", "lon"))], at(2)), [grant(1)]);
}

#[test]
fn a_link_that_is_lost_takes_all_permits_and_a_new_one_gives_none_before_it_became_what_stands() {
    let (mut permits, _) = ready(proxy());
    assert!(withdrawn(&permits.handle([Input::Disconnected], at(1))).is_some());
    let early = [up(GENERATION, "one", "lon"), probe(GENERATION, "lon", Some(EXIT)), FromForwarder::Became { generation: 6 }];
    let inputs = std::iter::once(Input::Connected).chain(early.map(Input::Said));
    assert_eq!(permits.handle(inputs, at(2)), []);
    let effects = permits.handle([Input::Said(FromForwarder::Became { generation: GENERATION })], at(3));
    assert_eq!(effects[0], grant(1));
}

#[test]
fn an_exit_at_one_of_the_boxs_own_addresses_is_no_exit() {
    let (mut permits, _) = ready(proxy());
    let own = Input::Own([EXIT.parse().unwrap()].into());
    let effects = permits.handle([own], at(1));
    assert!(withdrawn(&effects).unwrap().contains("which is this box itself"));
    assert!(matches!(permits.shown()[&name("one")].blocked, Some(Blocked::WrongExit { .. })));
    // Written as IPv6 it is the same address.
    let mapped = format!("::ffff:{EXIT}");
    assert_eq!(permits.handle([Input::Said(probe(GENERATION, "lon", Some(&mapped)))], at(2)), []);
}

#[test]
fn an_exit_elsewhere_than_expected_is_told_with_both() {
    let mut expecting = proxy();
    expecting.upstreams.get_mut(&name("lon")).unwrap().expect_exit = vec!["203.0.113.0/24".parse().unwrap()];
    let (mut permits, effects) = ready(expecting);
    assert!(!effects.contains(&grant(1)));
    let Some(Blocked::WrongExit { why }) = &permits.shown()[&name("one")].blocked else { panic!("not blocked") };
    assert!(why.contains(EXIT) && why.contains("203.0.113.0/24"), "{why}");
    assert!(permits.handle([Input::Said(probe(GENERATION, "lon", Some("203.0.113.9")))], at(1)).contains(&grant(1)));
}

#[test]
fn a_failed_connection_tells_nothing_about_the_exit_and_a_group_goes_on_with_what_is_left() {
    let (mut permits, _) = ready(proxy());
    let said = [up(GENERATION, "many", "lon"), probe(GENERATION, "par", Some(EXIT))];
    assert_eq!(permits.handle(said.map(Input::Said), at(1)), [grant(2)]);
    // The first member fails; the forwarder's word that the other carries may come a moment later.
    let effects = permits.handle([Input::Said(probe(GENERATION, "lon", None))], at(2));
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Withdraw { id: 2, .. })), "{effects:?}");
    assert!(withdrawn(&effects).is_some(), "the mapping that has no other");
}

#[test]
fn one_member_of_a_group_that_comes_out_wrong_speaks_against_all() {
    let (mut permits, _) = ready(proxy());
    let said = [up(GENERATION, "many", "lon"), probe(GENERATION, "par", Some("203.0.113.2"))];
    let own = Input::Own(["203.0.113.2".parse().unwrap()].into());
    permits.handle(said.map(Input::Said).into_iter().chain([own]), at(1));
    assert!(matches!(permits.shown()[&name("many")].blocked, Some(Blocked::WrongExit { .. })));
}

#[test]
fn a_quota_that_is_spent_blocks_until_the_next_day_or_month() {
    let mut limited = proxy();
    limited.mappings.get_mut(&name("one")).unwrap().quota = Quota { daily: Some(100), monthly: Some(1000), ..Quota::default() };
    let (mut permits, _) = ready(limited);
    let mut used = |today, this_month, second| {
        let used = BTreeMap::from([(name("one"), Used { today, this_month })]);
        permits.handle([Input::Used(used)], at(second))
    };
    assert_eq!(used(99, 99, 1), []);
    assert_eq!(withdrawn(&used(100, 100, 2)), Some("the day's quota is spent"));
    assert_eq!(used(0, 100, 3), [grant(1)]);
    assert_eq!(withdrawn(&used(1, 1000, 4)), Some("the month's quota is spent"));
}

#[test]
fn a_schedule_opens_and_closes_and_the_kernel_never_keeps_a_permit_beyond_it() {
    let mut timed = proxy();
    let schedule = |open| Some(MappingSchedule { timezone: "UTC".into(), open });
    // at(0) is a Friday, 08:00 UTC.
    let minute = 4 * 24 * 60 + 8 * 60;
    timed.mappings.get_mut(&name("one")).unwrap().schedule = schedule(vec![Window { from: minute, to: minute + 1 }]);
    let (mut permits, effects) = ready(timed.clone());
    assert_eq!(effects[0], Effect::Grant { id: 1, lasts: Duration::from_secs(60) });
    let round = Input::Said(probe_at(2, GENERATION, "lon", Some(EXIT)));
    assert!(permits.handle([round], at(50)).contains(&Effect::Grant { id: 1, lasts: Duration::from_secs(10) }));
    assert_eq!(withdrawn(&permits.handle([], at(60))), Some("its time is over"));
    timed.mappings.get_mut(&name("one")).unwrap().enabled = false;
    assert!(!ready(timed).1.contains(&grant(1)), "switched off");
}

#[test]
fn a_secret_that_is_not_set_is_named() {
    let mut secretive = proxy();
    secretive.upstreams.get_mut(&name("lon")).unwrap().password = Some("london".into());
    let (mut permits, _) = ready(secretive);
    assert_eq!(permits.shown()[&name("one")].blocked, Some(Blocked::SecretMissing { name: "london".into() }));
    assert_eq!(permits.handle([Input::Secrets(["london".into()].into())], at(1)), [grant(1)]);
    assert!(withdrawn(&permits.handle([Input::Secrets([].into())], at(2))).is_some());
}

#[test]
fn another_generation_begins_without_permits_and_ends_what_it_does_not_know() {
    let (mut permits, _) = ready(proxy());
    let stands = |proxy| Input::Stands(Some(Carried { generation: 8, proxy: Rc::new(proxy), unproven: BTreeSet::new() }));
    assert_eq!(permits.handle([stands(proxy())], at(1)), [], "the same mapping: its flows wait");
    assert!(!permits.shown()[&name("one")].permitted);
    let said = [FromForwarder::Became { generation: 8 }, up(8, "one", "lon")];
    assert_eq!(permits.handle(said.map(Input::Said), at(2))[0], grant(1), "what is known of its upstream is known still");
    let mut other = proxy();
    other.mappings.insert(name("one"), mapping(1, "192.168.2.11/32", policy::plan::proxy::Via::Upstream(name("lon"))));
    assert!(matches!(permits.handle([stands(other)], at(3))[..], [Effect::End { id: 1, .. }]));
    assert!(permits.handle([Input::Stands(None)], at(4)).is_empty());
}

#[test]
fn an_unproven_mapping_waits_for_a_probe_of_this_generation() {
    let (mut permits, _) = ready(proxy());
    let unproven = BTreeSet::from([name("one")]);
    permits.handle([Input::Stands(Some(Carried { generation: 8, proxy: Rc::new(proxy()), unproven }))], at(1));
    let said = [FromForwarder::Became { generation: 8 }, up(8, "one", "lon"), probe(7, "lon", Some(EXIT))];
    assert!(!permits.handle(said.map(Input::Said), at(2)).contains(&grant(1)));
    assert_eq!(permits.handle([Input::Said(probe(8, "lon", Some(EXIT)))], at(3)), [grant(1)]);
}

#[test]
fn what_the_kernel_refuses_is_tried_again() {
    let (mut permits, _) = ready(proxy());
    assert_eq!(permits.handle([Input::NotGranted(1)], at(1)), [grant(1)]);
    permits.handle([Input::Disconnected], at(2));
    let refused = || Input::NotWithdrawn { mapping: name("one"), id: 1 };
    assert!(withdrawn(&permits.handle([refused()], at(3))).is_some());
    assert!(withdrawn(&permits.handle([refused()], at(4))).is_some());
    assert_eq!(permits.handle([], at(5)), []);
}

#[test]
fn a_table_that_was_put_in_anew_gets_its_permits_back_at_once() {
    let (mut permits, _) = ready(proxy());
    assert_eq!(permits.handle([Input::Emptied], at(1)), [grant(1)]);
}

#[test]
fn a_thousand_mappings_and_a_storm_of_messages_are_one_look() {
    let mut many = proxy();
    for id in 10..1010 {
        many.mappings.insert(name(&format!("m{id}")), mapping(id, "192.168.2.9/32", policy::plan::proxy::Via::Upstream(name("lon"))));
    }
    let (mut permits, _) = ready(many);
    let states = (10..1010).map(|id| (name(&format!("m{id}")), MappingState::Up { upstream: name("lon") })).collect();
    let storm = (0..1600).map(|_| Input::Said(probe(GENERATION, "lon", Some(EXIT))));
    let begun = std::time::Instant::now();
    let all = Input::Said(FromForwarder::Mappings { generation: GENERATION, states });
    assert_eq!(permits.handle(storm.chain([all]), at(1)).len(), 1000);
    assert_eq!(permits.handle([Input::Disconnected], at(2)).len(), 1001);
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
}
