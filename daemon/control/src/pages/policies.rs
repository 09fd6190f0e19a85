//! The policy as text: its files, its resources, and what is wrong with it.

use policy::messages::Status;
use policy::model::{Config, Expectation, RouteType};
use policy::{Origin, Problems, Sources};
use serde::Serialize;

use super::firewall::{say_rules, words};
use super::format::{self, Clock};
use super::page::{self, Page};
use super::ui::{self, Badge, Place, ShownProblem, Tone, query};
use crate::candidate::{self, Candidate};
use crate::flash;
use crate::http::{Access, Method, Response, Route, Visit};
use crate::revision::{self, Revision};
use crate::role::Action;
use crate::trouble::Trouble;

const VIEW: Access = Access::May(Action::View);
const EDIT: Access = Access::May(Action::Edit);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/policies", access: VIEW, handler: show },
    Route { method: Method::Get, path: "/policies/download", access: VIEW, handler: download },
    Route { method: Method::Post, path: "/policies/discard", access: EDIT, handler: discard },
    Route { method: Method::Post, path: "/policies/take", access: EDIT, handler: take },
    Route { method: Method::Post, path: "/policies/dismiss", access: EDIT, handler: dismiss },
];

#[derive(Debug, Serialize)]
pub struct Policies {
    intro: &'static str,
    may_edit: bool,
    candidate: Option<Waiting>,
    /// From the policy folder.
    waiting: Option<Waiting>,
    problems: Vec<ShownProblem>,
    problems_word: &'static str,
    files: Vec<FileRow>,
    resources: Vec<ResourceRow>,
}

/// Something that has not been applied.
#[derive(Debug, Serialize)]
struct Waiting {
    id: i64,
    title: &'static str,
    badge: Badge,
    text: String,
}

#[derive(Debug, Serialize)]
struct FileRow {
    name: String,
    href: Option<String>,
    download: Option<String>,
    state: Badge,
    lines: String,
    size: String,
}

#[derive(Debug, Serialize)]
struct ResourceRow {
    kind: &'static str,
    name: String,
    says: String,
    description: Option<String>,
    origin: Place,
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let candidate = candidate::get(visit.site)?;
    let judgement = visit.site.judgements.of(&candidate.sources);
    let none = Problems::default();
    let problems = match &*judgement {
        // A box without a policy is told so, and not that its emptiness has problems.
        Err(_) if candidate.sources.0.is_empty() => &none,
        Err(problems) => problems,
        Ok(_) => &none,
    };
    let (config, _) = policy::read::read(&candidate.sources);
    let running = visit.site.applier.running();
    let waiting = revision::waiting(visit.site)?;
    let view = policies(
        &candidate,
        running.as_ref().map(|running| &running.sources),
        problems,
        &config,
        waiting,
        &page::clock(visit),
        visit.may(Action::Edit),
    );
    Page::new(visit, "Policies").draw("policies.html", &view)
}

pub fn policies(
    candidate: &Candidate,
    running: Option<&Sources>,
    problems: &Problems,
    config: &Config,
    waiting: Option<Revision>,
    clock: &Clock,
    may_edit: bool,
) -> Policies {
    let none = Sources::default();
    Policies {
        intro: "The policy is text. Change it here as a candidate, see what it would change, then apply it on trial.",
        may_edit,
        candidate: candidate.dirty.then(|| Waiting {
            id: 0,
            title: "There is a candidate",
            badge: if problems.is_empty() { Badge::new(Tone::Info, "not applied") } else { Badge::new(Tone::Bad, "has problems") },
            text: format!(
                "Version {}, saved by {} at {}. Nothing of it is in effect.",
                candidate.version,
                candidate.author,
                clock.say(candidate.changed_at)
            ),
        }),
        waiting: waiting.map(|revision| Waiting {
            id: revision.id,
            title: "A change from the policy folder waits",
            badge: if revision.digest.is_some() { Badge::new(Tone::Info, "waiting") } else { Badge::new(Tone::Bad, "has problems") },
            text: format!("Revision {}, found at {}. {}", revision.id, clock.say(revision.created_at), revision.message),
        }),
        problems: ui::problems(problems, &candidate.sources, None),
        problems_word: if problems.0.len() == 1 { "problem" } else { "problems" },
        files: files(&candidate.sources, running.unwrap_or(&none)),
        resources: resources(config, &candidate.sources),
    }
}

/// Every file of the candidate, and those that run but are no longer in it.
fn files(sources: &Sources, running: &Sources) -> Vec<FileRow> {
    let present = sources.0.iter().map(|(name, text)| FileRow {
        name: name.clone(),
        href: Some(format!("/policies/file?name={}", query(name))),
        download: Some(format!("/policies/download?name={}", query(name))),
        state: match running.0.get(name) {
            Some(old) if old == text => Badge::new(Tone::Ok, "as it runs"),
            Some(_) => Badge::new(Tone::Warn, "changed"),
            None => Badge::new(Tone::Info, "new"),
        },
        lines: format::count(text.lines().count() as u64),
        size: format::bytes(text.len() as u64),
    });
    let gone = running.0.keys().filter(|name| !sources.0.contains_key(*name)).map(|name| FileRow {
        name: name.clone(),
        href: None,
        download: None,
        state: Badge::new(Tone::Bad, "removed"),
        lines: String::new(),
        size: String::new(),
    });
    present.chain(gone).collect()
}

