//! What applying the candidate would change, and applying it.

use policy::messages::Status;
use policy::{Judged, Problems, Sources};
use serde::Serialize;

use super::difference::{self, Meaning};
use super::error::sentence;
use super::format;
use super::page::Page;
use super::policies::say_running;
use super::ui::{self, Choice, DiffLine, Field, Notice, ShownProblem};
use crate::candidate;
use crate::flash;
use crate::http::{Access, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trial;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/policies/preview", access: Access::May(Action::View), handler: show },
    Route { method: Method::Post, path: "/policies/apply", access: Access::May(Action::Apply), handler: apply },
];

#[derive(Debug, Serialize)]
struct Preview {
    intro: String,
    problems: Vec<ShownProblem>,
    problems_word: &'static str,
    meaning: Meaning,
    may_apply: bool,
    /// Said where it cannot be applied now although it is right.
    not_now: Option<String>,
    back_to: String,
    fields: Vec<Field>,
    digest: String,
    diff: Vec<DiffLine>,
    diff_text: String,
    plan: Vec<String>,
    plan_lines: String,
}

/// Lines of the plan that a page shows; the whole is in the API.
const MOST_PLAN_LINES: usize = 3000;

fn show(visit: &Visit) -> Result<Response, Trouble> {
    draw(visit, None)
}

fn draw(visit: &Visit, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let candidate = candidate::get(visit.site)?;
    let seen = visit.site.applier.seen();
    let none = Sources::default();
    let running = seen.running.as_ref();
    let judgement = visit.site.judgements.of(&candidate.sources);
    let status = seen.status.as_ref();
    let mut view = preview(&judgement, &candidate.sources, running.map_or(&none, |running| &running.sources), status);
    if let Ok(judged) = &*judgement {
        view.meaning = difference::meaning(running.and_then(|running| running.judged.as_ref()), judged);
    }
    view.may_apply = visit.may(Action::Apply) && view.not_now.is_none();
    let page = Page::new(visit, "Preview");
    let page = match trouble {
        Some(trouble) => page.status(trouble.status()).notice(Notice::bad(sentence(&trouble))),
        None => page,
    };
    page.draw("preview.html", &view)
}

fn preview(judgement: &Result<Judged, Problems>, candidate: &Sources, running: &Sources, status: Option<&Status>) -> Preview {
    let none = Problems::default();
    let problems = judgement.as_ref().err().unwrap_or(&none);
    let judged = judgement.as_ref().ok();
    let plan = judged.map(|judged| judged.plan.to_string()).unwrap_or_default();
    let diff = difference::text(running, candidate);
    Preview {
        intro: format!("The candidate against {}, which is in force now.", say_running(status)),
        problems: ui::problems(problems, candidate, None),
        problems_word: if problems.0.len() == 1 { "problem" } else { "problems" },
        meaning: Meaning::default(),
        may_apply: false,
        not_now: not_now(status),
        back_to: say_running(status),
        fields: fields(judged),
        digest: judged.map(|judged| judged.digest.0.clone()).unwrap_or_default(),
        diff_text: difference::summary(&diff),
        diff,
        plan_lines: format::plural(plan.lines().count(), "line", "lines"),
        plan: plan.lines().take(MOST_PLAN_LINES).map(ui::visible).collect(),
    }
}

fn not_now(status: Option<&Status>) -> Option<String> {
    match status {
        None => Some("The applier does not answer, so nothing can be applied until it is back.".to_owned()),
        Some(Status { trial: Some(trial), .. }) => {
            Some(format!("Generation {} is on trial. Confirm it or go back first.", trial.generation))
        }
        _ => None,
    }
}

/// The time that the policy itself names comes first.
fn fields(judged: Option<&Judged>) -> Vec<Field> {
    let own = judged.and_then(|judged| judged.checked.config().system.as_ref()).map(|(_, system)| system.spec.confirm_within.as_secs());
    let mut within = own.map(|own| Choice::new("", format!("{} (as the policy says)", say_time(own)))).into_iter().collect::<Vec<_>>();
    within.extend(
        [30, 60, 120, 300, 600, 1800]
            .into_iter()
            .filter(|seconds| Some(*seconds) != own)
            .map(|seconds| Choice::new(seconds.to_string(), say_time(seconds))),
    );
    vec![
        Field::select("within", "Time to confirm", "", within).hint("Afterwards it goes back by itself."),
        Field::text("message", "Why", "").hint("For the history; may stay empty."),
    ]
}

fn say_time(seconds: u64) -> String {
    if seconds >= 120 && seconds.is_multiple_of(60) { format!("{} minutes", seconds / 60) } else { format!("{seconds} seconds") }
}

fn apply(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let within = form.number("within")?;
    match trial::apply(visit.site, visit.actor()?, form.required("digest")?, form.text("message").trim(), within) {
        Ok(applied) => {
            let total: u64 = applied.phases.values().sum();
            let phases: Vec<String> = applied.phases.iter().map(|(phase, took)| format!("{phase} {}", say_micros(*took))).collect();
            let text = format!("Generation {} runs, on trial. It took {}: {}.", applied.generation, say_micros(total), phases.join(", "));
            Ok(Response::see_other("/trial").flash(flash::Tone::Ok, text))
        }
        Err(trouble @ (Trouble::Conflict(_) | Trouble::Refused(_) | Trouble::WentBack(_) | Trouble::Policy(_))) => {
            draw(visit, Some(trouble))
        }
        Err(trouble) => Err(trouble),
    }
}

fn say_micros(micros: u64) -> String {
    if micros < 1000 { format!("{micros} µs") } else { format!("{:.1} ms", micros as f64 / 1000.0) }
}
