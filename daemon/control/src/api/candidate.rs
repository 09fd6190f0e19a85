//! The candidate, and its way into effect.

use policy::Sources;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Operation, Parameter};
use crate::http::{Access, Method, Response, Visit};
use crate::role::Action;
use crate::trouble::Trouble;
use crate::{candidate, trial};

const VIEW: Access = Access::May(Action::View);
const EDIT: Access = Access::May(Action::Edit);
const APPLY: Access = Access::May(Action::Apply);

const VERSION: Parameter =
    Parameter { name: "version", kind: "integer", about: "the version that you have seen; without it, the current one is taken" };

pub const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::Get,
        path: "/candidate",
        access: VIEW,
        handler: get,
        summary: "The policy that is being worked on, with the version that a change must name.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Candidate"),
    },
    Operation {
        method: Method::Put,
        path: "/candidate",
        access: EDIT,
        handler: save,
        summary: "Replace the candidate's text. Stored also with problems; those are told.",
        query: &[],
        body: Some("CandidateBody"),
        answer: Answer::Json(200, "SavedCandidate"),
    },
    Operation {
        method: Method::Delete,
        path: "/candidate",
        access: EDIT,
        handler: discard,
        summary: "Throw the candidate away and begin anew from what runs.",
        query: &[],
        body: None,
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Put,
        path: "/candidate/files/{file}",
        access: EDIT,
        handler: save_file,
        summary: "Replace or add one file.",
        query: &[],
        body: Some("FileBody"),
        answer: Answer::Json(200, "SavedCandidate"),
    },
    Operation {
        method: Method::Delete,
        path: "/candidate/files/{file}",
        access: EDIT,
        handler: remove_file,
        summary: "Remove one file.",
        query: &[VERSION],
        body: None,
        answer: Answer::Json(200, "SavedCandidate"),
    },
    Operation {
        method: Method::Post,
        path: "/candidate/take",
        access: EDIT,
        handler: take,
        summary: "Make the text of a revision or a starting point the candidate.",
        query: &[],
        body: Some("TakeBody"),
        answer: Answer::Json(200, "SavedCandidate"),
    },
    Operation {
        method: Method::Get,
        path: "/candidate/preview",
        access: VIEW,
        handler: preview,
        summary: "What applying the candidate would change; its digest is what `apply` must name.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Preview"),
    },
    Operation {
        method: Method::Post,
        path: "/candidate/apply",
        access: APPLY,
        handler: apply,
        summary: "Put the candidate into effect on trial, if it still is what was previewed.",
        query: &[],
        body: Some("ApplyBody"),
        answer: Answer::Json(201, "Applied"),
    },
    Operation {
        method: Method::Post,
        path: "/trial/confirm",
        access: APPLY,
        handler: confirm,
        summary: "Keep what is on trial. By whoever applied it, over a connection opened since.",
        query: &[],
        body: Some("GenerationBody"),
        answer: Answer::Json(200, "Confirmed"),
    },
    Operation {
        method: Method::Post,
        path: "/trial/go-back",
        access: APPLY,
        handler: end_trial,
        summary: "End the trial now; what ran before runs again.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Back"),
    },
    Operation {
        method: Method::Post,
        path: "/generations/{generation}/go-back",
        access: APPLY,
        handler: go_back,
        summary: "Put an earlier confirmed generation on trial.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Back"),
    },
];

fn get(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&candidate::get(visit.site)?))
}

/// The candidate as stored, and what is wrong with it.
pub fn saved(visit: &Visit, candidate: &candidate::Candidate) -> Response {
    let verdict = visit.site.judgements.of(&candidate.sources);
    let (digest, problems) = match &*verdict {
        Ok(judged) => (Some(&judged.digest), json!([])),
        Err(problems) => (None, json!(problems)),
    };
    Response::json(&json!({ "version": candidate.version, "digest": digest, "problems": problems }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CandidateBody {
    version: u64,
    sources: Sources,
}

fn save(visit: &Visit) -> Result<Response, Trouble> {
    let CandidateBody { version, sources } = visit.request.json()?;
    Ok(saved(visit, &candidate::save(visit.site, visit.actor()?, version, sources)?))
}

fn discard(visit: &Visit) -> Result<Response, Trouble> {
    candidate::discard(visit.site, visit.actor()?)?;
    Ok(Response::no_content())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileBody {
    version: u64,
    text: String,
}

fn save_file(visit: &Visit) -> Result<Response, Trouble> {
    let FileBody { version, text } = visit.request.json()?;
    Ok(saved(visit, &candidate::save_file(visit.site, visit.actor()?, version, visit.param("file"), Some(text))?))
}

fn remove_file(visit: &Visit) -> Result<Response, Trouble> {
    let version = version(visit)?;
    Ok(saved(visit, &candidate::save_file(visit.site, visit.actor()?, version, visit.param("file"), None)?))
}

pub fn version(visit: &Visit) -> Result<u64, Trouble> {
    match visit.request.query.number("version")? {
        Some(version) => Ok(version),
        None => Ok(candidate::get(visit.site)?.version),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TakeBody {
    version: u64,
    revision: Option<i64>,
    starting_point: Option<String>,
}

fn take(visit: &Visit) -> Result<Response, Trouble> {
    let (site, actor) = (visit.site, visit.actor()?);
    let candidate = match visit.request.json()? {
        TakeBody { version, revision: Some(id), starting_point: None } => candidate::take_revision(site, actor, version, id)?,
        TakeBody { version, revision: None, starting_point: Some(name) } => candidate::take_starting_point(site, actor, version, &name)?,
        _ => return Err(Trouble::field("body", "must name either a revision or a startingPoint")),
    };
    Ok(saved(visit, &candidate))
}

fn preview(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&candidate::preview(visit.site, &candidate::get(visit.site)?)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ApplyBody {
    digest: String,
    #[serde(default)]
    message: String,
    confirm_within: Option<u32>,
}

fn apply(visit: &Visit) -> Result<Response, Trouble> {
    let ApplyBody { digest, message, confirm_within } = visit.request.json()?;
    let applied = trial::apply(visit.site, visit.actor()?, &digest, &message, confirm_within)?;
    // The confirmation must come over a new connection: this one has done its work.
    Ok(Response::json(&applied).status(201).with("Connection", "close"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerationBody {
    generation: u64,
}

fn confirm(visit: &Visit) -> Result<Response, Trouble> {
    let GenerationBody { generation } = visit.request.json()?;
    let generation = trial::confirm(visit.site, visit.actor()?, generation)?;
    Ok(Response::json(&json!({ "generation": generation })))
}

fn end_trial(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&trial::go_back(visit.site, visit.actor()?, None)?))
}

fn go_back(visit: &Visit) -> Result<Response, Trouble> {
    let generation = visit.param("generation");
    let generation = generation.parse().map_err(|_| Trouble::no_such("generation", generation))?;
    Ok(Response::json(&trial::go_back(visit.site, visit.actor()?, Some(generation))?).with("Connection", "close"))
}