/// What each resource says, in one line.
fn resources(config: &Config, sources: &Sources) -> Vec<ResourceRow> {
    let mut rows = Vec::new();
    let mut row = |kind, name: &dyn std::fmt::Display, origin: &Origin, description: &Option<String>, says: String| {
        rows.push(ResourceRow { kind, name: name.to_string(), says, description: description.clone(), origin: Place::of(origin, sources) });
    };
    if let Some((name, r)) = &config.system {
        row(
            "System",
            name,
            &r.origin,
            &r.description,
            format!("{}, administered from {}", r.spec.hostname, words(&r.spec.admin.zones).join(", ")),
        );
    }
    for (name, r) in &config.zones {
        let says = if r.spec.anti_spoofing { "sources are checked" } else { "sources are not checked" };
        row("Zone", name, &r.origin, &r.description, says.to_owned());
    }
    for (name, r) in &config.interfaces {
        let mut parts = words(&r.spec.addresses);
        if !r.spec.dhcp.is_empty() {
            parts.push("leased addresses".to_owned());
        }
        row(
            "Interface",
            name,
            &r.origin,
            &r.description,
            format!("zone {}: {}", r.spec.zone, if parts.is_empty() { "no address".to_owned() } else { parts.join(", ") }),
        );
    }
    for (name, r) in &config.address_sets {
        row("AddressSet", name, &r.origin, &r.description, format::plural(r.spec.addresses.len(), "entry", "entries"));
    }
    for (name, r) in &config.services {
        row("Service", name, &r.origin, &r.description, super::firewall::service_items(&r.spec).join(", "));
    }
    for (name, r) in &config.firewall_policies {
        row("FirewallPolicy", name, &r.origin, &r.description, say_rules(&r.spec.rules));
    }
    for (name, r) in &config.nat_policies {
        row("NatPolicy", name, &r.origin, &r.description, format::plural(r.spec.rules.len(), "translation", "translations"));
    }
    for (name, r) in &config.routes {
        let by = match &r.spec.kind {
            RouteType::Via { gateway, .. } => format!("via {gateway}"),
            RouteType::Direct { interface } => format!("on {interface}"),
            RouteType::Blackhole => "dropped".to_owned(),
            RouteType::Unreachable => "answered as unreachable".to_owned(),
        };
        row("Route", name, &r.origin, &r.description, format!("{} {by}", r.spec.destination));
    }
    for (name, r) in &config.assertions {
        let expect = match r.spec.expect {
            Expectation::Never => "never reaches",
            Expectation::Always => "always reaches",
        };
        row(
            "Assertion",
            name,
            &r.origin,
            &r.description,
            format!("{} {expect} {}", words(&r.spec.from).join(", "), words(&r.spec.to).join(", ")),
        );
    }
    rows
}

/// One file as it is, or all of them as one text of several documents.
fn download(visit: &Visit) -> Result<Response, Trouble> {
    let sources = candidate::get(visit.site)?.sources;
    const YAML: &str = "application/yaml";
    match visit.request.query.get("name") {
        Some(name) => {
            let text = sources.0.get(name).ok_or_else(|| Trouble::no_such("file", name))?;
            Ok(Response::download(YAML, name, text.as_str()))
        }
        None => {
            let parts: Vec<String> = sources.0.iter().map(|(name, text)| format!("# {name}\n{}\n", text.trim_end())).collect();
            Ok(Response::download(YAML, "policy.yaml", parts.join("---\n")))
        }
    }
}

fn discard(visit: &Visit) -> Result<Response, Trouble> {
    candidate::discard(visit.site, visit.actor()?)?;
    Ok(Response::see_other("/policies").flash(flash::Tone::Ok, "The candidate is discarded. These are the files that run."))
}

/// A revision's text becomes the candidate: an old one, or one that waits.
fn take(visit: &Visit) -> Result<Response, Trouble> {
    let id = revision_of(visit)?;
    let version = candidate::get(visit.site)?.version;
    candidate::take_revision(visit.site, visit.actor()?, version, id)?;
    Ok(Response::see_other("/policies/preview").flash(flash::Tone::Ok, format!("Revision {id} is the candidate now.")))
}

fn dismiss(visit: &Visit) -> Result<Response, Trouble> {
    let id = revision_of(visit)?;
    revision::dismiss(visit.site, visit.actor()?, id)?;
    Ok(Response::see_other("/policies").flash(flash::Tone::Ok, format!("Revision {id} is dismissed. It stays in the history.")))
}

fn revision_of(visit: &Visit) -> Result<i64, Trouble> {
    visit.request.form()?.number("revision")?.ok_or_else(|| Trouble::field("revision", "is missing"))
}

/// What the page of the running state calls what runs.
pub fn say_running(status: Option<&Status>) -> String {
    match status.and_then(|status| status.running.as_ref()) {
        Some(running) => format!("generation {}", running.number),
        None => "lockdown".to_owned(),
    }
}
