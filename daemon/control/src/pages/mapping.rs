//! One mapping: how it does, and the form that changes it in the candidate.

use policy::model::Config;
use policy::name::Name;
use serde::Serialize;

use super::mapping_form::{self as form, Kept};
use super::mappings::{Row, row, state};
use super::page::{self, Page};
use super::resource::{self, Refusal, named};
use super::ui::{Badge, Field, ShownProblem, Tone, query};
use super::upstreams::{sentence, verdict};
use crate::candidate::{self, Candidate};
use crate::forwarder;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const EDIT: Access = Access::May(Action::Edit);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/mappings/mapping", access: Access::May(Action::View), handler: show },
    Route { method: Method::Post, path: "/mappings/mapping", access: EDIT, handler: change },
    Route { method: Method::Post, path: "/mappings/remove", access: EDIT, handler: remove },
    Route { method: Method::Get, path: "/mappings/new", access: EDIT, handler: show_new },
    Route { method: Method::Post, path: "/mappings/new", access: EDIT, handler: create },
    Route { method: Method::Post, path: "/mappings/test", access: Access::May(Action::Operate), handler: test },
];

#[derive(Debug, Serialize)]
struct Mapping {
    name: String,
    new: bool,
    intro: String,
    runs: bool,
    state: Badge,
    may_edit: bool,
    may_test: bool,
    /// It stands in the candidate.
    written: bool,
    base: u64,
    /// It cannot be saved as it was typed.
    refused: bool,
    problems: Vec<ShownProblem>,
    who: Vec<Field>,
    how: Vec<Field>,
    limits: Vec<Field>,
    times: Vec<Field>,
    row: Option<Row>,
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let name = named(visit.request.query.required("name")?)?;
    let (candidate, config) = written(visit)?;
    let typed = config.proxy_mappings.get(&name).map(|mapping| form::values(&name, mapping));
    draw(visit, Some(&name), typed.as_ref(), &candidate, &config, Refusal::default())
}

fn show_new(visit: &Visit) -> Result<Response, Trouble> {
    let (candidate, config) = written(visit)?;
    draw(visit, None, Some(&visit.request.query), &candidate, &config, Refusal::default())
}

/// The candidate, and what of it can be read.
pub fn written(visit: &Visit) -> Result<(Candidate, Config), Trouble> {
    let candidate = candidate::get(visit.site)?;
    let (config, _) = policy::read::read(&candidate.sources);
    Ok((candidate, config))
}

fn draw(
    visit: &Visit,
    name: Option<&Name>,
    typed: Option<&Fields>,
    candidate: &Candidate,
    config: &Config,
    mut refusal: Refusal,
) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let known = visit.site.carried.look(visit.site);
    let running = name.and_then(|name| page::config(&seen)?.proxy_mappings.get(name));
    let stands = name.and_then(|name| config.proxy_mappings.get(name));
    if name.is_some() && running.is_none() && stands.is_none() {
        return Err(Trouble::no_such("mapping", name.map_or("", Name::as_str)));
    }
    let nothing = Fields::default();
    let mut inputs = form::inputs(typed.unwrap_or(&nothing), Some(config), name.is_none());
    let title = name.map_or_else(|| "New mapping".to_owned(), Name::to_string);
    let mut all: Vec<Field> =
        [&mut inputs.who, &mut inputs.how, &mut inputs.limits, &mut inputs.times].into_iter().flat_map(std::mem::take).collect();
    let (who, how, limits) = (all.len() - 13, 6, 4);
    let about_the_form = refusal.is_about_the_form();
    refusal.mark(&mut all);
    let mut page = Page::new(visit, title.clone()).told(&mut all, refusal.trouble)?;
    if about_the_form {
        page = page.status(422);
    }
    let times = all.split_off(who + how + limits);
    let limits = all.split_off(who + how);
    let how = all.split_off(who);
    let view = Mapping {
        intro: match (name, running, stands) {
            (None, ..) => "It goes into the candidate. Nothing reaches the gate before you apply it.",
            (_, Some(_), None) => "The candidate no longer has it; it runs until that is applied.",
            (_, None, _) => "It stands in the candidate and does not run yet.",
            _ => "Saving changes the candidate only. Nothing reaches the gate before you apply it.",
        }
        .to_owned(),
        new: name.is_none(),
        runs: running.is_some(),
        state: name.map_or_else(|| Badge::new(Tone::Plain, "new"), |name| state(&known, name)),
        may_edit: visit.may(Action::Edit),
        may_test: visit.may(Action::Operate) && running.is_some(),
        written: stands.is_some() || name.is_none(),
        base: candidate.version,
        refused: about_the_form,
        problems: refusal.elsewhere,
        who: all,
        how,
        limits,
        times,
        row: name.filter(|_| running.is_some()).and_then(|name| row(name, running, stands, &known, &page::clock(visit))),
        name: title,
    };
    page.live("mappings").draw("mapping.html", &view)
}

fn change(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    let name = named(typed.required("mapping")?)?;
    write(visit, &typed, &name, false)
}

fn create(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    match typed.required("name").and_then(named) {
        Ok(name) => write(visit, &typed, &name, true),
        Err(trouble) => {
            let (candidate, config) = written(visit)?;
            draw(visit, None, Some(&typed), &candidate, &config, trouble.into())
        }
    }
}

/// Into the candidate if it is right; else back onto the page with everything that was typed.
fn write(visit: &Visit, typed: &Fields, name: &Name, new: bool) -> Result<Response, Trouble> {
    let (candidate, config) = written(visit)?;
    let text = form::text(name.as_str(), typed, &Kept::of(config.proxy_mappings.get(name)));
    let base = typed.number("base")?.unwrap_or(0);
    let saved = text.map_err(Refusal::from).and_then(|text| resource::write(visit, &form::SUBJECT, name, new, base, &text, || Ok(())));
    saved.or_else(|refusal| draw(visit, (!new).then_some(name), Some(typed), &candidate, &config, refusal))
}

fn remove(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    let name = named(typed.required("mapping")?)?;
    let (candidate, config) = written(visit)?;
    let after = "Once that is applied, its clients go by the firewall's rules.";
    let removed = resource::remove(visit, &form::SUBJECT, &name, typed.number("base")?.unwrap_or(0), after);
    removed.or_else(|refusal| draw(visit, Some(&name), Some(&typed), &candidate, &config, refusal))
}

/// Probes what the mapping that runs may use.
fn test(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    let name = named(typed.required("mapping")?)?;
    let seen = visit.site.applier.seen();
    let config = page::config(&seen).ok_or_else(|| Trouble::no_such("mapping", name.as_str()))?;
    let mapping = config.proxy_mappings.get(&name).ok_or_else(|| Trouble::no_such("mapping", name.as_str()))?;
    let members = mapping.spec.group.as_ref().and_then(|group| config.upstream_groups.get(group)).map(|group| group.spec.members.clone());
    let upstreams: Vec<Name> = mapping.spec.upstream.iter().cloned().chain(members.unwrap_or_default()).collect();
    let health = forwarder::probe(visit.site, visit.actor()?, upstreams)?;
    Ok(Response::see_other(&format!("/mappings/mapping?name={}", query(name.as_str()))).flash(verdict(&health), sentence(&health)))
}
