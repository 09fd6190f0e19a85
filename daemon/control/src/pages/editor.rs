//! One file of the policy as text, with its problems at their lines; new files, from a starting point or from a disk.

use std::collections::BTreeSet;

use policy::{Problems, Sources, starting_points};
use serde::Serialize;

use super::format;
use super::page::Page;
use super::ui::{self, Field, ShownProblem, query};
use crate::candidate::{self, Candidate};
use crate::flash;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const EDIT: Access = Access::May(Action::Edit);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/policies/file", access: Access::May(Action::View), handler: show },
    Route { method: Method::Post, path: "/policies/file", access: EDIT, handler: save },
    Route { method: Method::Post, path: "/policies/delete", access: EDIT, handler: delete },
    Route { method: Method::Get, path: "/policies/new", access: EDIT, handler: show_new },
    Route { method: Method::Post, path: "/policies/new", access: EDIT, handler: create },
    Route { method: Method::Get, path: "/policies/upload", access: EDIT, handler: show_upload },
    Route { method: Method::Post, path: "/policies/upload", access: EDIT, handler: upload },
];

#[derive(Debug, Serialize)]
pub struct Editor {
    file: String,
    intro: String,
    may_edit: bool,
    problems: Vec<ShownProblem>,
    problems_word: &'static str,
    problems_text: &'static str,
    /// The candidate's version that this text was read from.
    base: u64,
    lines: Vec<Line>,
    /// Numbers for lines that may yet be written.
    beyond: Vec<usize>,
    rows: usize,
    text: String,
}

#[derive(Debug, Serialize)]
struct Line {
    number: usize,
    wrong: bool,
}

/// How many more lines are numbered in advance; a script goes on from there.
const SPARE_LINES: usize = 60;

pub fn editor(file: &str, text: &str, base: u64, sources: &Sources, problems: &Problems, may_edit: bool) -> Editor {
    let count = text.lines().count().max(1);
    let here = |problem: &&policy::Problem| problem.origin.as_ref().is_some_and(|origin| origin.file == file);
    let wrong: BTreeSet<usize> =
        problems.0.iter().filter(here).filter_map(|problem| Some(problem.origin.as_ref()?.line as usize)).collect();
    let elsewhere = problems.0.iter().filter(|problem| !here(problem)).count();
    Editor {
        file: file.to_owned(),
        intro: match (problems.is_empty(), elsewhere) {
            (true, _) => "No problems: the candidate can be applied.".to_owned(),
            (false, 0) => "Your text is kept as you wrote it.".to_owned(),
            (false, elsewhere) => {
                format!("Your text is kept as you wrote it. {} in other files.", format::plural(elsewhere, "problem is", "problems are"))
            }
        },
        may_edit,
        problems: ui::problems(problems, sources, Some(file)),
        problems_word: if problems.0.len() == 1 { "problem" } else { "problems" },
        problems_text: "Each leads to its line.",
        base,
        lines: (1..=count).map(|number| Line { number, wrong: wrong.contains(&number) }).collect(),
        beyond: (count + 1..=count + SPARE_LINES).collect(),
        rows: count + 2,
        text: text.to_owned(),
    }
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let file = visit.request.query.required("name")?;
    let candidate = candidate::get(visit.site)?;
    let text = candidate.sources.0.get(file).ok_or_else(|| Trouble::no_such("file", file))?.clone();
    draw(visit, file, &text, &candidate, None)
}

fn draw(visit: &Visit, file: &str, text: &str, candidate: &Candidate, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let mut sources = candidate.sources.clone();
    sources.0.insert(file.to_owned(), text.to_owned());
    let judgement = visit.site.judgements.of(&sources);
    let none = Problems::default();
    let problems = judgement.as_ref().as_ref().err().unwrap_or(&none);
    let view = editor(file, text, candidate.version, &sources, problems, visit.may(Action::Edit));
    Page::new(visit, file).told(&mut [], trouble)?.draw("policy_edit.html", &view)
}

/// Saved whatever is wrong with it: what is half done must not be lost. Only applying needs it to be right.
fn save(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let file = form.required("file")?;
    let text = unix_lines(form.text("text"));
    let base = form.number("base")?.unwrap_or(0);
    match candidate::save_file(visit.site, visit.actor()?, base, file, Some(text.clone())) {
        Ok(candidate) => {
            let right = visit.site.judgements.of(&candidate.sources).is_ok();
            let here = format!("/policies/file?name={}", query(file));
            Ok(match (form.text("then"), right) {
                ("preview", true) => Response::see_other("/policies/preview"),
                (_, true) => Response::see_other(&here).flash(flash::Tone::Ok, "Saved. The candidate has no problems."),
                (_, false) => {
                    Response::see_other(&here).flash(flash::Tone::Warn, "Saved, but the candidate has problems and cannot be applied yet.")
                }
            })
        }
        // The text stays on the page, now on top of the version that somebody else made.
        Err(trouble @ Trouble::Conflict(_)) => draw(visit, file, &text, &candidate::get(visit.site)?, Some(trouble)),
        Err(trouble) => Err(trouble),
    }
}

