//! Mapped clients: who is let in, by which way out, and why the others are not. Written in the candidate, told from what runs.

use std::collections::{BTreeMap, BTreeSet};

use policy::Sources;
use policy::edit::{self, Refused};
use policy::model::{Config, ProxyMapping, Resource};
use policy::name::Name;
use serde::Serialize;

use super::format::{self, Clock, Stamp};
use super::latency::{self, Latency};
use super::mapping_form::{self as form, Kept};
use super::page::{self, Page};
use super::ui::{self, Badge, Bar, Choice, Field, Notice, ShownProblem, Tone, query, visible};
use crate::bulk;
use crate::candidate::{self, Candidate};
use crate::carried::{self, Known};
use crate::flash;
use crate::forwarder;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const VIEW: Access = Access::May(Action::View);
const EDIT: Access = Access::May(Action::Edit);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/mappings", access: VIEW, handler: show },
    Route { method: Method::Get, path: "/mappings/mapping", access: VIEW, handler: show_one },
    Route { method: Method::Post, path: "/mappings/mapping", access: EDIT, handler: change },
    Route { method: Method::Post, path: "/mappings/remove", access: EDIT, handler: remove },
    Route { method: Method::Get, path: "/mappings/new", access: EDIT, handler: show_new },
    Route { method: Method::Post, path: "/mappings/new", access: EDIT, handler: create },
    Route { method: Method::Post, path: "/mappings/test", access: Access::May(Action::Operate), handler: test },
    Route { method: Method::Get, path: "/mappings/import", access: EDIT, handler: show_import },
    Route { method: Method::Post, path: "/mappings/import", access: EDIT, handler: import },
    Route { method: Method::Get, path: "/mappings/export", access: VIEW, handler: export },
];

#[derive(Debug, Serialize)]
pub struct Mappings {
    intro: String,
    may_edit: bool,
    filter: Vec<Field>,
    filtered: bool,
    count: String,
    rows: Vec<Row>,
    more: Option<String>,
    nothing: &'static str,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    href: String,
    description: Option<String>,
    clients: Vec<String>,
    more_clients: Option<String>,
    state: Badge,
    why: String,
    since: Option<Stamp>,
    way: String,
    upstream: String,
    exit: String,
    spark: Option<Latency>,
    latency: String,
    flows: String,
    carried: String,
    today: String,
    month: String,
    day_bar: Option<Bar>,
    month_bar: Option<Bar>,
    /// It runs, so that it can be tested and its flows seen.
    runs: bool,
}

/// More make a page that nobody reads; the filter finds the rest.
const MOST_ROWS: usize = 100;
const MOST_CLIENTS: usize = 4;
/// What the page says where nobody tells.
pub const NOT_KNOWN: &str = "not known";

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let candidate = candidate::get(visit.site)?;
    let written = candidate.dirty.then(|| policy::read::read(&candidate.sources).0);
    let known = visit.site.carried.look(visit.site);
    let asked = &visit.request.query;
    let view = mappings(page::config(&seen), written.as_ref(), &known, &page::clock(visit), asked, visit.may(Action::Edit));
    let page = Page::new(visit, "Mappings").live("mappings");
    absences(page, &known).draw("mappings.html", &view)
}

/// What is not known is said at the top, once.
pub fn absences<'a>(page: Page<'a>, known: &Known) -> Page<'a> {
    let page = match &known.applier {
        None => page.notice(Notice::bad(
            "The applier does not answer. The kernel enforces what was installed last; its permits end within 90 seconds unless the applier renews them, so that nothing passes unseen. Which clients are let in is not known.",
        )),
        Some(status) if !status.forwarder_connected && !status.mappings.is_empty() => {
            page.notice(Notice::bad("The forwarder has no link to the applier: every mapped client is blocked until it is back."))
        }
        Some(_) => page,
    };
    match &known.forwarder {
        Some(_) => page,
        None if known.applier.as_ref().is_some_and(|status| status.mappings.is_empty()) => page,
        None => page.notice(Notice::warn("The forwarder does not answer: flows, bytes and the history of upstreams are not known.")),
    }
}

