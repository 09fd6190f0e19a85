//! Every reason not to take a bundle, each with nothing changed.

use std::io::Cursor;

use policy::messages::updater::Refusal;

use super::losing::{Losing, ROOT_SPACE};
use super::make::{key, keys, manifest, sign, version};
use crate::bundle::{MAGIC, Manifest, Refused, Signed, check_parts};
use crate::entries::Counted;
use crate::install::{judge, recount};

/// Everything that is asked of a bundle before anything is changed.
fn all_checks(disk: &mut Losing, bundle: &[u8], downgrade: bool) -> Result<(), Refused> {
    let mut file = Cursor::new(bundle);
    let signed = Signed::read(&mut file, &keys(&key(1)))?;
    let running = disk.booted.clone();
    judge(disk, &signed.manifest, &running, downgrade)?;
    check_parts(&signed, &mut file, |_| {})
}

fn expect(disk: &mut Losing, bundle: &[u8], why: Refusal) -> String {
    let before = disk.picture();
    let refused = all_checks(disk, bundle, false).unwrap_err();
    assert_eq!(refused.why, why, "{refused}");
    assert_eq!(disk.picture(), before, "something was changed");
    assert_eq!(disk.steps, 0);
    refused.reason
}

fn changed(change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let mut manifest = manifest("0.2.0");
    change(&mut manifest);
    sign(&manifest, &key(1))
}

fn good() -> Vec<u8> {
    changed(|_| {})
}

#[test]
fn a_good_bundle_passes() {
    all_checks(&mut Losing::new("0.1.0", None), &good(), false).unwrap();
}

#[test]
fn a_signature_that_does_not_fit_is_refused() {
    let mut bundle = good();
    // A byte of the manifest, and one of the signature.
    let manifest_at = MAGIC.len() + 4 + 20;
    bundle[manifest_at] ^= 1;
    expect(&mut Losing::new("0.1.0", None), &bundle, Refusal::WrongSignature);
    let mut bundle = good();
    let length = u32::from_be_bytes(bundle[16..20].try_into().unwrap()) as usize;
    bundle[20 + length + 32 + 5] ^= 1;
    expect(&mut Losing::new("0.1.0", None), &bundle, Refusal::WrongSignature);
}

#[test]
fn a_key_that_the_box_does_not_know_is_refused_by_name() {
    let reason = expect(&mut Losing::new("0.1.0", None), &sign(&manifest("0.2.0"), &key(2)), Refusal::UnknownKey);
    assert!(reason.contains("it knows release"), "{reason}");
}

#[test]
fn a_key_that_is_claimed_is_not_a_key_that_signed() {
    let mut forged = sign(&manifest("0.2.0"), &key(2));
    let honest = good();
    let length = u32::from_be_bytes(forged[16..20].try_into().unwrap()) as usize;
    let id = 20 + length..20 + length + 32;
    forged[id.clone()].copy_from_slice(&honest[id]);
    expect(&mut Losing::new("0.1.0", None), &forged, Refusal::WrongSignature);
}

#[test]
fn another_product_is_refused() {
    expect(&mut Losing::new("0.1.0", None), &changed(|manifest| manifest.product = "drawbridge".into()), Refusal::WrongProduct);
}

#[test]
fn an_older_version_is_refused_unless_asked_for() {
    let bundle = good();
    expect(&mut Losing::new("0.3.0", None), &bundle, Refusal::Downgrade);
    all_checks(&mut Losing::new("0.3.0", None), &bundle, true).unwrap();
    expect(&mut Losing::new("0.2.0", None), &bundle, Refusal::SameVersion);
}

#[test]
fn a_version_that_needs_one_between_is_refused() {
    let reason =
        expect(&mut Losing::new("0.1.0", None), &changed(|manifest| manifest.least_version = version("0.1.5")), Refusal::TooOldForIt);
    assert!(reason.contains("install 0.1.5 first"), "{reason}");
}

#[test]
fn a_file_that_ends_anywhere_early_is_truncated_and_nothing_else() {
    let bundle = good();
    for end in (0..bundle.len()).step_by(97).chain([bundle.len() - 1]) {
        expect(&mut Losing::new("0.1.0", None), &bundle[..end], Refusal::Truncated);
    }
}

#[test]
fn a_damaged_part_or_something_after_the_last_is_refused() {
    let bundle = good();
    let parts = bundle.len() - 8700;
    for at in [parts, parts + 4999, parts + 5000, parts + 5699, parts + 5700, bundle.len() - 1] {
        let mut damaged = bundle.clone();
        damaged[at] ^= 0x80;
        expect(&mut Losing::new("0.1.0", None), &damaged, Refusal::Damaged);
    }
    expect(&mut Losing::new("0.1.0", None), &[bundle, vec![0]].concat(), Refusal::Damaged);
}

#[test]
fn a_part_that_is_larger_than_the_slot_is_refused_before_it_is_read() {
    let bundle = changed(|manifest| manifest.parts[0].size = ROOT_SPACE as u64 + 1);
    expect(&mut Losing::new("0.1.0", None), &bundle, Refusal::TooBigForSlot);
}

#[test]
fn a_boot_partition_without_room_is_refused_and_the_old_entry_of_the_slot_counts_as_room() {
    let mut disk = Losing::new("0.1.0", None);
    disk.free = (1 << 20) + 2999;
    expect(&mut disk, &good(), Refusal::TooLittleSpace);
    let mut disk = Losing::new("0.1.0", Some("0.0.9"));
    disk.free = 1 << 20;
    all_checks(&mut disk, &good(), false).unwrap();
}

#[test]
fn nothing_is_installed_over_the_way_back_of_a_version_on_trial() {
    let mut disk = Losing::new("0.1.0", Some("0.0.9"));
    recount(&mut disk, &version("0.1.0"), |_| Counted::Trying(2, 1)).unwrap();
    disk.steps = 0;
    expect(&mut disk, &good(), Refusal::Busy);
}

#[test]
fn what_is_no_bundle_is_told_as_such() {
    for other in
        [b"PK\x03\x04 and a lot of other things that a zip file has".to_vec(), vec![0; 4096], [MAGIC.as_slice(), &[0xff; 400]].concat()]
    {
        expect(&mut Losing::new("0.1.0", None), &other, Refusal::NotABundle);
    }
    for odd in [
        changed(|manifest| manifest.parts.swap(0, 1)),
        changed(|manifest| manifest.parts.truncate(2)),
        changed(|manifest| manifest.parts[0].sha256 = "00".into()),
        changed(|manifest| manifest.parts[0].uuid = Some("--part-label".into())),
        changed(|manifest| manifest.parts[2].uuid = manifest.parts[0].uuid.clone()),
        changed(|manifest| manifest.parts[0].size = u64::MAX),
    ] {
        expect(&mut Losing::new("0.1.0", None), &odd, Refusal::NotABundle);
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..300), at in 0_usize..500, byte in proptest::arbitrary::any::<u8>()) {
        let _ = Signed::read(&mut Cursor::new([MAGIC.as_slice(), &bytes].concat()), &keys(&key(1)));
        let mut bundle = good();
        bundle[at] = byte;
        let _ = Signed::read(&mut Cursor::new(bundle), &keys(&key(1)));
    }
}
