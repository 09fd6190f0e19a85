//! Editing one resource leaves the rest of the text alone, byte for byte.

use policy::Sources;
use policy::edit::{Entry, Refused, delete, insert, replace, resources};
use proptest::prelude::*;

fn zone(name: &str, rest: &str) -> String {
    format!("apiVersion: portcullis/v1\nkind: Zone\nmetadata: {{ name: {name} }}\nspec: {{}}\n{rest}")
}

#[test]
fn a_heading_outlives_the_resource_below_it() {
    let text = format!("# My network\n\n{}\n# --- Inside ---\n---\n# the house\n{}", zone("wan", ""), zone("lan", ""));
    let sources = Sources::single("a.yaml", text);
    let listed = resources(&sources);
    let beginnings: Vec<_> = listed.iter().map(|entry| (entry.text.lines().next().unwrap(), entry.line)).collect();
    assert_eq!(beginnings, [("apiVersion: portcullis/v1", 3), ("# the house", 10)]);
    let edited = replace(&sources, "Zone", "wan", "---\nkind: Zone\nmetadata: {name: wan}").unwrap();
    assert_eq!(
        edited.0["a.yaml"],
        format!("# My network\n\nkind: Zone\nmetadata: {{name: wan}}\n\n# --- Inside ---\n---\n# the house\n{}", zone("lan", ""))
    );
    let edited = delete(&sources, "Zone", "lan").unwrap();
    assert_eq!(edited.0["a.yaml"], format!("# My network\n\n{}\n# --- Inside ---\n", zone("wan", "")));
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() {
    let sources = Sources::single("a.yaml", format!("{}---\n{}---\n{}", zone("a", ""), zone("b", ""), zone("b", "")));
    assert!(matches!(replace(&sources, "Zone", "c", &zone("c", "")), Err(Refused::NotThere { .. })));
    assert!(matches!(replace(&sources, "Zone", "a", &zone("b", "")), Err(Refused::Other { .. })));
    assert!(matches!(delete(&sources, "Zone", "b"), Err(Refused::Twice { .. })));
    assert!(matches!(insert(&sources, "b.yaml", &zone("a", "")), Err(Refused::AlreadyThere { line: 1, .. })));
    for text in ["", "---\n", "kind: [", "kind: Zone\n", "- a\n", &format!("{}---\n{}", zone("x", ""), zone("y", ""))] {
        assert!(matches!(insert(&sources, "b.yaml", text), Err(Refused::NotOne(_))), "{text:?}");
    }
}

#[test]
fn a_file_without_resources_disappears_and_comes_back() {
    let sources = Sources::single("a.yaml", format!("---\n{}", zone("a", "")));
    let empty = delete(&sources, "Zone", "a").unwrap();
    assert!(empty.0.is_empty());
    assert_eq!(insert(&empty, "a.yaml", &zone("a", "")).unwrap().0["a.yaml"], zone("a", ""));
}

#[test]
fn a_resource_on_the_line_of_its_mark_can_be_replaced_and_deleted() {
    let sources = Sources::single("a.yaml", format!("{}--- {{kind: Zone, metadata: {{name: b}}}}\n---\n{}", zone("a", ""), zone("c", "")));
    let edited = replace(&sources, "Zone", "b", &zone("b", "")).unwrap();
    assert_eq!(edited.0["a.yaml"], format!("{}---\n{}---\n{}", zone("a", ""), zone("b", ""), zone("c", "")));
    assert_eq!(delete(&sources, "Zone", "b").unwrap().0["a.yaml"], format!("{}---\n{}", zone("a", ""), zone("c", "")));
}

/// Documents as people write them: comments above, beside and below, blank lines, both line ends, marks with comments.
fn document(name: String) -> impl Strategy<Value = String> {
    let above = prop::sample::select(vec!["", "# about this\n", "\n", "# heading\n\n", "# heading\n\n# about this\n"]);
    let body = prop::sample::select(vec![
        "apiVersion: portcullis/v1\nkind: Zone\nmetadata:\n  name: NAME   # beside\nspec: {}\n",
        "kind: Zone\nmetadata: { name: NAME, description: \"--- not a mark\" }\nspec:\n  # inside\n  antiSpoofing: true\n  # last\n",
        "kind: Zone\r\nmetadata: { name: NAME }\r\n",
        "kind: Zone\nmetadata:\n  name: NAME\n  description: |\n    some\n    --- text\n\n    more\n",
        "{ kind: Zone, metadata: { name: NAME } }\n",
    ]);
    let below = prop::sample::select(vec!["", "\n", "# below\n", "\n# next section\n", "...\n"]);
    (above, body, below).prop_map(move |(above, body, below)| format!("{above}{}{below}", body.replace("NAME", &name)))
}

fn policy() -> impl Strategy<Value = Sources> {
    let file = |file: usize| {
        prop::collection::vec(0..100u8, 1..5).prop_flat_map(move |many| {
            let documents: Vec<_> = (0..many.len()).map(|at| document(format!("z{file}-{at}"))).collect();
            let mark = prop::sample::select(vec!["---\n", "--- # mark\n", "---   \n"]);
            (documents, mark, prop::bool::ANY).prop_map(|(documents, mark, leading)| {
                let text = documents.join(mark);
                if leading { format!("{mark}{text}") } else { text }
            })
        })
    };
    (file(0), file(1)).prop_map(|(a, b)| Sources([("a.yaml".to_owned(), a), ("b.yaml".to_owned(), b)].into()))
}

fn texts<'s>(entries: &'s [Entry<'s>]) -> Vec<(&'s str, &'s str, &'s str)> {
    entries.iter().map(|entry| (entry.file, entry.name.as_str(), entry.text)).collect()
}

proptest! {
    #[test]
    fn replacing_by_itself_changes_nothing(sources in policy()) {
        for entry in resources(&sources) {
            prop_assert_eq!(&replace(&sources, &entry.kind, &entry.name, entry.text).unwrap(), &sources, "{}", entry.name);
        }
    }

    #[test]
    fn replacing_one_leaves_the_others(sources in policy(), pick in any::<prop::sample::Index>()) {
        let before = resources(&sources);
        let chosen = pick.get(&before);
        let new = zone(&chosen.name, "# new\n");
        let edited = replace(&sources, &chosen.kind, &chosen.name, &new).unwrap();
        let after = resources(&edited);
        prop_assert_eq!(before.len(), after.len());
        for (old, new) in texts(&before).into_iter().zip(texts(&after)) {
            prop_assert!(old == new || old.1 == chosen.name);
        }
        // What is not the resource is still there, before and behind it.
        let (old, new) = (&sources.0[chosen.file], &edited.0[chosen.file]);
        let at = chosen.text.as_ptr() as usize - old.as_ptr() as usize;
        prop_assert!(new.starts_with(&old[..at]) && new.ends_with(&old[at + chosen.text.len()..]));
    }

    #[test]
    fn deleting_one_leaves_the_others(sources in policy(), pick in any::<prop::sample::Index>()) {
        let before = resources(&sources);
        let chosen = pick.get(&before);
        let edited = delete(&sources, &chosen.kind, &chosen.name).unwrap();
        let expected: Vec<_> = texts(&before).into_iter().filter(|(_, name, _)| *name != chosen.name).collect();
        let after = resources(&edited);
        prop_assert_eq!(texts(&after), expected);
    }

    #[test]
    fn what_was_inserted_can_be_deleted_again(sources in policy()) {
        let inserted = insert(&sources, "b.yaml", &zone("new", "")).unwrap();
        prop_assert_eq!(resources(&inserted).len(), resources(&sources).len() + 1);
        prop_assert!(inserted.0["b.yaml"].starts_with(&sources.0["b.yaml"]));
        let deleted = delete(&inserted, "Zone", "new").unwrap();
        let line_end = if sources.0["b.yaml"].ends_with('\n') { "" } else { "\n" };
        prop_assert_eq!(&deleted.0["b.yaml"], &format!("{}{line_end}", sources.0["b.yaml"]));
    }

    #[test]
    fn no_text_makes_an_edit_panic(text in "(?s)(---|kind: Zone|metadata: \\{name: a\\}|[ -~]|\n|\r|#|\\.\\.\\.){0,40}", other in ".{0,40}") {
        let sources = Sources::single("a.yaml", text.as_str());
        let _ = resources(&sources);
        let _ = replace(&sources, "Zone", "a", &other);
        let _ = insert(&sources, "a.yaml", &text);
        let _ = delete(&sources, "Zone", "a");
    }
}
