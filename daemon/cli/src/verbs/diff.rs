//! `portcullis diff`: what somebody changed, and what that changes for packets.

use std::collections::BTreeSet;

use policy::{Changes, Judged, Sources, changes, diff_text, judge};
use serde_json::json;

use super::{say, say_json};
use crate::applier::Applier;
use crate::trouble::Trouble;
use crate::{paint, sources};

pub fn run(old: String, new: String, plan: bool, json: bool, applier: &Applier) -> Result<(), Trouble> {
    let old = sources::gather(&[old], applier)?;
    let new = sources::gather(&[new], applier)?;
    let (before, after) = (judge(&old).map_err(Trouble::Problems)?, judge(&new).map_err(Trouble::Problems)?);
    if plan {
        return say(paint::for_stdout().diff(&diff_text(&before.plan.to_string(), &after.plan.to_string())));
    }
    if json {
        let digests = [&before.digest, &after.digest];
        return say_json(&json!({ "digests": digests, "text": by_text(&old, &new), "meaning": changes(&before.plan, &after.plan) }));
    }
    show(&old, &before, &new, &after)
}

/// By text, then by meaning.
pub fn show(old: &Sources, before: &Judged, new: &Sources, after: &Judged) -> Result<(), Trouble> {
    let paint = paint::for_stdout();
    if old == new {
        return say("The policy is the same, word for word.");
    }
    say(paint.diff(&by_text(old, new)))?;
    if before.digest == after.digest {
        return say("Nothing changes for the box: the plan is the same.");
    }
    say(paint.strong("What this changes for packets:"))?;
    say(by_meaning(&changes(&before.plan, &after.plan)))
}

fn by_meaning(changes: &Changes) -> String {
    let paint = paint::for_stdout();
    let told = changes.to_string();
    let painted = told.lines().map(|line| match line {
        line if line.starts_with("newly permitted") => paint.good(line),
        line if line.starts_with("no longer permitted") => paint.bad(line),
        line => line.to_owned(),
    });
    painted.map(|line| format!("  {line}\n")).collect()
}

fn by_text(old: &Sources, new: &Sources) -> String {
    // One file against one file is one policy under two names.
    if let ([(before, old)], [(after, new)]) = (&entries(old)[..], &entries(new)[..]) {
        return format!("--- {before}\n+++ {after}\n{}", diff_text(old, new));
    }
    let names: BTreeSet<&String> = old.0.keys().chain(new.0.keys()).collect();
    let text = |sources: &Sources, name: &String| sources.0.get(name).cloned().unwrap_or_default();
    let changed = names.into_iter().filter(|name| old.0.get(*name) != new.0.get(*name));
    changed.map(|name| format!("--- {name}\n+++ {name}\n{}", diff_text(&text(old, name), &text(new, name)))).collect()
}

fn entries(sources: &Sources) -> Vec<(&String, &String)> {
    sources.0.iter().collect()
}
