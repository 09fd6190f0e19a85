//! The difference of two policies: what changes for packets, and which lines.

use policy::{Judged, Plan, Sources};
use serde::Serialize;

use super::ui::{self, DiffLine};
use crate::candidate;

/// Lines of one kind under a title.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    pub title: String,
    /// `add`, `del` or `same`: its class.
    pub kind: &'static str,
    pub lines: Vec<String>,
}

/// Lines of a diff on one page; beyond, nobody reads, and a browser suffers.
const MOST_LINES: usize = 4000;

/// File by file; equal files are left out.
pub fn text(old: &Sources, new: &Sources) -> Vec<DiffLine> {
    let names = old.0.keys().chain(new.0.keys().filter(|name| !old.0.contains_key(*name)));
    let mut lines = Vec::new();
    for name in names {
        let side = |sources: &Sources| sources.0.get(name).cloned().unwrap_or_default();
        let (before, after) = (side(old), side(new));
        if before == after {
            continue;
        }
        let what = match (old.0.contains_key(name), new.0.contains_key(name)) {
            (true, false) => " (removed)",
            (false, true) => " (new)",
            _ => "",
        };
        lines.push(DiffLine { kind: "file", text: format!("{name}{what}") });
        lines.extend(ui::diff(&policy::diff_text(&before, &after)));
    }
    if lines.len() > MOST_LINES {
        lines.truncate(MOST_LINES);
        lines.push(DiffLine { kind: "at", text: "… and more, not shown here".to_owned() });
    }
    lines
}

/// `3 lines added, 1 removed in 2 files`
pub fn summary(lines: &[DiffLine]) -> String {
    let count = |kind: &str| lines.iter().filter(|line| line.kind == kind).count();
    let files = super::format::plural(count("file"), "file", "files");
    format!("{} added, {} removed in {files}", super::format::plural(count("add"), "line", "lines"), count("del"))
}

/// By meaning, computed from both plans; None of `old` is a box that lets nothing through.
pub fn meaning(old: Option<&Judged>, new: &Judged) -> Vec<Group> {
    let nothing = Plan::default();
    groups(&candidate::changes(old.map_or(&nothing, |old| &old.plan), &new.plan))
}

/// From the words of `policy::changes`: a line that ends in a colon is a title, the indented ones below belong to it.
fn groups(text: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match (line.strip_suffix(':'), groups.last_mut()) {
            (Some(title), _) if !line.starts_with(' ') => {
                groups.push(Group { title: title.to_owned(), kind: kind(title), lines: Vec::new() })
            }
            (_, Some(group)) => group.lines.push(ui::visible(line.trim())),
            (_, None) => groups.push(Group { title: "Changes".to_owned(), kind: "same", lines: vec![ui::visible(line.trim())] }),
        }
    }
    groups
}

fn kind(title: &str) -> &'static str {
    let title = title.to_lowercase();
    if title.starts_with("newly") {
        "add"
    } else if title.starts_with("no longer") {
        "del"
    } else {
        "same"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meaning_is_told_in_groups() {
        let told = groups("newly permitted:\n  lan to wan tcp/22\n\nno longer permitted:\n  guest to lan any\n");
        let kinds: Vec<_> = told.iter().map(|group| (group.kind, group.lines.len())).collect();
        assert_eq!(kinds, [("add", 1), ("del", 1)]);
        assert!(groups("").is_empty());
    }

    #[test]
    fn equal_files_are_left_out() {
        let old = Sources([("a.yaml", "x\n"), ("b.yaml", "y\n")].map(|(name, text)| (name.to_owned(), text.to_owned())).into());
        let new = Sources([("b.yaml", "y\n"), ("c.yaml", "z\n")].map(|(name, text)| (name.to_owned(), text.to_owned())).into());
        let lines: Vec<String> = text(&old, &new).into_iter().filter(|line| line.kind == "file").map(|line| line.text).collect();
        assert_eq!(lines, ["a.yaml (removed)", "c.yaml (new)"]);
    }
}
