//! From the candidate to what runs, and safely back.

use serde_json::json;

use crate::candidate;
use crate::http::Method;
use crate::revision::{self, FoundIn, Outcome};
use crate::role::Role;
use crate::story::{self, Story};
use crate::trial::{self, Back};
use crate::trouble::Trouble;

fn box_that_runs(hostname: &str) -> Story {
    let story = Story::with_people();
    story.box_.lock().unwrap().install(story::policy(hostname), "root");
    story.poll();
    story
}

fn save_and_preview(story: &Story, hostname: &str) -> candidate::Preview {
    let operator = story.actor(Role::Operator);
    let version = candidate::get(&story.site).unwrap().version;
    let candidate = candidate::save(&story.site, &operator, version, story::policy(hostname)).unwrap();
    candidate::preview(&story.site, &candidate).unwrap()
}

#[test]
fn what_was_shown_is_applied_confirmed_and_written_down() {
    let story = box_that_runs("first");
    let preview = save_and_preview(&story, "second");
    assert!(preview.text_diff.contains("second"), "{}", preview.text_diff);
    let operator = story.actor(Role::Operator);
    let applied = trial::apply(&story.site, &operator, &preview.digest, "rename", Some(30)).unwrap();
    assert!(!candidate::get(&story.site).unwrap().dirty, "nothing is left to be applied");

    let same_connection = trial::confirm(&story.site, &operator, applied.generation);
    assert!(matches!(same_connection, Err(Trouble::OldConnection)), "{same_connection:?}");
    story.later(1);
    let someone_else = trial::confirm(&story.site, &story.actor(Role::Admin), applied.generation);
    assert!(matches!(someone_else, Err(Trouble::Refused(_))), "{someone_else:?}");
    trial::confirm(&story.site, &story.actor(Role::Operator), applied.generation).unwrap();
    story.poll();

    let revision = revision::get(&story.site, applied.revision).unwrap();
    assert_eq!((revision.outcome, revision.author.as_str(), revision.message.as_str()), (Outcome::Confirmed, "operator", "rename"));
    let entries =
        crate::audit::list(&story.site, &crate::audit::Filter { action: Some("policy.apply".to_owned()), limit: 10, ..Default::default() })
            .unwrap();
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(entry.after.as_deref(), Some(preview.digest.as_str()));
    assert_eq!(entry.before, preview.running);
}

#[test]
fn a_candidate_that_changed_since_it_was_shown_is_not_applied() {
    let story = box_that_runs("first");
    let shown = save_and_preview(&story, "second");
    save_and_preview(&story, "third");
    let applied = trial::apply(&story.site, &story.actor(Role::Operator), &shown.digest, "", None);
    assert!(matches!(applied, Err(Trouble::Conflict(_))), "{applied:?}");
    assert!(story.site.applier.status().unwrap().trial.is_none());
}

#[test]
fn two_editors_never_overwrite_each_other_unseen() {
    let story = box_that_runs("first");
    let version = candidate::get(&story.site).unwrap().version;
    candidate::save(&story.site, &story.actor(Role::Operator), version, story::policy("mine")).unwrap();
    let theirs = candidate::save(&story.site, &story.actor(Role::Admin), version, story::policy("theirs"));
    assert!(matches!(theirs, Err(Trouble::Conflict(_))), "{theirs:?}");
    assert!(candidate::get(&story.site).unwrap().sources.0["box.yaml"].contains("mine"));
}

#[test]
fn without_a_confirmation_it_goes_back_and_the_revision_says_so() {
    let story = box_that_runs("first");
    let preview = save_and_preview(&story, "second");
    let applied = trial::apply(&story.site, &story.actor(Role::Operator), &preview.digest, "", Some(30)).unwrap();
    story.later(31);
    story.poll();
    assert_eq!(revision::get(&story.site, applied.revision).unwrap().outcome, Outcome::WentBack);
    assert!(matches!(trial::confirm(&story.site, &story.actor(Role::Operator), applied.generation), Err(Trouble::Conflict(_))));
}

#[test]
fn going_back_ends_the_trial_or_tries_an_earlier_one() {
    let story = box_that_runs("first");
    let preview = save_and_preview(&story, "second");
    let operator = story.actor(Role::Operator);
    trial::apply(&story.site, &operator, &preview.digest, "", None).unwrap();
    assert_eq!(trial::go_back(&story.site, &operator, None).unwrap(), Back::WentBack { generation: 1 });
    assert!(matches!(trial::go_back(&story.site, &operator, None), Err(Trouble::Refused(_))));
    assert!(matches!(trial::go_back(&story.site, &operator, Some(1)).unwrap(), Back::OnTrial { .. }));
}

#[test]
fn what_the_console_installed_becomes_a_revision_with_its_author() {
    let story = box_that_runs("first");
    let [imported] = &revision::list(&story.site, None, 10).unwrap()[..] else { panic!("one revision") };
    assert_eq!((imported.origin, imported.author.as_str(), imported.outcome), (FoundIn::Applier, "root", Outcome::Confirmed));
    assert_eq!(revision::sources(&story.site, imported.id).unwrap(), story::policy("first"));
    story.poll();
    assert_eq!(revision::list(&story.site, None, 10).unwrap().len(), 1, "once");
}

#[test]
fn an_applier_that_fails_or_is_away_is_said_and_the_revision_failed() {
    let story = box_that_runs("first");
    let preview = save_and_preview(&story, "second");
    story.box_.lock().unwrap().fail_next = Some("the ruleset was not what was sent".to_owned());
    let failed = trial::apply(&story.site, &story.actor(Role::Operator), &preview.digest, "", None);
    let Err(Trouble::WentBack(why)) = failed else { panic!("{failed:?}") };
    assert!(why.contains("not what was sent") && why.contains("back at generation 1"), "{why}");
    assert_eq!(revision::list(&story.site, None, 1).unwrap()[0].outcome, Outcome::Failed);
    assert!(candidate::get(&story.site).unwrap().dirty, "the candidate is still there");

    story.box_.lock().unwrap().dead = true;
    story.poll();
    let (status, problem) = story.api(Role::Operator, Method::Post, "/candidate/apply", Some(json!({ "digest": preview.digest })));
    assert_eq!((status, problem["type"].as_str()), (503, Some("urn:portcullis:problem:applier-away")));
    assert_eq!(story.api(Role::Viewer, Method::Get, "/candidate", None).0, 200, "everything else works");
    assert!(story.site.applier.running().is_some(), "what ran last is still known");
}

#[test]
fn a_policy_with_problems_is_stored_shown_and_never_applied() {
    let story = box_that_runs("first");
    let junk = json!({ "version": candidate::get(&story.site).unwrap().version, "sources": { "box.yaml": "kind: Sistem\nspec: [" } });
    let (status, saved) = story.api(Role::Operator, Method::Put, "/candidate", Some(junk));
    assert_eq!((status, saved["digest"].is_null()), (200, true));
    assert!(!saved["problems"].as_array().unwrap().is_empty());
    let (status, problem) = story.api(Role::Operator, Method::Get, "/candidate/preview", None);
    assert_eq!((status, problem["type"].as_str()), (422, Some("urn:portcullis:problem:policy")));
    assert!(problem["problems"][0]["message"].is_string());
}
