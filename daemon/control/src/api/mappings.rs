//! All mappings at once, as CSV.

use serde::Deserialize;

use super::box_state::chosen;
use super::candidate::saved;
use super::{Answer, Operation, Parameter};
use crate::bulk;
use crate::http::{Access, Method, Response, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

pub const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::Get,
        path: "/mappings.csv",
        access: Access::May(Action::View),
        handler: export,
        summary: "Every mapping of a policy as CSV, ready to be imported again.",
        query: &[Parameter { name: "of", kind: "string", about: "`candidate` (default), `running`, or the number of a revision" }],
        body: None,
        answer: Answer::File("text/csv"),
    },
    Operation {
        method: Method::Post,
        path: "/candidate/mappings",
        access: Access::May(Action::Edit),
        handler: import,
        summary: "Put the mappings of a CSV table into the candidate. With one bad line nothing changes, and every bad line is told.",
        query: &[],
        body: Some("ImportBody"),
        answer: Answer::Json(200, "SavedCandidate"),
    },
];

fn export(visit: &Visit) -> Result<Response, Trouble> {
    let csv = bulk::export(&chosen(visit, visit.request.query.get("of"))?)?;
    Ok(Response::download("text/csv; charset=utf-8", bulk::FILE, csv))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportBody {
    version: u64,
    csv: String,
}

fn import(visit: &Visit) -> Result<Response, Trouble> {
    let ImportBody { version, csv } = visit.request.json()?;
    Ok(saved(visit, &bulk::import(visit.site, visit.actor()?, version, &csv)?.candidate))
}
