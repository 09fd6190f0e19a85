//! The difference of two policies: what changes for packets, and which lines.

use policy::meaning::What;
use policy::{Change, Changes, Judged, Plan, Sources};
use serde::Serialize;

use super::ui::{self, DiffLine};

/// What is newly so, or no longer so, for packets.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    pub title: String,
    /// `add`, `del` or `same`: its class.
    pub kind: &'static str,
    pub lines: Vec<Line>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub from: String,
    pub to: String,
    /// `tcp/22, from 192.168.2.10`
    pub what: String,
    /// It concerns the way in for administrators: the one to be careful about.
    pub administration: bool,
}

/// The difference by meaning, or why there is none to show.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Meaning {
    /// Mapped clients, and the upstreams that carry them.
    pub carried: Vec<Carried>,
    pub carried_more: Option<String>,
    pub groups: Vec<Group>,
    /// Said where there are no groups.
    pub none: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// As of a [`Group`].
    pub kind: &'static str,
    /// `newly carried`, `upstream berlin`
    pub about: String,
    pub text: String,
}

/// Lines of a diff on one page; beyond, nobody reads, and a browser suffers.
const MOST_LINES: usize = 4000;
const MOST_CARRIED: usize = 200;

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

/// Computed from both plans; None is a box that lets nothing through.
pub fn meaning(old: Option<&Judged>, new: &Judged) -> Meaning {
    let nothing = Plan::default();
    told(policy::changes(old.map_or(&nothing, |old| &old.plan), &new.plan))
}

impl Meaning {
    pub fn unknown(why: &str) -> Self {
        Meaning { none: why.to_owned(), ..Meaning::default() }
    }

    /// Nothing is different, and it is known.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.carried.is_empty()
    }
}

fn told(changes: Changes) -> Meaning {
    let hidden = changes.carried.len().saturating_sub(MOST_CARRIED);
    let about_carried = Meaning {
        carried: changes.carried.iter().take(MOST_CARRIED).map(|line| carried(line)).collect(),
        carried_more: (hidden > 0).then(|| format!("and {} more, which the text below tells", super::format::count(hidden as u64))),
        ..Meaning::default()
    };
    if changes.too_large {
        let none = "What changes for all other packets is too much to be computed on this box. The text below tells it.".to_owned();
        return Meaning { none, ..about_carried };
    }
    let mut groups: Vec<Group> = Vec::new();
    for change in changes.changes {
        let (kind, title) = title(&change.what);
        let line = line(change);
        match groups.last_mut().filter(|group| group.title == title) {
            Some(group) => group.lines.push(line),
            None => groups.push(Group { title, kind, lines: vec![line] }),
        }
    }
    let none = if about_carried.is_empty() {
        "Every new connection is treated as before."
    } else {
        "Every other new connection is treated as before."
    };
    Meaning { groups, none: none.to_owned(), ..about_carried }
}

fn carried(line: &str) -> Carried {
    let (about, text) = line.split_once(": ").unwrap_or(("", line));
    let kind = match about {
        "newly carried" => "add",
        "no longer carried" => "del",
        _ => "same",
    };
    Carried { kind, about: ui::visible(about), text: ui::visible(text) }
}

fn title(what: &What) -> (&'static str, String) {
    match what {
        What::NewlyPermitted => ("add", "Newly permitted".to_owned()),
        What::NoLongerPermitted => ("del", "No longer permitted".to_owned()),
        What::NowLeaves(how) => ("same", format!("Now {how}")),
        What::NoLongerLeaves(how) => ("same", format!("No longer {how}")),
    }
}

fn line(change: Change) -> Line {
    let services = change.services.join(", ");
    let becomes = change.becomes.map(|becomes| format!("becomes {becomes}"));
    let parts = std::iter::once(services).chain(change.narrowed).chain(becomes).chain(change.when);
    Line { from: change.from, to: change.to, what: parts.collect::<Vec<_>>().join(", "), administration: change.administration }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meaning_is_told_in_groups_and_the_way_in_is_marked() {
        let policy = |ports: &str, admin: &str| {
            let text = format!(
                "apiVersion: portcullis/v1\nkind: System\nmetadata: {{ name: s }}\nspec: {{ hostname: gw, admin: {{ zones: {admin} }} }}\n---\n{}",
                crate::pages::sample::ZONES
            );
            let rules = format!(
                "---\napiVersion: portcullis/v1\nkind: FirewallPolicy\nmetadata: {{ name: out }}\nspec: {{ rules: [{{ name: a, from: lan, to: wan, services: [{ports}], action: accept }}] }}\n"
            );
            policy::judge(&Sources::single("a.yaml", text + &rules)).unwrap_or_else(|problems| panic!("{problems}"))
        };
        let told = meaning(Some(&policy("tcp/22", "lan")), &policy("tcp/23", "guest"));
        let titles: Vec<_> = told.groups.iter().map(|group| (group.kind, group.title.as_str())).collect();
        assert_eq!(titles, [("add", "Newly permitted"), ("del", "No longer permitted")]);
        assert!(told.groups.iter().flat_map(|group| &group.lines).any(|line| line.administration));
        let same = meaning(Some(&policy("tcp/22", "lan")), &policy("tcp/22", "lan"));
        assert!(same.groups.is_empty() && same.none.contains("as before"));
    }

    #[test]
    fn what_changes_for_mapped_clients_is_told_beside_what_changes_for_packets() {
        let judged = |text: &str| policy::judge(&Sources::single("a.yaml", text)).unwrap_or_else(|problems| panic!("{problems}"));
        let text = crate::pages::sample::carried_policy().0["carried.yaml"].clone();
        let without_tv = text.split("---\n").filter(|part| !part.contains("name: tv")).collect::<Vec<_>>().join("---\n");
        let told = meaning(Some(&judged(&without_tv)), &judged(&text.replace("port: 3128", "port: 3129")));
        let lines: Vec<_> = told.carried.iter().map(|line| (line.kind, line.about.as_str(), line.text.as_str())).collect();
        assert_eq!(
            lines,
            [("add", "newly carried", "clients of mapping tv, by upstream berlin"), ("same", "upstream oslo", "with other settings")]
        );
        assert!(!told.is_empty() && told.none.contains("Every other"), "{told:?}");
        assert!(meaning(Some(&judged(&text)), &judged(&text)).is_empty());
    }

    #[test]
    fn equal_files_are_left_out() {
        let old = Sources([("a.yaml", "x\n"), ("b.yaml", "y\n")].map(|(name, text)| (name.to_owned(), text.to_owned())).into());
        let new = Sources([("b.yaml", "y\n"), ("c.yaml", "z\n")].map(|(name, text)| (name.to_owned(), text.to_owned())).into());
        let lines: Vec<String> = text(&old, &new).into_iter().filter(|line| line.kind == "file").map(|line| line.text).collect();
        assert_eq!(lines, ["a.yaml (removed)", "c.yaml (new)"]);
    }
}