pub fn mappings(
    running: Option<&Config>,
    written: Option<&Config>,
    known: &Known,
    clock: &Clock,
    asked: &Fields,
    may_edit: bool,
) -> Mappings {
    let none = BTreeMap::new();
    let running = running.map_or(&none, |config| &config.proxy_mappings);
    let written = written.map_or(running, |config| &config.proxy_mappings);
    let names: BTreeSet<&Name> = running.keys().chain(written.keys()).collect();
    let (text, state) = (asked.text("q").trim().to_lowercase(), asked.text("state"));
    let wanted = |name: &&&Name| {
        let effect = known.effect(name);
        let found = [running.get(**name), written.get(**name)].into_iter().flatten().any(|mapping| mentions(mapping, &text));
        let fits = match state {
            "permitted" => effect.is_some_and(|effect| effect.permitted),
            "blocked" => effect.is_some_and(|effect| !effect.permitted),
            _ => true,
        };
        fits && (text.is_empty() || name.as_str().contains(&text) || found)
    };
    let matching: Vec<&&Name> = names.iter().filter(wanted).collect();
    let rows = matching.iter().take(MOST_ROWS).filter_map(|name| row(name, running.get(**name), written.get(**name), known, clock));
    let hidden = matching.len().saturating_sub(MOST_ROWS);
    let intro = match known.permits() {
        None => "Which clients are let in is not known at this moment.".to_owned(),
        Some((permitted, blocked)) => {
            format!(
                "{} let in, {} blocked. A mapped client has no other way out.",
                format::count(permitted as u64),
                format::count(blocked as u64)
            )
        }
    };
    let states = [("", "all"), ("permitted", "let in"), ("blocked", "blocked")];
    Mappings {
        intro,
        may_edit,
        filter: vec![
            Field::text("q", "Search", asked.text("q")).kind("search"),
            Field::select("state", "State", state, states.map(|(value, label)| Choice::new(value, label)).to_vec()),
        ],
        filtered: !text.is_empty() || !state.is_empty(),
        count: format::plural(matching.len(), "mapping", "mappings"),
        rows: rows.collect(),
        more: (hidden > 0)
            .then(|| format!("{} are not shown. Search for them above.", format::plural(hidden, "mapping more", "mappings more"))),
        nothing: if names.is_empty() {
            "The policy maps no client: everything goes by the firewall's rules."
        } else {
            "No mapping fits what you asked for."
        },
    }
}

fn mentions(mapping: &Resource<ProxyMapping>, text: &str) -> bool {
    let spec = &mapping.spec;
    let ways = spec.upstream.iter().chain(&spec.group).any(|name| name.as_str().contains(text));
    let described = mapping.description.as_ref().is_some_and(|description| description.to_lowercase().contains(text));
    ways || described || spec.clients.iter().any(|client| client.to_string().contains(text))
}

fn row(
    name: &Name,
    running: Option<&Resource<ProxyMapping>>,
    written: Option<&Resource<ProxyMapping>>,
    known: &Known,
    clock: &Clock,
) -> Option<Row> {
    let mapping = running.or(written)?;
    let runs = running.is_some();
    let effect = known.effect(name).filter(|_| runs);
    let figures = figures_of(name, known);
    let figure = |key: &str| figures.get(key).cloned().unwrap_or_else(|| if runs { NOT_KNOWN } else { "–" }.to_owned());
    let (state, why) = match (running, written) {
        (None, _) => (Badge::new(Tone::Info, "in the candidate"), "Not applied yet.".to_owned()),
        (Some(_), None) => (state(known, name), format!("{} The candidate takes it out.", reason(known, name))),
        (Some(now), Some(then)) if now.spec != then.spec => {
            (state(known, name), format!("{} The candidate changes it.", reason(known, name)))
        }
        _ => (state(known, name), reason(known, name)),
    };
    let clients = &mapping.spec.clients;
    let upstream = known.upstream_of(name);
    let bar = |used: u64, limit: Option<u64>, which: &str| limit.map(|limit| Bar::of(used, limit).live(format!("map.{name}.{which}bar")));
    Some(Row {
        name: name.to_string(),
        href: format!("/mappings/mapping?name={}", query(name.as_str())),
        description: mapping.description.as_deref().map(visible),
        clients: clients.iter().take(MOST_CLIENTS).map(ToString::to_string).collect(),
        more_clients: (clients.len() > MOST_CLIENTS).then(|| format!("and {} more", clients.len() - MOST_CLIENTS)),
        state,
        why: why.trim().to_owned(),
        since: effect.and_then(|effect| clock.stamp(effect.since)),
        way: way(&mapping.spec),
        upstream: figure("upstream"),
        exit: figure("exit"),
        spark: upstream.and_then(|upstream| latency::latency(known.history(upstream), format!("up.{upstream}.spark"))),
        latency: figure("latency"),
        flows: figure("flows"),
        carried: figure("carried"),
        today: figure("today"),
        month: figure("month"),
        day_bar: effect.and_then(|effect| bar(effect.today, effect.daily, "day")),
        month_bar: effect.and_then(|effect| bar(effect.this_month, effect.monthly, "month")),
        runs,
    })
}

fn way(spec: &ProxyMapping) -> String {
    match (&spec.upstream, &spec.group) {
        (Some(upstream), _) => upstream.to_string(),
        (None, Some(group)) => format!("group {group}"),
        (None, None) => "none".to_owned(),
    }
}