/// Browsers send CR LF (HTML standard, "form-data set"); files have LF and end with one.
fn unix_lines(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
}

fn delete(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let file = form.required("file")?;
    candidate::save_file(visit.site, visit.actor()?, form.number("base")?.unwrap_or(0), file, None)?;
    Ok(Response::see_other("/policies").flash(flash::Tone::Ok, format!("{file} is no longer part of the candidate.")))
}

#[derive(Debug, Serialize)]
struct New {
    points: Vec<Point>,
    /// Whether there is something that could be replaced.
    has_files: bool,
    replace: bool,
    fields: Vec<Field>,
}

#[derive(Debug, Serialize)]
struct Point {
    value: &'static str,
    label: &'static str,
    text: &'static str,
    checked: bool,
}

fn show_new(visit: &Visit) -> Result<Response, Trouble> {
    draw_new(visit, &visit.request.query, None)
}

fn draw_new(visit: &Visit, typed: &Fields, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let has_files = !candidate::get(visit.site)?.sources.0.is_empty();
    let chosen = typed.get("start").unwrap_or(if has_files { "empty" } else { "small-office" });
    let point = |value, label, text| Point { value, label, text, checked: value == chosen };
    let mut points: Vec<Point> = starting_points().iter().map(|start| point(start.name, start.title, start.summary)).collect();
    points.push(point("empty", "Empty file", "Only a comment; you write the rest."));
    let mut fields = vec![
        Field::text("file", "File name", typed.get("file").unwrap_or(if has_files { "" } else { "policy.yaml" }))
            .hint("Letters, digits, . _ -, ending in .yaml.")
            .required(),
    ];
    let page = Page::new(visit, "New file").told(&mut fields, trouble)?;
    page.draw("policy_new.html", &New { points, has_files, replace: typed.get("replace").is_some(), fields })
}

fn create(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    match try_create(visit, &form) {
        Ok(file) => Ok(Response::see_other(&format!("/policies/file?name={}", query(&file)))),
        Err(trouble) => draw_new(visit, &form, Some(trouble)),
    }
}

fn try_create(visit: &Visit, form: &Fields) -> Result<String, Trouble> {
    let file = form.required("file")?.trim().to_owned();
    let start = starting_points().iter().find(|start| start.name == form.text("start"));
    let text = start.map_or("# What this file is about.\n", |start| start.text);
    add(visit, &file, text, form.get("replace").is_some(), false)?;
    Ok(file)
}

/// Puts a file into the candidate, or makes it the only one.
fn add(visit: &Visit, file: &str, text: &str, replace_all: bool, overwrite: bool) -> Result<(), Trouble> {
    candidate::check_file_name(file)?;
    let candidate = candidate::get(visit.site)?;
    let mut sources = if replace_all { Sources::default() } else { candidate.sources };
    if !overwrite && sources.0.contains_key(file) {
        return Err(Trouble::field("file", "is taken; choose another name"));
    }
    sources.0.insert(file.to_owned(), unix_lines(text));
    candidate::save(visit.site, visit.actor()?, candidate.version, sources)?;
    Ok(())
}

#[derive(Debug, Serialize)]
struct Upload {
    fields: Vec<Field>,
}

fn show_upload(visit: &Visit) -> Result<Response, Trouble> {
    draw_upload(visit, None)
}

fn draw_upload(visit: &Visit, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let mut fields = vec![Field::text("file", "File", "").kind("file").hint("YAML, up to 1 MB.").required()];
    let page = Page::new(visit, "Upload").told(&mut fields, trouble)?;
    page.draw("policy_upload.html", &Upload { fields })
}

fn upload(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let file = form.text("file.filename").rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let added = if file.is_empty() {
        Err(Trouble::field("file", "is missing; choose one"))
    } else {
        add(visit, &file, form.text("file"), form.get("replace").is_some(), true)
    };
    match added {
        Ok(()) => Ok(Response::see_other(&format!("/policies/file?name={}", query(&file)))
            .flash(flash::Tone::Ok, format!("{file} is part of the candidate."))),
        Err(trouble) => draw_upload(visit, Some(trouble)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::Origin;

    #[test]
    fn a_problem_marks_its_line_and_the_text_stays() {
        let sources = Sources::single("a.yaml", "one\ntwo\n");
        let mut problems = Problems::default();
        problems.at(&Origin { file: "a.yaml".into(), line: 2 }, "x", "wrong");
        problems.at(&Origin { file: "b.yaml".into(), line: 1 }, "y", "also wrong");
        let view = editor("a.yaml", "one\ntwo\n", 3, &sources, &problems, true);
        assert_eq!(view.lines.iter().map(|line| line.wrong).collect::<Vec<_>>(), [false, true]);
        assert_eq!(view.problems[0].href.as_deref(), Some("#L2"));
        assert!(view.intro.contains("1 problem is in other files"), "{}", view.intro);
    }

    #[test]
    fn what_a_browser_sends_becomes_a_unix_file() {
        assert_eq!(unix_lines("a\r\nb"), "a\nb\n");
        assert_eq!(unix_lines(""), "");
    }
}
