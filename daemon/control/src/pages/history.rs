//! What was put into effect before, and the way back to it.

use std::sync::Arc;

use policy::messages::{Generation, Status};
use policy::{Judged, Sources};
use serde::Serialize;

use super::difference::{self, Meaning};
use super::format::{Clock, Stamp, short_hash};
use super::page::{self, Page};
use super::ui::{self, Badge, Choice, DiffLine, Field, Tone, visible};
use crate::candidate;
use crate::flash;
use crate::http::{Access, Method, Response, Route, Visit};
use crate::revision::{self, FoundIn, Outcome, Revision};
use crate::role::Action;
use crate::trial::{self, Back};
use crate::trouble::Trouble;

const VIEW: Access = Access::May(Action::View);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/history", access: VIEW, handler: show },
    Route { method: Method::Get, path: "/history/revision", access: VIEW, handler: one },
    Route { method: Method::Get, path: "/history/diff", access: VIEW, handler: diff },
    Route { method: Method::Post, path: "/history/trial", access: Access::May(Action::Apply), handler: put_on_trial },
];

#[derive(Debug, Serialize)]
struct History {
    generations: Vec<GenerationRow>,
    nothing_generations: &'static str,
    choices: Vec<Field>,
    revisions: Vec<RevisionRow>,
    older: Option<String>,
}

#[derive(Debug, Serialize)]
struct GenerationRow {
    number: u64,
    state: Badge,
    at: Option<Stamp>,
    by: String,
    digest: String,
    digest_short: String,
    may_try: bool,
}

#[derive(Debug, Serialize)]
struct RevisionRow {
    number: i64,
    href: String,
    state: Badge,
    at: Option<Stamp>,
    by: String,
    note: String,
    generation: String,
    digest: String,
    digest_short: String,
    may_restore: bool,
}

const PER_PAGE: u32 = 30;

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let before = visit.request.query.number("before")?;
    let revisions = revision::list(visit.site, before, PER_PAGE)?;
    let seen = visit.site.applier.seen();
    let status = seen.status.as_ref();
    let clock = page::clock(visit);
    let view = History {
        generations: generations(status, &clock, visit.may(Action::Apply)),
        nothing_generations: if status.is_some() {
            "The applier has installed nothing yet."
        } else {
            "Not known: the applier does not answer."
        },
        choices: choices(status, &revisions),
        older: (revisions.len() == PER_PAGE as usize)
            .then(|| revisions.last().map(|last| format!("/history?before={}", last.id)))
            .flatten(),
        revisions: revisions.into_iter().map(|revision| row(revision, &clock, visit.may(Action::Edit))).collect(),
    };
    Page::new(visit, "History").draw("history.html", &view)
}

fn generations(status: Option<&Status>, clock: &Clock, may: bool) -> Vec<GenerationRow> {
    let Some(status) = status else { return Vec::new() };
    let running = status.running.as_ref().map(|running| running.number);
    let trial = status.trial.as_ref().map(|trial| trial.generation);
    let mut all: Vec<&Generation> = status.kept.iter().chain(&status.running).collect();
    all.sort_by_key(|generation| std::cmp::Reverse(generation.number));
    all.dedup_by_key(|generation| generation.number);
    let row = |generation: &Generation| GenerationRow {
        number: generation.number,
        state: match generation.number {
            number if Some(number) == trial => Badge::new(Tone::Warn, "on trial"),
            number if Some(number) == running => Badge::new(Tone::Ok, "runs"),
            _ if generation.confirmed => Badge::new(Tone::Plain, "kept"),
            _ => Badge::new(Tone::Plain, "never confirmed"),
        },
        at: clock.stamp(generation.installed_at),
        by: generation.by.clone(),
        digest_short: short_hash(&generation.digest.0),
        digest: generation.digest.0.clone(),
        may_try: may && generation.confirmed && trial.is_none() && Some(generation.number) != running,
    };
    all.into_iter().map(row).collect()
}

fn row(revision: Revision, clock: &Clock, may_edit: bool) -> RevisionRow {
    let digest = revision.digest.clone().unwrap_or_default();
    RevisionRow {
        number: revision.id,
        href: format!("/history/revision?id={}", revision.id),
        state: outcome(revision.outcome),
        at: clock.stamp(revision.created_at),
        by: by(&revision),
        note: visible(&revision.message),
        generation: revision.generation.map_or_else(|| "–".to_owned(), |number| number.to_string()),
        digest_short: if digest.is_empty() { "has problems".to_owned() } else { short_hash(&digest) },
        digest,
        may_restore: may_edit,
    }
}

fn by(revision: &Revision) -> String {
    let author = visible(&revision.author);
    match revision.origin {
        FoundIn::Candidate => author,
        FoundIn::HotReload => format!("{author} (policy folder)"),
        FoundIn::Applier => format!("{author} (console)"),
    }
}

