//! The candidate's resources one by one: each is its own text, and an edit leaves every other byte as it was.

use policy::Sources;
use policy::edit::{self, Entry, Refused};
use serde::Deserialize;
use serde_json::{Value, json};

use super::candidate::{saved, version};
use super::{Answer, Operation, Parameter};
use crate::candidate;
use crate::http::{Access, Method, Response, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const VIEW: Access = Access::May(Action::View);
const EDIT: Access = Access::May(Action::Edit);

const VERSION: Parameter =
    Parameter { name: "version", kind: "integer", about: "the version that you have seen; without it, the current one is taken" };

pub const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::Get,
        path: "/candidate/resources",
        access: VIEW,
        handler: list,
        summary: "Every resource of the candidate, in the order of files and lines.",
        query: &[Parameter { name: "kind", kind: "string", about: "only this kind: `Zone`, `FirewallPolicy`" }],
        body: None,
        answer: Answer::Json(200, "Resources"),
    },
    Operation {
        method: Method::Post,
        path: "/candidate/resources",
        access: EDIT,
        handler: create,
        summary: "A new resource at the end of a file; refused when it stands there already.",
        query: &[],
        body: Some("NewResource"),
        answer: Answer::Json(200, "SavedCandidate"),
    },
    Operation {
        method: Method::Get,
        path: "/candidate/resources/{kind}/{name}",
        access: VIEW,
        handler: get,
        summary: "One resource.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Resource"),
    },
    Operation {
        method: Method::Put,
        path: "/candidate/resources/{kind}/{name}",
        access: EDIT,
        handler: replace,
        summary: "Replace a resource's text; every other byte stays.",
        query: &[],
        body: Some("FileBody"),
        answer: Answer::Json(200, "SavedCandidate"),
    },
    Operation {
        method: Method::Delete,
        path: "/candidate/resources/{kind}/{name}",
        access: EDIT,
        handler: remove,
        summary: "Take a resource out.",
        query: &[VERSION],
        body: None,
        answer: Answer::Json(200, "SavedCandidate"),
    },
];

fn told(entry: &Entry) -> Value {
    json!({ "kind": entry.kind, "name": entry.name, "file": entry.file, "line": entry.line, "text": entry.text })
}

fn list(visit: &Visit) -> Result<Response, Trouble> {
    let sources = candidate::get(visit.site)?.sources;
    let kind = visit.request.query.get("kind");
    let entries = edit::resources(&sources);
    let wanted = entries.iter().filter(|entry| kind.is_none_or(|kind| kind == entry.kind));
    Ok(Response::json(&wanted.map(told).collect::<Vec<_>>()))
}

fn get(visit: &Visit) -> Result<Response, Trouble> {
    let sources = candidate::get(visit.site)?.sources;
    let (kind, name) = (visit.param("kind"), visit.param("name"));
    let entries = edit::resources(&sources);
    let entry = entries.iter().find(|entry| entry.kind == kind && entry.name == name);
    Ok(Response::json(&told(entry.ok_or_else(|| Trouble::no_such(kind, name))?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewResource {
    version: u64,
    text: String,
    /// Without it, the first file that there is.
    file: Option<String>,
}

fn create(visit: &Visit) -> Result<Response, Trouble> {
    let NewResource { version, text, file } = visit.request.json()?;
    let sources = candidate::get(visit.site)?.sources;
    let file = file.or_else(|| sources.0.keys().next().cloned()).unwrap_or_else(|| "policy.yaml".to_owned());
    let alone = Sources::single("new.yaml", text.clone());
    let (kind, name) = edit::resources(&alone).into_iter().next().map(|entry| (entry.kind, entry.name)).unwrap_or_default();
    change(visit, version, (&kind, &name, "added"), |sources| edit::insert(sources, &file, &text))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replacement {
    version: u64,
    text: String,
}

fn replace(visit: &Visit) -> Result<Response, Trouble> {
    let Replacement { version, text } = visit.request.json()?;
    let what = (visit.param("kind"), visit.param("name"), "changed");
    change(visit, version, what, |sources| edit::replace(sources, visit.param("kind"), visit.param("name"), &text))
}

fn remove(visit: &Visit) -> Result<Response, Trouble> {
    let what = (visit.param("kind"), visit.param("name"), "taken out");
    change(visit, version(visit)?, what, |sources| edit::delete(sources, visit.param("kind"), visit.param("name")))
}

fn change(
    visit: &Visit,
    version: u64,
    (kind, name, what): (&str, &str, &str),
    edit: impl FnOnce(&Sources) -> Result<Sources, Refused>,
) -> Result<Response, Trouble> {
    let sources = edit(&candidate::get(visit.site)?.sources).map_err(trouble)?;
    let note = candidate::edited(kind, name, what, version + 1);
    Ok(saved(visit, &candidate::save_noted(visit.site, visit.actor()?, version, sources, note)?))
}

fn trouble(refused: Refused) -> Trouble {
    match refused {
        Refused::NotThere { .. } => Trouble::NotFound(refused.to_string()),
        Refused::AlreadyThere { .. } | Refused::Twice { .. } => Trouble::Conflict(refused.to_string()),
        Refused::Other { .. } | Refused::NotOne(_) => Trouble::field("text", refused.to_string()),
    }
}
