//! A log that someone tampered with is found out, and the first bad entry named.

use rusqlite::Connection;

use super::{Note, verify};
use crate::role::Role;
use crate::story::Story;

fn with_entries(count: u64) -> Story {
    let story = Story::new();
    let actor = story.actor(Role::Admin);
    story
        .site
        .change(&actor, |ledger| {
            (1..=count).try_for_each(|n| {
                ledger.note(Note::new("test.entry", format!("thing {n}"), "a detail").from(format!("{n}")).to(format!("{}", n + 1)))
            })
        })
        .unwrap();
    story
}

/// What `verify` says after someone with write access to the file did this.
fn after(story: &Story, tampering: &str) -> (bool, Option<u64>) {
    Connection::open(story.folder.path().join("config.v1.db")).unwrap().execute_batch(tampering).unwrap();
    let verdict = verify(&story.site).unwrap();
    (verdict.intact, verdict.fault.map(|fault| fault.entry))
}

#[test]
fn an_untouched_log_is_intact_across_checkpoints() {
    let story = with_entries(2500);
    let verdict = verify(&story.site).unwrap();
    assert!(verdict.intact, "{verdict:?}");
    assert_eq!((verdict.entries, verdict.checkpoints), (2500, 2));
}

#[test]
fn every_field_is_protected() {
    for change in [
        "at = at + 1",
        "user = 'eve'",
        "address = '1.2.3.4'",
        "action = 'x'",
        "subject = ''",
        "before = NULL",
        "after = 'y'",
        "detail = 'nothing'",
        "hash = substr(hash, 2) || '0'",
    ] {
        let story = with_entries(20);
        assert_eq!(after(&story, &format!("UPDATE audit SET {change} WHERE number = 7")), (false, Some(7)), "{change}");
    }
}

#[test]
fn entries_taken_out_put_in_or_moved_are_found() {
    let story = with_entries(20);
    assert_eq!(after(&story, "DELETE FROM audit WHERE number = 7"), (false, Some(7)));

    let story = with_entries(20);
    let closing_the_gap = "DELETE FROM audit WHERE number = 7; UPDATE audit SET number = number - 1 WHERE number > 7";
    assert_eq!(after(&story, closing_the_gap), (false, Some(7)));

    let story = with_entries(20);
    let insert = "UPDATE audit SET number = -number WHERE number > 7; UPDATE audit SET number = 1 - number WHERE number < 0;
                  INSERT INTO audit SELECT 8, at, user, address, action, 'forged', before, after, detail, hash FROM audit WHERE number = 7";
    assert_eq!(after(&story, insert), (false, Some(8)));

    let story = with_entries(20);
    let swap = "UPDATE audit SET number = -1 WHERE number = 7; UPDATE audit SET number = 7 WHERE number = 8; UPDATE audit SET number = 8 WHERE number = -1";
    assert_eq!(after(&story, swap), (false, Some(7)));
}

#[test]
fn a_tail_that_was_cut_off_is_missed_by_the_anchor_and_by_checkpoints() {
    let story = with_entries(20);
    assert_eq!(after(&story, "DELETE FROM audit WHERE number > 15"), (false, Some(16)));

    let story = with_entries(1200);
    std::fs::remove_file(story.folder.path().join("audit.anchor")).unwrap();
    assert_eq!(after(&story, "DELETE FROM audit WHERE number > 900"), (false, Some(901)), "without the anchor the checkpoint still tells");
}

#[test]
fn a_log_rewritten_with_good_hashes_is_found_by_checkpoint_and_anchor() {
    let rewrite = |story: &Story| {
        let db = Connection::open(story.folder.path().join("config.v1.db")).unwrap();
        let mut previous = super::chain::genesis();
        let numbers: Vec<u64> = db
            .prepare("SELECT number FROM audit ORDER BY number")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        for number in numbers {
            let select = "SELECT number, at, user, address, action, subject, before, after, detail, hash FROM audit WHERE number = ?1";
            let mut entry = db.query_row(select, [number], super::entry).unwrap();
            if number == 700 {
                entry.user = "somebody else".to_owned();
            }
            previous = entry.link(&previous);
            db.execute("UPDATE audit SET user = ?2, hash = ?3 WHERE number = ?1", rusqlite::params![number, entry.user, previous]).unwrap();
        }
    };
    let story = with_entries(1100);
    rewrite(&story);
    assert_eq!(after(&story, ""), (false, Some(1)), "the Merkle root of the first thousand");

    let story = with_entries(1100);
    rewrite(&story);
    assert_eq!(after(&story, "DELETE FROM audit_checkpoints"), (false, Some(1000)), "a checkpoint that is gone");

    let story = with_entries(900);
    rewrite(&story);
    assert_eq!(after(&story, ""), (false, Some(900)), "the anchor names another last entry");
}

#[test]
fn a_change_and_its_entry_stand_or_fall_together() {
    let story = with_entries(1);
    let actor = story.actor(Role::Admin);
    let failed = story.site.change(&actor, |ledger| {
        ledger.note(Note::new("test.half", "x", ""))?;
        Err::<(), _>(crate::Trouble::Conflict("no".to_owned()))
    });
    assert!(failed.is_err());
    assert_eq!(verify(&story.site).unwrap().entries, 1);
}

#[test]
fn an_export_can_be_verified_elsewhere() {
    let story = with_entries(1005);
    let export = super::export(&story.site, 1).unwrap();
    let mut previous = export["genesis"].as_str().unwrap().to_owned();
    let entries: Vec<super::Entry> = serde_json::from_value(export["entries"].clone()).unwrap();
    for entry in &entries {
        assert_eq!(entry.link(&previous), entry.hash);
        previous = entry.hash.clone();
    }
    let hashes: Vec<String> = entries[..1000].iter().map(|entry| entry.hash.clone()).collect();
    assert_eq!(export["checkpoints"][0]["root"], super::merkle_root(&hashes));
}
