//! Slots, updates and restarts.

use policy::messages::updater::Source;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Operation, Parameter};
use crate::http::{Access, Method, Response, Visit};
use crate::role::Action;
use crate::trouble::Trouble;
use crate::updater;

const UPDATE: Access = Access::May(Action::Update);

const DOWNGRADE: &[Parameter] =
    &[Parameter { name: "downgrade", kind: "string", about: "`yes` takes a version that is older than what runs" }];

pub const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::Get,
        path: "/system/update",
        access: Access::May(Action::View),
        handler: status,
        summary: "The slots, the update under way, and how the last one ended.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "UpdateStatus"),
    },
    Operation {
        method: Method::Post,
        path: "/system/update",
        access: UPDATE,
        handler: install,
        summary: "Begin an update from a stick or an https address. How it goes on is told by GET.",
        query: DOWNGRADE,
        body: Some("UpdateSource"),
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Post,
        path: "/system/update/file",
        access: UPDATE,
        handler: install_file,
        summary: "Begin an update from the body, which is the bundle itself (application/octet-stream).",
        query: DOWNGRADE,
        body: None,
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Post,
        path: "/system/update/check",
        access: UPDATE,
        handler: check,
        summary: "Read a bundle on a stick or at an https address to its end, and say what it is. Nothing is changed.",
        query: DOWNGRADE,
        body: Some("UpdateSource"),
        answer: Answer::Json(200, "BundleFacts"),
    },
    Operation {
        method: Method::Post,
        path: "/system/update/boot-other",
        access: UPDATE,
        handler: boot_other,
        summary: "Boot the other slot. It has three boots to be found good.",
        query: &[],
        body: None,
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Get,
        path: "/system/sticks",
        access: UPDATE,
        handler: sticks,
        summary: "Removable volumes, and the files in their root.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Sticks"),
    },
    Operation {
        method: Method::Post,
        path: "/system/reboot",
        access: UPDATE,
        handler: reboot,
        summary: "Reboot.",
        query: &[],
        body: None,
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Post,
        path: "/system/power-off",
        access: UPDATE,
        handler: power_off,
        summary: "Switch the box off.",
        query: &[],
        body: None,
        answer: Answer::Nothing,
    },
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    url: Option<String>,
    stick: Option<String>,
    path: Option<String>,
}

impl Body {
    fn source(self) -> Result<Source, Trouble> {
        match (self.url, self.stick, self.path) {
            (Some(url), None, None) => Ok(Source::Address { url }),
            (None, Some(stick), Some(path)) => Ok(Source::Stick { stick, path }),
            _ => Err(Trouble::field("url", "or stick and path must be named, and not both")),
        }
    }
}

fn status(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&visit.site.updater.status()?))
}

fn install(visit: &Visit) -> Result<Response, Trouble> {
    let source = visit.request.json::<Body>()?.source()?;
    updater::install(visit.site, visit.actor()?, source, downgrade(visit), None)?;
    Ok(Response::no_content())
}

fn install_file(visit: &Visit) -> Result<Response, Trouble> {
    let upload = visit.request.upload.as_ref().ok_or_else(|| Trouble::field("body", "must be the bundle"))?;
    updater::install(visit.site, visit.actor()?, Source::Descriptor, downgrade(visit), Some(&upload.file))?;
    Ok(Response::no_content())
}

fn check(visit: &Visit) -> Result<Response, Trouble> {
    let source = visit.request.json::<Body>()?.source()?;
    Ok(Response::json(&visit.site.updater.check(source, downgrade(visit), None)?))
}

fn downgrade(visit: &Visit) -> bool {
    visit.request.query.text("downgrade") == "yes"
}

fn boot_other(visit: &Visit) -> Result<Response, Trouble> {
    updater::boot_other(visit.site, visit.actor()?)?;
    Ok(Response::no_content())
}

fn sticks(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&json!({ "sticks": visit.site.updater.sticks()? })))
}

fn reboot(visit: &Visit) -> Result<Response, Trouble> {
    updater::reboot(visit.site, visit.actor()?)?;
    Ok(Response::no_content())
}

fn power_off(visit: &Visit) -> Result<Response, Trouble> {
    updater::power_off(visit.site, visit.actor()?)?;
    Ok(Response::no_content())
}
