//! Mapped clients that are blocked or let in again go into the audit log, whether anybody looks at a page or not.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use policy::messages::proxy::{Effect, ProxyStatus};
use policy::name::Name;

use crate::actor::Actor;
use crate::audit::Note;
use crate::carried;
use crate::site::Site;
use crate::trouble::Trouble;

/// What was last seen of each mapping.
#[derive(Debug, Default)]
pub struct Watch {
    last: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    at: u64,
    generation: Option<u64>,
    effects: BTreeMap<Name, Effect>,
}

/// Milliseconds between two looks; each costs the applier a message.
const EVERY: u64 = 2_000;
/// Mappings that change alike at once become one entry from here on.
const TOGETHER: usize = 8;

/// Asks the applier, and writes down what is different. A box without mappings asks nothing.
pub fn follow(site: &Site) -> Result<(), Trouble> {
    let seen = site.applier.seen();
    let generation = seen.running.as_ref().map(|running| running.generation);
    let config = seen.running.as_ref().and_then(|running| running.judged.as_ref()).map(|judged| judged.checked.config());
    let mut last = site.blocked.last.lock().unwrap_or_else(PoisonError::into_inner);
    let now = site.now();
    if last.as_ref().is_some_and(|last| now.abs_diff(last.at) < EVERY) || config.is_none_or(|config| config.proxy_mappings.is_empty()) {
        return Ok(());
    }
    // An applier that does not answer is told elsewhere; what it last said stands.
    let Ok(status) = site.applier.proxy() else { return Ok(()) };
    let notes = last.as_ref().map_or_else(Vec::new, |last| notes(last, &status, generation));
    if !notes.is_empty() {
        site.change(&Actor::the_box("applier"), |ledger| notes.into_iter().try_for_each(|note| ledger.note(note)))?;
    }
    *last = Some(Seen { at: now, generation, effects: status.mappings });
    Ok(())
}

/// Changes of one sort: the action, and what is said of all of them.
type Alike = (&'static str, String);

fn notes(last: &Seen, status: &ProxyStatus, generation: Option<u64>) -> Vec<Note> {
    let mut alike: BTreeMap<Alike, Vec<&Name>> = BTreeMap::new();
    for (name, now) in &status.mappings {
        // What is new was written down when it was applied.
        let Some(before) = last.effects.get(name) else { continue };
        if let Some(change) = change(before, now, last.generation == generation) {
            alike.entry(change).or_default().push(name);
        }
    }
    alike.into_iter().flat_map(|(alike, names)| told(alike, &names)).collect()
}

fn change(before: &Effect, now: &Effect, same_generation: bool) -> Option<Alike> {
    let word = |effect: &Effect| effect.blocked.as_ref().map(carried::reason);
    let why = |effect: &Effect| effect.blocked.as_ref().map(carried::why).unwrap_or_default();
    match (before.permitted, now.permitted) {
        (true, false) => Some(("mapping.blocked", why(now))),
        (false, true) => Some(("mapping.back", format!("let in again; it was blocked: {}", why(before)))),
        (false, false) if word(before) != word(now) => Some(("mapping.blocked", why(now))),
        // A new generation lets everybody in anew.
        (true, true) if now.since > before.since && same_generation => {
            Some(("mapping.back", "let in again after it was blocked for a moment".to_owned()))
        }
        _ => None,
    }
}

fn told((action, detail): Alike, names: &[&Name]) -> Vec<Note> {
    if names.len() < TOGETHER {
        return names.iter().map(|name| Note::new(action, format!("mapping {name}"), detail.clone())).collect();
    }
    // With every name, so that the log can be searched for each.
    let all: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    vec![Note::new(action, format!("{} mappings", names.len()), format!("{detail} {}", all.join(", ")))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::sample;
    use crate::role::Role;
    use crate::story::Story;
    use policy::messages::proxy::Blocked;

    fn entries(story: &Story) -> Vec<String> {
        let told = story.api(Role::Admin, crate::http::Method::Get, "/audit?action=mapping.", None).1;
        let line = |entry: &serde_json::Value| {
            ["user", "action", "subject", "detail"].map(|field| entry[field].as_str().unwrap_or_default().to_owned()).join(" | ")
        };
        told.as_array().into_iter().flatten().map(line).collect()
    }

    #[test]
    fn a_mapping_that_is_blocked_and_comes_back_stands_in_the_log_and_one_that_stays_does_not() {
        let story = Story::with_people();
        story.carrying();
        let look = || {
            story.later(2);
            follow(&story.site).expect("written down");
        };
        let set = |name: &str, blocked: Option<Blocked>, since: u64| {
            let mut box_ = story.box_.lock().unwrap();
            let status = box_.proxy.as_mut().expect("a status");
            let effect = status.mappings.get_mut(&sample::name(name)).expect("a mapping");
            (effect.permitted, effect.blocked, effect.since) = (blocked.is_none(), blocked, since);
        };
        look();
        look();
        assert!(entries(&story).is_empty(), "nothing changed: {:?}", entries(&story));
        set("anna", Some(Blocked::UpstreamDown { why: "no answer within 3 s".to_owned() }), 1);
        look();
        look();
        assert_eq!(entries(&story), ["applier | mapping.blocked | mapping anna | No upstream carries it: no answer within 3 s."]);
        set("anna", None, 2);
        look();
        assert!(entries(&story)[0].contains("mapping.back | mapping anna | let in again"), "{:?}", entries(&story));
        // Shorter than two looks are apart.
        set("anna", None, 3);
        look();
        assert!(entries(&story)[0].contains("blocked for a moment"), "{:?}", entries(&story));
        story.box_.lock().unwrap().dead = true;
        look();
        assert_eq!(entries(&story).len(), 3, "an applier that is away says nothing of mappings");
    }

    #[test]
    fn many_that_are_blocked_alike_are_one_entry_that_names_each() {
        let names: Vec<Name> = (0..250).map(|n| sample::name(&format!("m{n}"))).collect();
        let all: Vec<&Name> = names.iter().collect();
        let notes = told(("mapping.blocked", "The forwarder is gone.".to_owned()), &all);
        assert_eq!((notes.len(), notes[0].subject.as_str()), (1, "250 mappings"));
        assert!(notes[0].detail.contains("m0") && notes[0].detail.contains("m249"));
        assert_eq!(told(("mapping.blocked", String::new()), &all[..3]).len(), 3);
    }
}
