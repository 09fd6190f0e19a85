//! All mappings as one table: saved from here, and put into the candidate whole or not at all.

use policy::Sources;
use serde::Serialize;

use super::page::Page;
use super::ui::{self, Field, ShownProblem};
use crate::bulk;
use crate::candidate;
use crate::flash;
use crate::http::{Access, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const EDIT: Access = Access::May(Action::Edit);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/mappings/import", access: EDIT, handler: show },
    Route { method: Method::Post, path: "/mappings/import", access: EDIT, handler: import },
    Route { method: Method::Get, path: "/mappings/export", access: Access::May(Action::View), handler: export },
];

#[derive(Debug, Serialize)]
struct Import {
    base: u64,
    fields: Vec<Field>,
    problems: Vec<ShownProblem>,
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    draw(visit, Vec::new(), None)
}

fn draw(visit: &Visit, problems: Vec<ShownProblem>, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let base = candidate::get(visit.site)?.version;
    let mut fields = vec![Field::text("file", "File", "").kind("file").hint("CSV with a line of column names, up to 4 MB.").required()];
    let page = Page::new(visit, "Import mappings").told(&mut fields, trouble)?;
    let page = if problems.is_empty() { page } else { page.status(422) };
    page.draw("mapping_import.html", &Import { base, fields, problems })
}

fn import(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    if typed.text("file").trim().is_empty() {
        return draw(visit, Vec::new(), Some(Trouble::field("file", "is missing or empty; choose one")));
    }
    let base = typed.number("base")?.unwrap_or(0);
    match bulk::import(visit.site, visit.actor()?, base, typed.text("file")) {
        Ok(done) => {
            let text = format!(
                "{} added, {} changed, {} as they were. This is what applying it changes.",
                done.added, done.changed, done.unchanged
            );
            let right = visit.site.judgements.of(&done.candidate.sources).is_ok();
            Ok(if right {
                Response::see_other("/policies/preview").flash(flash::Tone::Ok, text)
            } else {
                Response::see_other("/policies")
                    .flash(flash::Tone::Warn, "The table is in the candidate, which has other problems and cannot be applied yet.")
            })
        }
        Err(Trouble::Policy(problems)) => {
            let table = Sources::single(bulk::FILE, typed.text("file"));
            let mut shown = ui::problems(&problems, &table, None);
            // The table is no file of the policy: there is no page to open it on.
            shown.iter_mut().for_each(|problem| problem.href = problem.href.take().filter(|href| !href.contains(bulk::FILE)));
            draw(visit, shown, None)
        }
        Err(trouble) => draw(visit, Vec::new(), Some(trouble)),
    }
}

/// What runs, or what is being worked on where something was changed.
fn export(visit: &Visit) -> Result<Response, Trouble> {
    let csv = bulk::export(&candidate::get(visit.site)?.sources)?;
    Ok(Response::download("text/csv; charset=utf-8", bulk::FILE, csv))
}
