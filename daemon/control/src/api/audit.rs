//! What was done, by whom.

use super::revisions::{BEFORE, LIMIT};
use super::{Answer, Operation, Parameter};
use crate::audit::{self, Filter};
use crate::http::{Access, Method, Response, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const AUDIT: Access = Access::May(Action::Audit);

pub const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::Get,
        path: "/audit",
        access: AUDIT,
        handler: list,
        summary: "Audit entries, newest first.",
        query: &[
            Parameter { name: "user", kind: "string", about: "only this user's" },
            Parameter { name: "action", kind: "string", about: "only actions that begin so: `login`, `policy.`" },
            Parameter { name: "text", kind: "string", about: "only with this in user, subject, detail or address, whatever its case" },
            BEFORE,
            LIMIT,
        ],
        body: None,
        answer: Answer::Json(200, "AuditEntries"),
    },
    Operation {
        method: Method::Get,
        path: "/audit/verify",
        access: AUDIT,
        handler: verify,
        summary: "Whether the log is what was written, and if not, the first entry that is not.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "AuditVerdict"),
    },
    Operation {
        method: Method::Get,
        path: "/audit/export",
        access: AUDIT,
        handler: export,
        summary: "Up to 10,000 entries with their hashes and the checkpoints, for verification elsewhere.",
        query: &[Parameter { name: "from", kind: "integer", about: "the first number; default 1" }],
        body: None,
        answer: Answer::Json(200, "AuditExport"),
    },
];

fn list(visit: &Visit) -> Result<Response, Trouble> {
    let query = &visit.request.query;
    let text = |name| query.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let filter = Filter {
        user: text("user"),
        action: text("action"),
        text: text("text"),
        before: query.number("before")?,
        limit: query.number("limit")?.unwrap_or(100),
    };
    Ok(Response::json(&audit::list(visit.site, &filter)?))
}

fn verify(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&audit::verify(visit.site)?))
}

fn export(visit: &Visit) -> Result<Response, Trouble> {
    let from = visit.request.query.number("from")?.unwrap_or(1);
    let export = audit::export(visit.site, from)?;
    Ok(Response::download("application/json", "portcullis-audit.json", export.to_string()))
}