fn state(known: &Known, mapping: &Name) -> Badge {
    match known.effect(mapping) {
        None => Badge::new(Tone::Plain, NOT_KNOWN),
        Some(effect) if effect.permitted => Badge::new(Tone::Ok, "let in"),
        Some(_) => Badge::new(Tone::Bad, "blocked"),
    }
}

fn reason(known: &Known, mapping: &Name) -> String {
    known.effect(mapping).and_then(|effect| effect.blocked.as_ref()).map_or_else(String::new, |blocked| visible(&carried::why(blocked)))
}

/// What of a mapping is told as text, by a short word.
fn figures_of(mapping: &Name, known: &Known) -> BTreeMap<&'static str, String> {
    let mut figures = BTreeMap::new();
    let of = |used: u64, limit: Option<u64>| match limit {
        None => format::bytes(used),
        Some(limit) => format!("{} of {}", format::bytes(used), format::bytes(limit)),
    };
    if let Some(effect) = known.effect(mapping) {
        figures.insert("today", of(effect.today, effect.daily));
        figures.insert("month", of(effect.this_month, effect.monthly));
        let upstream = known.upstream_of(mapping);
        let health = upstream.and_then(|upstream| known.health(upstream));
        figures.insert("upstream", upstream.map_or_else(|| "none is up".to_owned(), ToString::to_string));
        figures.insert("exit", health.and_then(|health| health.exit).map_or_else(|| "–".to_owned(), |exit| exit.to_string()));
        figures.insert("latency", health.and_then(|health| health.latency_us).map_or_else(|| "–".to_owned(), latency::say));
    }
    if let Some(traffic) = known.traffic(mapping) {
        figures.insert("flows", format::count(traffic.flows));
        figures.insert("carried", format::bytes(traffic.up_bytes + traffic.down_bytes));
    }
    figures
}

/// What changes between two looks, by the keys that the template gave its elements.
pub fn figures(known: &Known) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, effect) in known.applier.iter().flat_map(|status| &status.mappings) {
        let key = |which: &str| format!("map.{name}.{which}");
        all.extend(figures_of(name, known).into_iter().map(|(which, text)| (key(which), text)));
        let state = state(known, name);
        all.insert(key("state"), state.word.clone());
        all.insert(key("tone"), state.tone.word().to_owned());
        all.insert(key("why"), reason(known, name));
        for (which, used, limit) in [("daybar", effect.today, effect.daily), ("monthbar", effect.this_month, effect.monthly)] {
            if let Some(limit) = limit {
                all.insert(key(which), Bar::width(used, limit));
            }
        }
    }
    all.extend(super::upstreams::sparks(known));
    all
}

/// The form of one mapping, and how it does.
#[derive(Debug, Serialize)]
struct OneMapping {
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
    problems: Vec<ShownProblem>,
    who: Vec<Field>,
    how: Vec<Field>,
    limits: Vec<Field>,
    times: Vec<Field>,
    row: Option<Row>,
}

fn show_one(visit: &Visit) -> Result<Response, Trouble> {
    let name = named(visit.request.query.required("name")?)?;
    let candidate = candidate::get(visit.site)?;
    let (config, _) = policy::read::read(&candidate.sources);
    let typed = config.proxy_mappings.get(&name).map(|mapping| form::values(&name, mapping));
    draw(visit, Some(&name), typed.as_ref(), &candidate, &config, Vec::new(), None)
}

fn show_new(visit: &Visit) -> Result<Response, Trouble> {
    let candidate = candidate::get(visit.site)?;
    let (config, _) = policy::read::read(&candidate.sources);
    draw(visit, None, Some(&visit.request.query), &candidate, &config, Vec::new(), None)
}

