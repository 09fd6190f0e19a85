//! API keys: shown once, stored as a hash.

use serde::Serialize;

use super::format::Stamp;
use super::page::{self, Page};
use super::ui::{Choice, Field, visible};
use super::users::role_choices;
use crate::api_key::{self, ApiKey};
use crate::flash;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const OWN: Access = Access::May(Action::UseOwnAccount);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/keys", access: OWN, handler: show },
    Route { method: Method::Post, path: "/keys", access: OWN, handler: create },
    Route { method: Method::Post, path: "/keys/revoke", access: OWN, handler: revoke },
];

#[derive(Debug, Serialize)]
struct Keys {
    /// The text of the key that was just made.
    fresh: Option<String>,
    keys: Vec<KeyRow>,
    everybodys: bool,
    fields: Vec<Field>,
}

#[derive(Debug, Serialize)]
struct KeyRow {
    id: i64,
    name: String,
    prefix: String,
    role: String,
    owner: String,
    created: Option<Stamp>,
    used: Option<Stamp>,
    expires: Option<Stamp>,
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    draw(visit, &Fields::default(), None, None)
}

fn create(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let created = form.text("role").parse().and_then(|role| {
        let days = form.number("days")?;
        api_key::create(visit.site, visit.actor()?, form.text("name"), role, days)
    });
    match created {
        Ok((_, text)) => draw(visit, &Fields::default(), Some(text), None),
        Err(trouble) => draw(visit, &form, None, Some(trouble)),
    }
}

fn revoke(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let id = form.number("id")?.ok_or_else(|| Trouble::field("id", "is missing"))?;
    let actor = visit.actor()?;
    api_key::revoke(visit.site, actor, id, owner(visit, &actor.user))?;
    Ok(Response::see_other("/keys").flash(flash::Tone::Ok, "The key no longer works."))
}

/// Whoever manages users sees everybody's keys.
fn owner<'a>(visit: &Visit, name: &'a str) -> Option<&'a str> {
    (!visit.may(Action::ManageUsers)).then_some(name)
}

fn draw(visit: &Visit, typed: &Fields, fresh: Option<String>, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let actor = visit.actor()?;
    let clock = page::clock(visit);
    let row = |key: ApiKey| KeyRow {
        id: key.id,
        name: visible(&key.name),
        prefix: format!("{}{}_…", api_key::MARK, key.prefix),
        role: key.role.to_string(),
        owner: key.user,
        created: clock.stamp(key.created_at),
        used: key.used_at.and_then(|at| clock.stamp(at)),
        expires: key.expires_at.and_then(|at| clock.stamp(at)),
    };
    let keys = api_key::list(visit.site, owner(visit, &actor.user))?.into_iter().map(row).collect();
    let days = [("90", "after 90 days"), ("365", "after a year"), ("", "never")];
    let mut fields = vec![
        Field::text("name", "What it is for", typed.text("name")).autocomplete("off").required(),
        Field::select("role", "Role", typed.get("role").unwrap_or("viewer"), role_choices()).hint("Not more than your own."),
        Field::select("days", "Expires", typed.get("days").unwrap_or("90"), days.map(|(value, label)| Choice::new(value, label)).to_vec()),
    ];
    let page = Page::new(visit, "API keys").told(&mut fields, trouble)?;
    page.draw("keys.html", &Keys { fresh, keys, everybodys: visit.may(Action::ManageUsers), fields })
}
