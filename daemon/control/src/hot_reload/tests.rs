use super::*;
use crate::role::Role;
use crate::story::{self, Story};
use std::sync::Arc;

fn with_hot_reload(hostname: &str, word: &str) -> Sources {
    let mut sources = story::policy(hostname);
    let text = sources.0.get_mut("box.yaml").unwrap();
    *text = text.replace(&format!("hostname: {hostname}\n"), &format!("hostname: {hostname}\n  hotReload: {word}\n"));
    sources
}

fn running(sources: Sources) -> Story {
    let story = Story::with_people();
    story.box_.lock().unwrap().install(sources, "console");
    story.poll();
    story
}

#[test]
fn a_changed_file_waits_unless_the_running_policy_says_otherwise() {
    let story = running(story::policy("first"));
    // That the new text itself asks to be applied must not count.
    take_in(&story.site, &with_hot_reload("second", "apply")).unwrap();
    let waiting = revision::waiting(&story.site).unwrap().unwrap();
    assert_eq!((waiting.origin, waiting.author.as_str()), (FoundIn::HotReload, NAME));
    assert!(waiting.digest.is_some());
    assert!(story.site.applier.status().unwrap().trial.is_none());

    take_in(&story.site, &with_hot_reload("second", "apply")).unwrap();
    assert_eq!(revision::waiting(&story.site).unwrap().unwrap().id, waiting.id, "the same files again are the same revision");
    take_in(&story.site, &story::policy("third")).unwrap();
    assert_ne!(revision::waiting(&story.site).unwrap().unwrap().id, waiting.id, "only the newest waits");
    assert_eq!(revision::get(&story.site, waiting.id).unwrap().outcome, Outcome::Dismissed);
}

#[test]
fn where_the_running_policy_says_so_it_goes_on_trial_and_an_operator_confirms() {
    let story = running(with_hot_reload("first", "apply"));
    take_in(&story.site, &with_hot_reload("second", "apply")).unwrap();
    let trial = story.site.applier.status().unwrap().trial.unwrap();
    assert_eq!(trial.by, NAME);
    story.later(1);
    trial::confirm(&story.site, &story.actor(Role::Operator), trial.generation).unwrap();
    story.poll();
    assert_eq!(revision::of_generation(&story.site, trial.generation).unwrap().unwrap().outcome, Outcome::Confirmed);
}

#[test]
fn nobody_confirms_and_it_goes_back() {
    let story = running(with_hot_reload("first", "apply"));
    take_in(&story.site, &with_hot_reload("second", "apply")).unwrap();
    story.later(61);
    story.poll();
    let newest = revision::newest_from(&story.site, FoundIn::HotReload).unwrap().unwrap();
    assert_eq!(newest.outcome, Outcome::WentBack);
}

#[test]
fn a_file_with_problems_waits_with_them_and_is_never_applied() {
    let story = running(with_hot_reload("first", "apply"));
    take_in(&story.site, &Sources::single("box.yaml", "kind: [")).unwrap();
    let waiting = revision::waiting(&story.site).unwrap().unwrap();
    assert_eq!(waiting.digest, None);
    assert!(waiting.message.contains("problem"));
    assert!(story.site.applier.status().unwrap().trial.is_none());
}

#[test]
fn an_empty_folder_changes_nothing() {
    let story = running(with_hot_reload("first", "apply"));
    take_in(&story.site, &Sources::default()).unwrap();
    assert_eq!(revision::waiting(&story.site).unwrap(), None);
}

#[test]
fn a_file_that_is_written_in_pieces_or_renamed_into_place_is_taken_whole() {
    let mut story = running(story::policy("first"));
    let folder = tempfile::tempdir().unwrap();
    story.site.settings.policy_dir = Some(folder.path().to_owned());
    let story = Arc::new(story);
    let watched = story.clone();
    let watcher = thread::spawn(move || watch(&watched.site));
    thread::sleep(Duration::from_millis(100));

    let text = story::policy("in-pieces").0["box.yaml"].clone();
    let mut file = File::create(folder.path().join("box.yaml")).unwrap();
    for piece in text.as_bytes().chunks(40) {
        io::Write::write_all(&mut file, piece).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    drop(file);
    let waiting = until(|| revision::waiting(&story.site).unwrap());
    assert_eq!(revision::sources(&story.site, waiting.id).unwrap().0["box.yaml"], text);

    let text = story::policy("renamed").0["box.yaml"].clone();
    fs::write(folder.path().join(".box.yaml.swp"), &text).unwrap();
    fs::rename(folder.path().join(".box.yaml.swp"), folder.path().join("box.yaml")).unwrap();
    let renamed = until(|| revision::waiting(&story.site).unwrap().filter(|newer| newer.id != waiting.id));
    assert_eq!(revision::sources(&story.site, renamed.id).unwrap().0, BTreeMap::from([("box.yaml".to_owned(), text)]));

    story.site.ticks.stop();
    fs::write(folder.path().join("box.yaml"), "").unwrap();
    watcher.join().unwrap();
}

fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing happened for 20 s");
        thread::sleep(Duration::from_millis(50));
    }
}
