use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use policy::messages::observer::{EventFilter, EventKind, RawEvent};

use super::*;
use crate::sources::lines::Lines;

fn line(n: u64) -> String {
    let (source, kind) = (n % 200, if n.is_multiple_of(10) { "dns" } else { "alert" });
    let second = n / 1_000;
    format!(
        r#"{{"timestamp":"2026-11-28T06:{:02}:{:02}.{:06}+0000","flow_id":{n},"event_type":"{kind}","src_ip":"203.0.113.{source}","src_port":5,"dest_ip":"2001:db8::{}","dest_port":{},"proto":"TCP","alert":{{"signature_id":{},"signature":"words {}","severity":2}},"dns":{{"rrname":"n{n}.example"}}}}"#,
        second / 60 % 60,
        second % 60,
        n % 1_000,
        n % 7,
        n % 1_000,
        n % 20,
        n % 20
    )
}

fn batch(range: std::ops::Range<u64>) -> Batch {
    let text: String = range.map(|n| line(n) + "\n").collect();
    Lines::default().push(text.as_bytes(), 0).unwrap()
}

fn store(folder: &Path, rows: u64) -> Store {
    Store::open(folder, Limits { bytes: 1 << 30, rows }).unwrap()
}

fn flows(store: &Store, filter: &EventFilter, limit: u32) -> Vec<u64> {
    let mut all = Vec::new();
    let mut before = None;
    loop {
        let page = query::page(&store.shelf, &store.troubles, filter, before, limit);
        all.extend(page.events.iter().filter_map(|event| event.flow));
        if !page.more {
            return all;
        }
        before = page.resume.or(page.events.last().map(|event| event.id));
    }
}

fn wait_for_seals(store: &Store) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.shelf.newest_first().iter().skip(1).any(|shelved| !shelved.sealed) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
}

/// The reference: every event, newest first, that a plain reading of the filter lets through.
fn expected(count: u64, filter: &EventFilter) -> Vec<u64> {
    let matches = |n: u64| {
        let seen = crate::eve::read(line(n).as_bytes()).unwrap();
        filter.kind.is_none_or(|kind| kind == seen.kind)
            && filter.address.is_none_or(|address| seen.source == Some(address) || seen.destination == Some(address))
            && filter.port.is_none_or(|port| seen.source_port == Some(port) || seen.destination_port == Some(port))
            && filter.signature.is_none_or(|signature| seen.signature == Some(signature))
            && filter.flow.is_none_or(|flow| seen.flow == Some(flow))
            && filter.from.is_none_or(|from| seen.at >= from)
            && filter.until.is_none_or(|until| seen.at <= until)
    };
    (0..count).rev().filter(|n| matches(*n)).collect()
}

#[test]
fn every_filter_finds_the_same_over_partitions_and_pages_as_a_plain_reading() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path(), 1_000);
    for start in (0..5_000).step_by(250) {
        store.append(&[batch(start..start + 250)]).unwrap();
    }
    wait_for_seals(&store);
    assert_eq!(store.shelf.count(), 5);
    let at = |n: u64| crate::eve::read(line(n).as_bytes()).unwrap().at;
    let none = EventFilter::default;
    let filters = [
        none(),
        EventFilter { kind: Some(EventKind::Dns), ..none() },
        EventFilter { address: "203.0.113.7".parse().ok(), ..none() },
        EventFilter { address: "2001:db8::3".parse().ok(), ..none() },
        EventFilter { address: "2001:db8::3".parse().ok(), kind: Some(EventKind::Dns), port: Some(500), ..none() },
        EventFilter { port: Some(5), ..none() },
        EventFilter { port: Some(999), ..none() },
        EventFilter { signature: Some(7), ..none() },
        EventFilter { flow: Some(4_321), ..none() },
        EventFilter { from: Some(at(1_500)), until: Some(at(2_500)), ..none() },
        EventFilter { address: "198.51.100.1".parse().ok(), ..none() },
    ];
    for filter in filters {
        for limit in [7, 1_000] {
            assert_eq!(flows(&store, &filter, limit), expected(5_000, &filter), "{filter:?} by {limit}");
        }
    }
}

#[test]
fn one_event_comes_with_its_line_and_the_trend_counts_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path(), 1_000);
    let first = store.append(&[batch(0..100), batch(100..200)]).unwrap();
    let (event, raw) = query::one(&store.shelf, first + 150).unwrap().unwrap();
    assert_eq!((event.flow, raw), (Some(150), RawEvent::Line(line(150))));
    assert!(query::one(&store.shelf, first + 5_000).unwrap().is_none());

    let (from, until) = (event.at - 600_000_000, event.at + 600_000_000);
    let trend = query::trend(&store.shelf, &store.troubles, from, until, 10);
    assert_eq!(trend.len(), 10);
    let sum = |kind: EventKind| trend.iter().filter_map(|bucket| bucket.get(&kind)).sum::<u64>();
    assert_eq!((sum(EventKind::Dns), sum(EventKind::Alert)), (20, 180));
}

#[test]
fn the_oldest_stretch_goes_whole_when_the_bound_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), Limits { bytes: 2 << 20, rows: 2_000 }).unwrap();
    for start in (0..30_000).step_by(1_000) {
        store.append(&[batch(start..start + 1_000)]).unwrap();
    }
    let on_disk: u64 = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk < 4 << 20, "{on_disk}");
    let kept = flows(&store, &EventFilter::default(), 1_000);
    assert_eq!(kept.first(), Some(&29_999));
    assert_eq!(kept.len() as u64, 30_000 - kept.last().unwrap(), "without a gap");
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for start in (0..1_000).step_by(100) {
        store(folder.path(), 350).append(&[batch(start..start + 100)]).unwrap();
    }
    let store = store(folder.path(), 350);
    assert_eq!(flows(&store, &EventFilter::default(), 1_000), expected(1_000, &EventFilter::default()));
    assert!(store.troubles.all().is_empty(), "{:?}", store.troubles.all());
}

#[test]
fn a_damaged_stretch_is_set_aside_and_told_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = store(folder.path(), 500);
    for start in (0..2_000).step_by(500) {
        first.append(&[batch(start..start + 500)]).unwrap();
    }
    wait_for_seals(&first);
    drop(first);
    fs::write(Files::of(folder.path(), 2).db, vec![7; 50_000]).unwrap();
    let mut store = store(folder.path(), 500);
    assert!(store.troubles.all()[0].contains("events-00000002.damaged"), "{:?}", store.troubles.all());
    store.append(&[batch(2_000..2_100)]).unwrap();
    let expected: Vec<u64> = (1_000..2_100).rev().chain((0..500).rev()).collect();
    assert_eq!(flows(&store, &EventFilter::default(), 1_000), expected);
    assert!(folder.path().join("events-00000002.damaged").exists());
}

#[test]
fn one_that_is_damaged_while_it_is_read_is_left_out_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path(), 500);
    for start in (0..1_500).step_by(500) {
        store.append(&[batch(start..start + 500)]).unwrap();
    }
    wait_for_seals(&store);
    store.append(&[batch(1_500..1_600)]).unwrap();
    fs::write(Files::of(folder.path(), 2).db, vec![7; 50_000]).unwrap();
    assert_eq!(flows(&store, &EventFilter::default(), 1_000).len(), 1_100);
    assert_eq!(store.troubles.all().len(), 1);
    assert_eq!(store.shelf.count(), 3);
}
