//! Trouble as a page: what happened, and what to do now.

use serde::Serialize;

use super::page::Page;
use super::ui::{Link, query};
use crate::http::{Response, Visit};
use crate::trouble::Trouble;

#[derive(Debug, Serialize)]
struct ErrorPage {
    status: u16,
    heading: &'static str,
    text: String,
    remedy: Option<String>,
    links: Vec<Link>,
}

/// Whoever has not signed in is led to where they can; everyone else reads what happened.
pub fn error_page(visit: &Visit, trouble: &Trouble) -> Response {
    if matches!(trouble, Trouble::SignIn(_)) {
        let next = if visit.request.method.changes() { "/".to_owned() } else { visit.request.path.clone() };
        return Response::see_other(&format!("/login?next={}", query(&next)));
    }
    let view = ErrorPage {
        status: trouble.status(),
        heading: trouble.title(),
        text: sentence(trouble),
        remedy: remedy(visit, trouble),
        links: links(visit),
    };
    // A template that cannot be drawn must not hide why.
    let drawn = Page::new(visit, trouble.title()).status(trouble.status()).draw("error.html", &view);
    drawn.unwrap_or_else(|_| Response::text(trouble.status(), format!("{}\n\n{trouble}\n", trouble.title())))
}

pub fn sentence(trouble: &Trouble) -> String {
    let text = trouble.to_string();
    let mut letters = text.chars();
    let first: String = letters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    let rest = letters.as_str();
    let end = if rest.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{rest}{end}")
}

fn remedy(visit: &Visit, trouble: &Trouble) -> Option<String> {
    match trouble {
        Trouble::Forbidden(_) => visit.visitor.as_ref().map(|actor| format!("You are signed in as {}, {}.", actor.user, actor.role)),
        Trouble::ApplierAway(_) => {
            Some("What was installed last stays in force. This page works again as soon as the applier does.".to_owned())
        }
        Trouble::TooMany { retry_after, .. } => Some(format!("Try again in {retry_after} s.")),
        Trouble::NotFound(_) => Some("It may have been removed, or the address has a slip.".to_owned()),
        _ => None,
    }
}

fn links(visit: &Visit) -> Vec<Link> {
    if visit.visitor.is_none() {
        return vec![Link::new("/login", "Sign in")];
    }
    vec![Link::new("/", "Dashboard"), Link::new(super::page::section_of(visit), "Back")]
}
