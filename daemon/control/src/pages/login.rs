//! Signing in and out.

use serde::Serialize;

use super::page::Page;
use super::ui::Field;
use crate::flash;
use crate::http::{Access, Cookie, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;
use crate::{login, session, setup};

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/login", access: Access::Anyone, handler: show },
    Route { method: Method::Post, path: "/login", access: Access::Anyone, handler: sign_in },
    Route { method: Method::Post, path: "/logout", access: Access::May(Action::UseOwnAccount), handler: sign_out },
];

#[derive(Debug, Serialize)]
struct Login {
    /// Where the person wanted to go.
    next: String,
    fields: Vec<Field>,
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    if setup::is_open(visit.site)? {
        return Ok(Response::see_other("/setup"));
    }
    if visit.visitor.is_some() {
        return Ok(Response::see_other("/"));
    }
    draw(visit, &visit.request.query, None)
}

fn sign_in(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let signed_in = form.required("name").and_then(|name| {
        let password = form.required("password")?;
        login::sign_in(visit.site, visit.request, name.trim(), password)
    });
    match signed_in {
        Ok(secret) => {
            Ok(Response::see_other(form.text("next")).cookie(&session::cookie(&secret)).cookie(&Cookie::gone(session::VISIT_COOKIE)))
        }
        Err(trouble) => draw(visit, &form, Some(trouble)),
    }
}

fn sign_out(visit: &Visit) -> Result<Response, Trouble> {
    login::sign_out(visit.site, visit.actor()?)?;
    Ok(Response::see_other("/login").cookie(&Cookie::gone(session::COOKIE)).flash(flash::Tone::Ok, "You are signed out."))
}

fn draw(visit: &Visit, typed: &Fields, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let mut fields = vec![
        Field::text("name", "User name", typed.text("name")).autocomplete("username").required(),
        Field::password("password", "Password", "current-password"),
    ];
    let next = Some(typed.text("next")).filter(|next| !next.is_empty()).unwrap_or("/").to_owned();
    Page::new(visit, "Sign in").told(&mut fields, trouble)?.draw("login.html", &Login { next, fields })
}
