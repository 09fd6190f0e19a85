//! What becomes of a version after it was installed: found good, found wanting, never heard of again.

use std::cell::Cell;

use policy::messages::updater::{LastUpdate, Outcome, SlotState};

use super::losing::Losing;
use super::make::{key, keys, opened, version};
use crate::bless::{Verdict, bless, record};
use crate::entries::{Counted, Entry, next};
use crate::install::{choose_other, install, judge, recount};
use crate::medium::{LINUX, Medium};
use crate::settle::{clean, judge_last};
use crate::updater::slots;

fn updated(running: &str, to: &str) -> Losing {
    let mut disk = Losing::new(running, None);
    let (signed, mut parts) = opened(to);
    let slot = judge(&mut disk, &signed.manifest, &version(running), true).unwrap();
    install(&mut disk, &signed, &mut parts, &slot, &version(running), &mut |_, _, _| {}).unwrap();
    disk
}

fn last(outcome: Outcome) -> LastUpdate {
    LastUpdate { at: 1, from: "0.1.0".into(), version: "0.2.0".into(), by: "anna".into(), outcome, reason: None }
}

fn counted(disk: &Losing, of: &str) -> Counted {
    disk.entries().into_iter().find(|entry| entry.version == version(of)).unwrap().counted
}

#[test]
fn a_new_version_has_three_boots_and_is_what_the_loader_takes() {
    let disk = updated("0.1.0", "0.2.0");
    assert_eq!(counted(&disk, "0.2.0"), Counted::Trying(3, 0));
    assert_eq!(next(&disk.entries()).unwrap().version, version("0.2.0"));
    assert_eq!((disk.label(4), disk.label(5)), ("portcullis_0.2.0", "portcullis_0.2.0_verity"));
}

#[test]
fn an_older_version_is_what_the_loader_takes_when_it_was_installed() {
    let disk = updated("0.3.0", "0.2.0");
    assert_eq!(next(&disk.entries()).unwrap().version, version("0.2.0"));
    // And the newer one comes back when the older has used up its boots.
    let mut disk = disk;
    recount(&mut disk, &version("0.2.0"), |_| Counted::Bad(3)).unwrap();
    assert_eq!(next(&disk.entries()).unwrap().version, version("0.3.0"));
}

#[test]
fn a_version_that_answers_is_good_from_then_on() {
    let mut disk = updated("0.1.0", "0.2.0");
    recount(&mut disk, &version("0.2.0"), |_| Counted::Trying(2, 1)).unwrap();
    let verdict = bless(&mut disk, &version("0.2.0"), || Ok(())).unwrap();
    assert_eq!(verdict, Verdict::NowGood);
    assert_eq!(counted(&disk, "0.2.0"), Counted::Good);
    assert_eq!(record(&verdict, &last(Outcome::Trying), &version("0.2.0"), 9).unwrap().outcome, Outcome::Good);
}

#[test]
fn a_version_that_does_not_answer_goes_back_at_once_and_says_why() {
    let mut disk = updated("0.1.0", "0.2.0");
    recount(&mut disk, &version("0.2.0"), |_| Counted::Trying(2, 1)).unwrap();
    let verdict = bless(&mut disk, &version("0.2.0"), || Err("control does not answer".into())).unwrap();
    assert_eq!(verdict, Verdict::GoBack { why: "control does not answer".into() });
    assert_eq!(next(&disk.entries()).unwrap().version, version("0.1.0"));
    // In the old version again:
    let tried = record(&verdict, &last(Outcome::Trying), &version("0.2.0"), 9).unwrap();
    let told = judge_last(&tried, &version("0.1.0"), &disk.entries(), 10).unwrap();
    assert_eq!((told.outcome, told.reason.as_deref()), (Outcome::TakenBack, Some("control does not answer")));
    assert_eq!(judge_last(&told, &version("0.1.0"), &disk.entries(), 11), None, "an outcome is written once");
}