fn draw(
    visit: &Visit,
    name: Option<&Name>,
    typed: Option<&Fields>,
    candidate: &Candidate,
    config: &Config,
    problems: Vec<ShownProblem>,
    trouble: Option<Trouble>,
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
    let mut page = Page::new(visit, title.clone()).told(&mut all, trouble)?;
    if !problems.is_empty() {
        page = page.status(422);
    }
    let times = all.split_off(who + how + limits);
    let limits = all.split_off(who + how);
    let how = all.split_off(who);
    let view = OneMapping {
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
        problems,
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
    match typed.required("name").and_then(|name| named(name.trim())) {
        Ok(name) => write(visit, &typed, &name, true),
        Err(trouble) => {
            let candidate = candidate::get(visit.site)?;
            let (config, _) = policy::read::read(&candidate.sources);
            draw(visit, None, Some(&typed), &candidate, &config, Vec::new(), Some(trouble))
        }
    }
}

/// Into the candidate if it is right; else back onto the page with everything that was typed.
fn write(visit: &Visit, typed: &Fields, name: &Name, new: bool) -> Result<Response, Trouble> {
    let candidate = candidate::get(visit.site)?;
    let (config, _) = policy::read::read(&candidate.sources);
    let again = |problems, trouble| draw(visit, (!new).then_some(name), Some(typed), &candidate, &config, problems, trouble);
    let kept = Kept::of(config.proxy_mappings.get(name));
    let edited = form::text(name.as_str(), typed, &kept).and_then(|text| {
        let edited = if new {
            edit::insert(&candidate.sources, &home(&candidate.sources), &text)
        } else {
            edit::replace(&candidate.sources, "ProxyMapping", name.as_str(), &text)
        };
        edited.map_err(told)
    });
    let edited = match edited {
        Ok(edited) => edited,
        Err(trouble) => return again(Vec::new(), Some(trouble)),
    };
    // Problems that stood there before are not this form's; it refuses what it would add.
    let before = visit.site.judgements.of(&candidate.sources).as_ref().as_ref().err().map_or(0, |problems| problems.0.len());
    if let Err(problems) = &*visit.site.judgements.of(&edited)
        && problems.0.len() > before
    {
        return again(ui::problems(problems, &edited, None), None);
    }
    match candidate::save(visit.site, visit.actor()?, typed.number("base")?.unwrap_or(0), edited) {
        Ok(_) if before > 0 => Ok(Response::see_other("/policies")
            .flash(flash::Tone::Warn, format!("{name} is saved, but the candidate has other problems and cannot be applied yet."))),
        Ok(_) => Ok(Response::see_other("/policies/preview")
            .flash(flash::Tone::Ok, format!("{name} is saved in the candidate. This is what applying it changes."))),
        Err(trouble @ Trouble::Conflict(_)) => again(Vec::new(), Some(trouble)),
        Err(trouble) => Err(trouble),
    }
}

/// New mappings go where mappings stand already, else into a file of their own.
fn home(sources: &Sources) -> String {
    let there = edit::resources(sources).into_iter().rfind(|entry| entry.kind == "ProxyMapping").map(|entry| entry.file.to_owned());
    there.unwrap_or_else(|| "mappings.yaml".to_owned())
}

fn told(refused: Refused) -> Trouble {
    match refused {
        Refused::AlreadyThere { .. } => Trouble::field("name", "is taken; choose another"),
        other => Trouble::Conflict(other.to_string()),
    }
}

fn remove(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    let name = named(typed.required("mapping")?)?;
    let candidate = candidate::get(visit.site)?;
    let edited = edit::delete(&candidate.sources, "ProxyMapping", name.as_str()).map_err(told)?;
    candidate::save(visit.site, visit.actor()?, typed.number("base")?.unwrap_or(0), edited)?;
    Ok(Response::see_other("/policies/preview").flash(
        flash::Tone::Warn,
        format!("{name} is no longer part of the candidate. Once applied, its clients go by the firewall's rules."),
    ))
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
    Ok(Response::see_other(&format!("/mappings/mapping?name={}", query(name.as_str())))
        .flash(verdict(&health), super::upstreams::sentence(&health)))
}

pub fn verdict(health: &BTreeMap<Name, policy::messages::forwarder::Health>) -> flash::Tone {
    match health.values().filter(|health| carried::carries(health.status)).count() {
        0 => flash::Tone::Bad,
        good if good < health.len() => flash::Tone::Warn,
        _ => flash::Tone::Ok,
    }
}

fn named(text: &str) -> Result<Name, Trouble> {
    Name::try_from(text).map_err(|bad| Trouble::field("name", bad.to_string()))
}

#[derive(Debug, Serialize)]
struct Import {
    base: u64,
    fields: Vec<Field>,
    problems: Vec<ShownProblem>,
}

fn show_import(visit: &Visit) -> Result<Response, Trouble> {
    draw_import(visit, Vec::new(), None)
}

fn draw_import(visit: &Visit, problems: Vec<ShownProblem>, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let base = candidate::get(visit.site)?.version;
    let mut fields = vec![Field::text("file", "File", "").kind("file").hint("CSV with a line of column names, up to 4 MB.").required()];
    let page = Page::new(visit, "Import mappings").told(&mut fields, trouble)?;
    let page = if problems.is_empty() { page } else { page.status(422) };
    page.draw("mapping_import.html", &Import { base, fields, problems })
}

fn import(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    if typed.text("file").trim().is_empty() {
        return draw_import(visit, Vec::new(), Some(Trouble::field("file", "is missing or empty; choose one")));
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
            draw_import(visit, shown, None)
        }
        Err(trouble) => draw_import(visit, Vec::new(), Some(trouble)),
    }
}

/// What runs, or what is being worked on where something was changed.
fn export(visit: &Visit) -> Result<Response, Trouble> {
    let csv = bulk::export(&candidate::get(visit.site)?.sources)?;
    Ok(Response::download("text/csv; charset=utf-8", bulk::FILE, csv))
}
