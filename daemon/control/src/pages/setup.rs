//! The first page of a new box: the one-time code from its console makes the first administrator.

use serde::Serialize;

use super::page::Page;
use super::ports;
use super::ui::Field;
use crate::actor::{Actor, Via};
use crate::flash;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Role;
use crate::trouble::Trouble;
use crate::{login, session, setup};

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/setup", access: Access::Anyone, handler: show },
    Route { method: Method::Post, path: "/setup", access: Access::Anyone, handler: redeem },
];

#[derive(Debug, Serialize)]
struct Setup {
    fields: Vec<Field>,
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    if !setup::is_open(visit.site)? {
        return Ok(Response::see_other("/login"));
    }
    draw(visit, &Fields::default(), None)
}

fn redeem(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    match try_redeem(visit, &form) {
        Ok(secret) => {
            let (next, welcome) = if ports::is_guessed(&visit.site.applier.seen()) {
                ("/setup/ports", "The box is yours. Say what its ports are for.")
            } else {
                ("/", "The box is yours.")
            };
            Ok(Response::see_other(next).cookie(&session::cookie(&secret)).flash(flash::Tone::Ok, welcome))
        }
        Err(trouble) => draw(visit, &form, Some(trouble)),
    }
}

/// Whoever proved to stand before the box is signed in at once.
fn try_redeem(visit: &Visit, form: &Fields) -> Result<String, Trouble> {
    let name = form.text("name").trim();
    let password = same_twice(form)?;
    setup::redeem(visit.site, &visit.request.client, form.text("code").trim(), name, password)?;
    let actor = Actor { user: name.to_owned(), role: Role::Admin, via: Via::Box, client: visit.request.client.clone() };
    login::open(visit.site, visit.request, &actor)
}

/// A password that nobody can see is typed twice.
pub fn same_twice(form: &Fields) -> Result<&str, Trouble> {
    let password = form.required("password")?;
    if form.text("again") == password { Ok(password) } else { Err(Trouble::field("again", "is not the same")) }
}

fn draw(visit: &Visit, typed: &Fields, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let mut fields = vec![
        Field::text("code", "One-time code", typed.text("code"))
            .autocomplete("off")
            .hint("As the console prints it; case and hyphens do not matter.")
            .required(),
        Field::text("name", "User name", typed.text("name"))
            .autocomplete("username")
            .hint("Letters, digits and . _ - @, up to 32.")
            .required(),
        Field::password("password", "Password", "new-password").hint("12 characters or more."),
        Field::password("again", "Password again", "new-password"),
    ];
    let page = Page::new(visit, "Set up").told(&mut fields, trouble)?;
    page.draw("setup.html", &Setup { fields })
}
