//! What runs, and what the kernel says of it.

use policy::Sources;
use policy::messages::{ApplierRequest, ApplierResponse};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Operation, Parameter};
use crate::applier::unexpected;
use crate::audit::Note;
use crate::candidate;
use crate::http::{Access, Method, Response, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const VIEW: Access = Access::May(Action::View);

const OF: Parameter = Parameter { name: "of", kind: "string", about: "`candidate` (default), `running`, or the number of a revision" };

pub const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::Get,
        path: "/status",
        access: VIEW,
        handler: status,
        summary: "What runs, what is on trial, what has drifted, as the applier last told.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Status"),
    },
    Operation {
        method: Method::Get,
        path: "/counters",
        access: VIEW,
        handler: counters,
        summary: "Packets and bytes of every rule and port since the generation was installed.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Counters"),
    },
    Operation {
        method: Method::Get,
        path: "/kernel-ruleset",
        access: VIEW,
        handler: kernel_ruleset,
        summary: "The rules that the kernel holds now, as text.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Text"),
    },
    Operation {
        method: Method::Post,
        path: "/drift",
        access: Access::May(Action::Apply),
        handler: drift,
        summary: "Compare the kernel with the plan now.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Drift"),
    },
    Operation {
        method: Method::Get,
        path: "/running",
        access: VIEW,
        handler: running,
        summary: "The policy that runs, as text.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Running"),
    },
    Operation {
        method: Method::Get,
        path: "/plan",
        access: VIEW,
        handler: plan,
        summary: "What a policy compiles to.",
        query: &[OF],
        body: None,
        answer: Answer::Json(200, "Plan"),
    },
    Operation {
        method: Method::Post,
        path: "/check",
        access: VIEW,
        handler: check,
        summary: "All problems of a policy at once, without storing it.",
        query: &[],
        body: Some("SourcesBody"),
        answer: Answer::Json(200, "Checked"),
    },
    Operation {
        method: Method::Post,
        path: "/diff",
        access: VIEW,
        handler: diff,
        summary: "What would change from one policy to another, line by line and by meaning.",
        query: &[],
        body: Some("DiffBody"),
        answer: Answer::Json(200, "Diff"),
    },
    Operation {
        method: Method::Get,
        path: "/starting-points",
        access: VIEW,
        handler: starting_points,
        summary: "Policies to begin from.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "StartingPoints"),
    },
    Operation {
        method: Method::Get,
        path: "/schema",
        access: VIEW,
        handler: schema,
        summary: "The JSON Schema of the policy language, for editors.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Any"),
    },
    Operation {
        method: Method::Post,
        path: "/explain",
        access: VIEW,
        handler: explain,
        summary: "What the box does with one packet, and which line of the policy is the reason.",
        query: &[],
        body: Some("ExplainBody"),
        answer: Answer::Json(200, "Explanation"),
    },
];

fn status(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&visit.site.applier.status()?))
}

fn counters(visit: &Visit) -> Result<Response, Trouble> {
    visit.site.applier.status()?;
    let seen = visit.site.applier.seen();
    let counters = seen.counters.as_ref().ok_or_else(|| Trouble::ApplierAway("it has no counters yet".to_owned()))?;
    Ok(Response::json(counters))
}

fn kernel_ruleset(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&json!({ "text": visit.site.applier.kernel_ruleset()? })))
}

fn drift(visit: &Visit) -> Result<Response, Trouble> {
    let site = visit.site;
    let findings = match site.applier.ask(&ApplierRequest::CheckDrift)? {
        ApplierResponse::Drift { findings } => findings,
        other => return Err(unexpected(&other)),
    };
    site.change(visit.actor()?, |ledger| ledger.note(Note::new("drift.check", "kernel", format!("{} finding(s)", findings.len()))))?;
    Ok(Response::json(&findings))
}

