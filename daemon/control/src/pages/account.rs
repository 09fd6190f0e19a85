//! One's own password and sessions.

use serde::Serialize;

use super::format::Stamp;
use super::page::{self, Page};
use super::setup::same_twice;
use super::ui::Field;
use super::users::says;
use crate::actor::Via;
use crate::flash;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::session::Session;
use crate::trouble::Trouble;
use crate::{login, session, user};

const OWN: Access = Access::May(Action::UseOwnAccount);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/account", access: OWN, handler: show },
    Route { method: Method::Post, path: "/account/password", access: OWN, handler: change_password },
    Route { method: Method::Post, path: "/account/sessions/end", access: OWN, handler: end_session },
];

#[derive(Debug, Serialize)]
struct Account {
    may: &'static str,
    fields: Vec<Field>,
    sessions: Vec<SessionRow>,
}

#[derive(Debug, Serialize)]
struct SessionRow {
    id: i64,
    address: String,
    agent: String,
    began: Option<Stamp>,
    used: Option<Stamp>,
    current: bool,
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    draw(visit, None)
}

fn change_password(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    match try_change(visit, &form) {
        Ok(secret) => Ok(Response::see_other("/account")
            .cookie(&session::cookie(&secret))
            .flash(flash::Tone::Ok, "The password is changed. Every other session has ended.")),
        Err(trouble) => draw(visit, Some(trouble)),
    }
}

/// Ends every session, then begins this one anew.
fn try_change(visit: &Visit, form: &Fields) -> Result<String, Trouble> {
    let actor = visit.actor()?;
    let new = same_twice(form)?;
    user::change_own_password(visit.site, actor, form.required("old")?, new)?;
    login::open(visit.site, visit.request, actor)
}

fn end_session(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let id = form.number("session")?.ok_or_else(|| Trouble::field("session", "is missing"))?;
    let actor = visit.actor()?;
    login::end_session(visit.site, actor, id, Some(&actor.user))?;
    Ok(Response::see_other("/account").flash(flash::Tone::Ok, "The session has ended."))
}

fn draw(visit: &Visit, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let actor = visit.actor()?;
    let mut fields = vec![
        Field::password("old", "Current password", "current-password"),
        Field::password("password", "New password", "new-password").hint("12 characters or more."),
        Field::password("again", "New password again", "new-password"),
    ];
    let clock = page::clock(visit);
    let row = |session: Session| SessionRow {
        id: session.id,
        address: session.address.unwrap_or_else(|| "unknown address".to_owned()),
        agent: super::ui::visible(&session.agent).chars().take(120).collect(),
        began: clock.stamp(session.created_at),
        used: clock.stamp(session.seen_at),
        current: actor.via == Via::Session { id: session.id },
    };
    let sessions = login::sessions(visit.site, Some(&actor.user))?.into_iter().map(row).collect();
    let page = Page::new(visit, "Your account").told(&mut fields, trouble)?;
    page.draw("account.html", &Account { may: says(actor.role), fields, sessions })
}