#[test]
fn a_version_that_never_came_up_is_taken_back_by_the_loader_and_told() {
    let mut disk = updated("0.1.0", "0.2.0");
    recount(&mut disk, &version("0.2.0"), |_| Counted::Bad(3)).unwrap();
    let told = judge_last(&last(Outcome::Installed), &version("0.1.0"), &disk.entries(), 10).unwrap();
    assert_eq!(told.outcome, Outcome::TakenBack);
    assert!(told.reason.unwrap().contains("started 3 time(s)"));
    let told = slots(&disk.slots().unwrap(), &disk.entries());
    assert_eq!(told.iter().map(|slot| slot.state).collect::<Vec<_>>(), [SlotState::Good, SlotState::Bad]);
    assert!(told[0].booted && !told[1].booted);
}

#[test]
fn a_version_that_was_good_is_not_even_asked_and_stays_up() {
    let mut disk = Losing::new("0.2.0", Some("0.1.0"));
    let asked = Cell::new(false);
    let healthy = || {
        asked.set(true);
        Err("nothing answers".into())
    };
    assert_eq!(bless(&mut disk, &version("0.2.0"), healthy).unwrap(), Verdict::WasGood);
    assert!(!asked.get());
}

#[test]
fn where_there_is_nothing_to_go_back_to_a_bad_version_stays_up() {
    for other in [None, Some("0.1.0")] {
        let mut disk = Losing::new("0.2.0", other);
        recount(&mut disk, &version("0.2.0"), |_| Counted::Trying(1, 2)).unwrap();
        recount(&mut disk, &version("0.1.0"), |_| Counted::Bad(3)).unwrap();
        let verdict = bless(&mut disk, &version("0.2.0"), || Err("control does not answer".into())).unwrap();
        assert!(matches!(verdict, Verdict::StayUp { .. }), "{verdict:?}");
        assert_eq!(counted(&disk, "0.2.0"), Counted::Trying(1, 2));
    }
}

#[test]
fn the_old_version_is_good_again_after_the_loader_fell_back_to_it() {
    let mut disk = updated("0.3.0", "0.2.0");
    recount(&mut disk, &version("0.2.0"), |_| Counted::Bad(3)).unwrap();
    // As systemd-boot leaves it after booting what was put aside.
    recount(&mut disk, &version("0.3.0"), |_| Counted::Bad(1)).unwrap();
    assert_eq!(bless(&mut disk, &version("0.3.0"), || Ok(())).unwrap(), Verdict::NowGood);
    assert_eq!(counted(&disk, "0.3.0"), Counted::Good);
}

#[test]
fn the_other_slot_is_booted_when_asked_and_has_to_be_found_good_again() {
    for (running, other) in [("0.1.0", "0.2.0"), ("0.2.0", "0.1.0")] {
        let mut disk = Losing::new(running, Some(other));
        recount(&mut disk, &version(other), |_| Counted::Bad(3)).unwrap();
        assert_eq!(choose_other(&mut disk, &version(running)).unwrap(), Some(version(other)));
        assert_eq!(next(&disk.entries()).unwrap(), &Entry { version: version(other), counted: Counted::Trying(3, 0) });
    }
    assert_eq!(choose_other(&mut Losing::new("0.1.0", None), &version("0.1.0")).unwrap(), None);
}

#[test]
fn at_boot_an_entry_whose_bytes_are_not_its_manifests_goes() {
    let mut disk = updated("0.1.0", "0.2.0");
    assert_eq!(clean(&mut disk, &version("0.1.0"), &keys(&key(1))).unwrap(), Vec::<String>::new());
    disk.damage_file(&format!("{LINUX}/portcullis_0.2.0+3.efi"));
    let said = clean(&mut disk, &version("0.1.0"), &keys(&key(1))).unwrap();
    assert!(said.len() == 1 && said[0].contains("portcullis_0.2.0+3.efi"), "{said:?}");
    assert_eq!(disk.entries().len(), 1);
    let told = judge_last(&last(Outcome::Installed), &version("0.1.0"), &disk.entries(), 10).unwrap();
    assert_eq!(told.outcome, Outcome::TakenBack);
}

#[test]
fn at_boot_what_runs_and_what_came_with_the_image_is_left_alone() {
    let mut disk = Losing::new("0.2.0", Some("0.1.0"));
    let before = disk.picture();
    assert!(clean(&mut disk, &version("0.2.0"), &keys(&key(1))).unwrap().is_empty());
    assert_eq!(disk.picture(), before);
}
