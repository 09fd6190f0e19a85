//! The power goes at every single change of an update, with every kind of luck. The old version must boot again, and what the loader
//! calls by its name must be whole.

use std::io::Cursor;

use super::losing::Losing;
use super::make::{key, keys, opened, version};
use crate::bless::bless;
use crate::bundle::Signed;
use crate::entries::{Counted, next};
use crate::install::{choose_other, install, judge, recount};
use crate::settle::clean;
use crate::version::Version;

const LUCKS: u64 = 24;

/// Boots as the loader would, until a version stays up. A new one that comes up is found wanting, so that the way back is walked too.
fn boot_until_it_stays(disk: &mut Losing) -> Result<Version, String> {
    for _ in 0..8 {
        let entry = next(&disk.entries()).cloned().ok_or("the loader finds nothing")?;
        let count = |counted| match counted {
            Counted::Trying(left, done) if left > 1 => Counted::Trying(left - 1, done + 1),
            Counted::Trying(_, done) | Counted::Bad(done) => Counted::Bad(done + 1),
            Counted::Aside => Counted::Bad(1),
            Counted::Good => Counted::Good,
        };
        recount(disk, &entry.version, count).map_err(|error| error.to_string())?;
        if disk.boots(&entry.version) {
            if matches!(entry.counted, Counted::Trying(..)) && disk.booted != entry.version {
                continue;
            }
            return Ok(entry.version);
        }
        if entry.counted == Counted::Good {
            return Err(format!("{} is called good and does not boot", entry.version));
        }
    }
    Err("no version stays up".into())
}

fn run_update(disk: &mut Losing, signed: &Signed, parts: &mut Cursor<Vec<u8>>) -> std::io::Result<()> {
    let running = disk.booted.clone();
    parts.set_position(signed.head.len() as u64);
    let slot = judge(disk, &signed.manifest, &running, true).map_err(std::io::Error::other)?;
    install(disk, signed, parts, &slot, &running, &mut |_, _, _| {})
}

/// The first crash point after which something is not as it must be.
fn cut_everywhere(from: &Losing, to: &str) -> Result<usize, String> {
    let (signed, mut parts) = opened(to);
    let mut whole = from.clone();
    run_update(&mut whole, &signed, &mut parts).unwrap();
    assert!(whole.boots(&version(to)), "the whole update does not boot");
    let mut points = 0;
    for step in 0..=whole.steps {
        let mut cut = from.clone();
        cut.dies_at = Some(step);
        let _ = run_update(&mut cut, &signed, &mut parts);
        for luck in 0..LUCKS {
            points += 1;
            let at = |what: String| format!("cut at change {step} of {}, luck {luck}: {what}", whole.steps);
            let disk = cut.after_the_cut(luck);
            let named = disk.entries().iter().any(|entry| entry.version == version(to));
            if named && !disk.boots(&version(to)) {
                return Err(at("an update has a boot entry and cannot boot".into()));
            }
            let mut booted = disk.clone();
            let stays = boot_until_it_stays(&mut booted).map_err(at)?;
            if stays != from.booted {
                return Err(at(format!("{stays} stays up")));
            }
            // And the same update can be made to the end after it.
            clean(&mut booted, &from.booted, &keys(&key(1))).unwrap();
            recount(&mut booted, &from.booted, |_| Counted::Good).unwrap();
            run_update(&mut booted, &signed, &mut parts).map_err(|error| at(format!("the second try fails: {error}")))?;
            if !booted.boots(&version(to)) {
                return Err(at("the second try does not boot".into()));
            }
        }
    }
    Ok(points)
}

#[test]
fn wherever_the_power_goes_during_an_update_the_old_version_boots_again() {
    for (running, other, to) in [("0.1.0", None, "0.2.0"), ("0.2.0", Some("0.1.0"), "0.3.0"), ("0.3.0", Some("0.2.0"), "0.1.0")] {
        let points = cut_everywhere(&Losing::new(running, other), to).unwrap();
        assert!(points >= 700, "only {points} points");
    }
}

#[test]
fn without_syncing_the_same_cuts_find_an_update_that_cannot_boot() {
    let mut disk = Losing::new("0.1.0", Some("0.0.9"));
    disk.never_syncs = true;
    // Reading back from a disk that was never synced would stop it: this control is without both.
    disk.reads_from_memory = true;
    let found = cut_everywhere(&disk, "0.2.0").unwrap_err();
    assert!(found.contains("cannot boot") || found.contains("finds nothing"), "{found}");
}

#[test]
fn a_disk_that_keeps_something_else_is_found_before_success() {
    let (signed, mut parts) = opened("0.2.0");
    let mut whole = Losing::new("0.1.0", None);
    run_update(&mut whole, &signed, &mut parts).unwrap();
    let (mut flipped, mut missed) = (0, 0);
    for step in 0..whole.steps {
        for from_memory in [false, true] {
            let mut disk = Losing::new("0.1.0", None);
            (disk.flips_at, disk.reads_from_memory) = (Some(step), from_memory);
            let said = run_update(&mut disk, &signed, &mut parts);
            let after = disk.after_the_cut(1);
            let manifest_is_whole = clean(&mut after.clone(), &version("0.1.0"), &keys(&key(1))).unwrap().is_empty();
            let good = after.boots(&version("0.2.0")) && manifest_is_whole;
            match (from_memory, said.is_ok(), good) {
                (false, true, false) => panic!("change {step} was kept wrong and the update called installed"),
                (false, false, _) => flipped += 1,
                (true, true, false) => missed += 1,
                _ => {}
            }
        }
    }
    assert!(flipped > 10, "only {flipped} flips were noticed");
    assert!(missed > 10, "without reading from the disk {missed} flips would be missed: this test would notice nothing");
}

#[test]
fn a_power_cut_while_the_other_slot_is_chosen_leaves_one_that_boots() {
    for (running, other) in [("0.1.0", "0.2.0"), ("0.2.0", "0.1.0")] {
        for step in 0..8 {
            for luck in 0..LUCKS {
                let mut disk = Losing::new(running, Some(other));
                disk.dies_at = Some(step);
                let _ = choose_other(&mut disk, &version(running));
                let disk = disk.after_the_cut(luck);
                let entry = next(&disk.entries()).cloned().unwrap();
                assert!(disk.boots(&entry.version), "{running}, cut at {step}, luck {luck}");
            }
        }
    }
}

#[test]
fn a_power_cut_while_a_version_is_found_good_leaves_one_that_boots() {
    for step in 0..4 {
        for luck in 0..LUCKS {
            let mut disk = Losing::new("0.2.0", Some("0.1.0"));
            recount(&mut disk, &version("0.2.0"), |_| Counted::Trying(2, 1)).unwrap();
            (disk.steps, disk.dies_at) = (0, Some(step));
            let _ = bless(&mut disk, &version("0.2.0"), || Ok(()));
            let disk = disk.after_the_cut(luck);
            assert!(disk.boots(&next(&disk.entries()).unwrap().version), "cut at {step}, luck {luck}");
        }
    }
}