fn outcome(outcome: Outcome) -> Badge {
    match outcome {
        Outcome::Waiting => Badge::new(Tone::Info, "waiting"),
        Outcome::Dismissed => Badge::new(Tone::Plain, "dismissed"),
        Outcome::Trial => Badge::new(Tone::Warn, "on trial"),
        Outcome::Confirmed => Badge::new(Tone::Ok, "confirmed"),
        Outcome::WentBack => Badge::new(Tone::Warn, "went back"),
        Outcome::Failed => Badge::new(Tone::Bad, "failed"),
    }
}

/// Any two of revisions, generations, and the candidate. Nothing to choose from means no form.
fn choices(status: Option<&Status>, revisions: &[Revision]) -> Vec<Field> {
    let mut all = vec![Choice::new("candidate", "the candidate")];
    all.extend(revisions.iter().map(|revision| Choice::new(format!("r{}", revision.id), format!("revision {}", revision.id))));
    all.extend(
        status
            .iter()
            .flat_map(|status| &status.kept)
            .rev()
            .map(|kept| Choice::new(format!("g{}", kept.number), format!("generation {}", kept.number))),
    );
    if all.len() < 2 {
        return Vec::new();
    }
    let newest = revisions.first().map_or("candidate".to_owned(), |revision| format!("r{}", revision.id));
    let one_before = revisions.get(1).map_or_else(|| newest.clone(), |revision| format!("r{}", revision.id));
    vec![Field::select("from", "Compare", one_before, all.clone()), Field::select("to", "With", newest, all)]
}

#[derive(Debug, Serialize)]
struct OneRevision {
    number: i64,
    intro: String,
    may_restore: bool,
    files: Vec<FileText>,
}

#[derive(Debug, Serialize)]
struct FileText {
    name: String,
    lines: Vec<String>,
}

fn one(visit: &Visit) -> Result<Response, Trouble> {
    let id = visit.request.query.number("id")?.ok_or_else(|| Trouble::field("id", "is missing"))?;
    let revision = revision::get(visit.site, id)?;
    let sources = revision::sources(visit.site, id)?;
    let clock = page::clock(visit);
    let note = if revision.message.is_empty() { String::new() } else { format!(" “{}”", visible(&revision.message)) };
    let view = OneRevision {
        number: id,
        intro: format!("{} at {}: {}.{note}", by(&revision), clock.say(revision.created_at), outcome(revision.outcome).word),
        may_restore: visit.may(Action::Edit),
        files: sources.0.iter().map(|(name, text)| FileText { name: name.clone(), lines: ui::lines(text) }).collect(),
    };
    Page::new(visit, format!("Revision {id}")).draw("revision.html", &view)
}

#[derive(Debug, Serialize)]
struct Difference {
    heading: String,
    intro: String,
    meaning: Meaning,
    diff: Vec<DiffLine>,
}

/// One side of a comparison.
struct Side {
    name: String,
    sources: Sources,
    judged: Option<Arc<Judged>>,
}

fn diff(visit: &Visit) -> Result<Response, Trouble> {
    let query = &visit.request.query;
    let (from, to) = (side(visit, query.required("from")?)?, side(visit, query.required("to")?)?);
    let lines = difference::text(&from.sources, &to.sources);
    let meaning = match (&from.judged, &to.judged) {
        (Some(old), Some(new)) => difference::meaning(Some(old), new),
        _ => Meaning::unknown("Not known: one of them has problems and compiles to no plan."),
    };
    let view = Difference { heading: format!("{} → {}", from.name, to.name), intro: difference::summary(&lines), meaning, diff: lines };
    Page::new(visit, view.heading.clone()).draw("history_diff.html", &view)
}

fn side(visit: &Visit, wanted: &str) -> Result<Side, Trouble> {
    let unknown = || Trouble::no_such("revision or generation", wanted);
    let (name, sources) = match wanted.split_at_checked(1) {
        _ if wanted == "candidate" => ("Candidate".to_owned(), candidate::get(visit.site)?.sources),
        Some(("r", id)) => (format!("Revision {id}"), revision::sources(visit.site, id.parse().map_err(|_| unknown())?)?),
        Some(("g", number)) => {
            (format!("Generation {number}"), visit.site.applier.sources(Some(number.parse().map_err(|_| unknown())?))?.1)
        }
        _ => return Err(unknown()),
    };
    let judged = visit.site.judgements.passed(&sources).ok();
    Ok(Side { name, sources, judged })
}

fn put_on_trial(visit: &Visit) -> Result<Response, Trouble> {
    let generation = visit.request.form()?.number("generation")?.ok_or_else(|| Trouble::field("generation", "is missing"))?;
    match trial::go_back(visit.site, visit.actor()?, Some(generation))? {
        Back::OnTrial { generation, deadline } => {
            let clock = page::clock(visit);
            let text = format!("Generation {generation} runs, on trial until {}.", clock.say(deadline));
            Ok(Response::see_other("/trial").flash(flash::Tone::Ok, text))
        }
        Back::WentBack { generation } => {
            Ok(Response::see_other("/").flash(flash::Tone::Ok, format!("The gate went back to generation {generation}.")))
        }
    }
}
