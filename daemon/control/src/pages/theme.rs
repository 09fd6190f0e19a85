//! Light, dark, or as the system likes it: remembered in a cookie, chosen by a form.

use super::page::THEME_COOKIE;
use crate::http::{Access, Cookie, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[Route { method: Method::Post, path: "/theme", access: Access::May(Action::View), handler: choose }];

const YEAR: u64 = 365 * 24 * 60 * 60;

fn choose(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let cookie = match form.text("theme") {
        chosen @ ("light" | "dark") => Cookie::new(THEME_COOKIE, chosen).for_seconds(YEAR),
        _ => Cookie::gone(THEME_COOKIE),
    };
    Ok(Response::see_other(form.text("back")).cookie(&cookie))
}
