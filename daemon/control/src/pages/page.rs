//! Draws a page: the frame around it from what is known of the visit, then the template.

use minijinja::value::Serde;
use policy::model::Config;
use serde::Serialize;

use super::format::Clock;
use super::gate;
use super::shell::{self, Sees, Shell, Who};
use super::ui::{Notice, Tone};
use crate::applier::Seen;
use crate::assets;
use crate::flash::{self, Tone as FlashTone};
use crate::http::{HeaderValue, Response, Visit};
use crate::role::Action;
use crate::trouble::Trouble;
use crate::{candidate, csrf, secret, session};

pub const THEME_COOKIE: &str = "__Host-portcullis-theme";

/// A page that is about to be drawn.
pub struct Page<'a> {
    visit: &'a Visit<'a>,
    shell: Shell,
    status: u16,
    headers: Vec<(&'static str, HeaderValue)>,
}

/// The frame's data beside the page's own.
#[derive(Serialize)]
struct Context<'a, View> {
    shell: &'a Shell,
    #[serde(flatten)]
    view: &'a View,
}

impl<'a> Page<'a> {
    pub fn new(visit: &'a Visit<'a>, title: impl Into<String>) -> Self {
        let mut page = Page { visit, shell: frame(visit, title.into()), status: 200, headers: Vec::new() };
        if page.shell.csrf.is_empty() && visit.visitor.is_none() {
            // Forms before signing in hang on a secret of this visit.
            let secret = secret::random();
            page.shell.csrf = csrf::token(&secret);
            page.headers.push(("Set-Cookie", session::visit_cookie(&secret).header()));
        }
        page
    }

    pub fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Live figures come from here; the topic says which.
    pub fn live(mut self, topic: &str) -> Self {
        self.shell.events = Some(format!("/events?topic={topic}"));
        self
    }

    pub fn notice(mut self, notice: Notice) -> Self {
        self.shell.notices.push(notice);
        self
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn draw(self, template: &str, view: &impl Serialize) -> Result<Response, Trouble> {
        let context = Context { shell: &self.shell, view };
        let html = self.visit.site.templates.render(template, Serde(&context))?;
        let response =
            self.headers.into_iter().fold(Response::html(html).status(self.status), |response, (name, value)| response.with(name, value));
        Ok(if self.visit.flash().is_some() { response.cookie(&flash::forget()) } else { response })
    }
}

fn frame(visit: &Visit, title: String) -> Shell {
    let seen = visit.site.applier.seen();
    let status = seen.status.as_ref();
    let clock = clock(visit);
    let theme = visit.request.cookie(THEME_COOKIE).filter(|theme| matches!(*theme, "light" | "dark")).map(str::to_owned);
    let sees = Sees { audit: visit.may(Action::Audit), users: visit.may(Action::ViewUsers) };
    let actor = visit.visitor.as_ref();
    let signed_in = actor.is_some();
    let mut shell = Shell {
        title,
        hostname: hostname(&seen),
        user: actor.map(|actor| Who { name: actor.user.clone(), role: actor.role.to_string() }),
        csrf: visit.csrf(),
        themes: shell::themes(theme.as_deref()),
        theme,
        path: here(visit),
        nav: if signed_in {
            shell::nav(section(&visit.request.path), sees, status, candidate::get(visit.site).is_ok_and(|candidate| candidate.dirty))
        } else {
            Vec::new()
        },
        gate: gate::badge(status),
        state: gate::fingerprint(status),
        trial: None,
        notices: visit.flash().map(|flash| Notice { tone: tone(flash.tone), role: "status", text: flash.text }).into_iter().collect(),
        events: signed_in.then(|| "/events?topic=state".to_owned()),
        version: assets::VERSION.clone(),
    };
    shell.about_the_gate(status, &clock, visit.may(Action::Apply));
    shell
}

/// The policy that runs, if this process can read it.
pub fn config(seen: &Seen) -> Option<&Config> {
    Some(seen.running.as_ref()?.judged.as_ref()?.checked.config())
}

fn hostname(seen: &Seen) -> Option<String> {
    Some(config(seen)?.system.as_ref()?.1.spec.hostname.clone())
}

/// Times are told in the box's own time zone.
pub fn clock(visit: &Visit) -> Clock {
    let seen = visit.site.applier.seen();
    let timezone = config(&seen).and_then(|config| config.system.as_ref()).map_or("UTC", |(_, system)| system.spec.timezone.as_str());
    Clock::new(visit.site.now(), timezone)
}

fn tone(tone: FlashTone) -> Tone {
    match tone {
        FlashTone::Ok => Tone::Ok,
        FlashTone::Info => Tone::Info,
        FlashTone::Warn => Tone::Warn,
        FlashTone::Bad => Tone::Bad,
    }
}

/// `/policies/file` belongs to `/policies`.
fn section(path: &str) -> &str {
    let end = path.get(1..).and_then(|rest| rest.find('/')).map_or(path.len(), |at| at + 1);
    &path[..end]
}

pub fn section_of<'a>(visit: &'a Visit) -> &'a str {
    section(&visit.request.path)
}

/// The address that shows this page again; a page that answered a form is asked for by its section.
fn here(visit: &Visit) -> String {
    let request = visit.request;
    if request.method.changes() {
        return section(&request.path).to_owned();
    }
    let pairs: Vec<String> =
        request.query.names().map(|name| format!("{}={}", super::ui::query(name), super::ui::query(request.query.text(name)))).collect();
    if pairs.is_empty() { request.path.clone() } else { format!("{}?{}", request.path, pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_belongs_to_its_section() {
        assert_eq!([section("/"), section("/audit"), section("/policies/file"), section("")], ["/", "/audit", "/policies", ""]);
    }
}