fn running(visit: &Visit) -> Result<Response, Trouble> {
    visit.site.applier.status()?;
    let running = visit.site.applier.running().ok_or_else(|| Trouble::NotFound("the box is locked down and runs no policy".to_owned()))?;
    let digest = running.judged.as_ref().map(|judged| judged.digest.clone());
    Ok(Response::json(&json!({ "generation": running.generation, "digest": digest, "sources": running.sources })))
}

fn plan(visit: &Visit) -> Result<Response, Trouble> {
    let judged = visit.site.judgements.passed(&chosen(visit, visit.request.query.get("of"))?)?;
    Ok(Response::json(&json!({ "digest": judged.digest, "text": judged.plan.to_string() })))
}

/// `candidate`, `running`, or a revision.
pub fn chosen(visit: &Visit, of: Option<&str>) -> Result<Sources, Trouble> {
    match of {
        None | Some("candidate") => Ok(candidate::get(visit.site)?.sources),
        Some("running") => {
            let running = visit.site.applier.running();
            running
                .map(|running| running.sources.clone())
                .ok_or_else(|| Trouble::NotFound("the box is locked down and runs no policy".to_owned()))
        }
        Some(number) => {
            let id = number
                .parse()
                .map_err(|_| Trouble::field("of", format!("must be candidate, running or a revision's number, not {number:?}")))?;
            crate::revision::sources(visit.site, id)
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourcesBody {
    sources: Sources,
}

fn check(visit: &Visit) -> Result<Response, Trouble> {
    let SourcesBody { sources } = visit.request.json()?;
    Ok(match &*visit.site.judgements.of(&sources) {
        Ok(judged) => Response::json(&json!({ "digest": judged.digest, "problems": [] })),
        Err(problems) => Response::json(&json!({ "digest": null, "problems": problems })),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiffBody {
    /// Text, or else what `of` names.
    from: Option<Sources>,
    to: Option<Sources>,
}

fn diff(visit: &Visit) -> Result<Response, Trouble> {
    let DiffBody { from, to } = visit.request.json()?;
    let from = from.map_or_else(|| chosen(visit, Some("running")), Ok)?;
    let to = to.map_or_else(|| chosen(visit, Some("candidate")), Ok)?;
    let (from, to) = (visit.site.judgements.passed(&from)?, visit.site.judgements.passed(&to)?);
    let text = policy::diff_text(&from.plan.to_string(), &to.plan.to_string());
    let changes = policy::changes(&from.plan, &to.plan);
    Ok(Response::json(&json!({
        "from": from.digest, "to": to.digest, "text": text, "changes": changes.to_string(), "carried": changes.carried,
    })))
}

fn starting_points(_: &Visit) -> Result<Response, Trouble> {
    let points: Vec<_> = policy::starting_points()
        .iter()
        .map(|point| json!({ "name": point.name, "title": point.title, "summary": point.summary, "text": point.text }))
        .collect();
    Ok(Response::json(&points))
}

fn schema(_: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&policy::schema()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainBody {
    of: Option<String>,
    from: String,
    to: String,
    service: String,
    at: Option<String>,
    mac: Option<String>,
}

fn explain(visit: &Visit) -> Result<Response, Trouble> {
    let ExplainBody { of, from, to, service, at, mac } = visit.request.json()?;
    let bad = |bad: policy::explain::BadQuery| Trouble::field("packet", bad.to_string());
    let query = policy::Query::parse(&from, &to, &service, at.as_deref()).map_err(bad)?;
    let query = query.with_mac(mac.as_deref()).map_err(|bad| Trouble::field("mac", bad.to_string()))?;
    // A policy with a false assertion can still be asked why it is false.
    let checked = policy::load(&chosen(visit, of.as_deref())?).map_err(Trouble::Policy)?;
    let told = policy::explain(&checked, &policy::compile(&checked), &query).map_err(bad)?;
    Ok(Response::json(&json!({ "verdict": told.verdict, "text": told.to_string(), "explanation": told })))
}
