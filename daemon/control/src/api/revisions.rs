//! Every policy that was put into effect, found in the policy folder, or found running.

use serde_json::json;

use super::account::id;
use super::{Answer, Operation, Parameter};
use crate::http::{Access, Method, Response, Visit};
use crate::revision;
use crate::role::Action;
use crate::trouble::Trouble;

const VIEW: Access = Access::May(Action::View);

pub const LIMIT: Parameter = Parameter { name: "limit", kind: "integer", about: "how many at most, up to 500; default 100" };
pub const BEFORE: Parameter =
    Parameter { name: "before", kind: "integer", about: "only those with a smaller number: where the next page goes on" };

pub const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::Get,
        path: "/revisions",
        access: VIEW,
        handler: list,
        summary: "Revisions, newest first.",
        query: &[BEFORE, LIMIT],
        body: None,
        answer: Answer::Json(200, "Revisions"),
    },
    Operation {
        method: Method::Get,
        path: "/revisions/{id}",
        access: VIEW,
        handler: get,
        summary: "One revision with its text.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "RevisionWithSources"),
    },
    Operation {
        method: Method::Post,
        path: "/revisions/{id}/dismiss",
        access: Access::May(Action::Edit),
        handler: dismiss,
        summary: "Decide that a revision from the policy folder shall not be applied.",
        query: &[],
        body: None,
        answer: Answer::Nothing,
    },
];

fn list(visit: &Visit) -> Result<Response, Trouble> {
    let query = &visit.request.query;
    Ok(Response::json(&revision::list(visit.site, query.number("before")?, query.number("limit")?.unwrap_or(100))?))
}

fn get(visit: &Visit) -> Result<Response, Trouble> {
    let id = id(visit)?;
    Ok(Response::json(&json!({ "revision": revision::get(visit.site, id)?, "sources": revision::sources(visit.site, id)? })))
}

fn dismiss(visit: &Visit) -> Result<Response, Trouble> {
    revision::dismiss(visit.site, visit.actor()?, id(visit)?)?;
    Ok(Response::no_content())
}
