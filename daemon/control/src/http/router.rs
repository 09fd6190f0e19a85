//! From a request to the one handler that answers it, past everything that must hold before.

use std::collections::BTreeMap;

use super::request::{Method, Request};
use super::response::Response;
use crate::actor::{Actor, Via};
use crate::csrf;
use crate::role::{Action, authorize};
use crate::site::Site;
use crate::trouble::Trouble;

/// One address and what answers it.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub method: Method,
    /// `/users/{name}`: a part in braces is a parameter.
    pub path: &'static str,
    pub access: Access,
    pub handler: Handler,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Also without signing in: login, set-up, health, assets.
    Anyone,
    May(Action),
}

pub type Handler = fn(&Visit) -> Result<Response, Trouble>;

/// One request with everything that is known about it when its handler runs.
pub struct Visit<'a> {
    pub site: &'a Site,
    pub request: &'a Request,
    /// Some, except where the route is for anyone.
    pub visitor: Option<Actor>,
    params: BTreeMap<&'static str, String>,
}

/// A request whose head was let in; its body may now be read.
pub struct Admitted {
    route: Route,
    visitor: Option<Actor>,
    params: BTreeMap<&'static str, String>,
}

#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
    /// Draws trouble for people; the API has problem+json.
    error_page: Option<fn(&Visit, &Trouble) -> Response>,
}

/// Bytes of a request's body: policies are the largest thing that is sent. The front refuses more before it comes here.
const MAX_BODY: usize = 4 << 20;
/// Addresses whose body is a file, kept on the disk.
pub const UPLOADS: &[&str] = &["/system/update/file", "/api/v1/system/update/file"];
/// For people who have not signed in: a login form.
const MAX_BODY_ANYONE: usize = 16 << 10;

impl Router {
    pub fn new(routes: impl IntoIterator<Item = Route>, error_page: Option<fn(&Visit, &Trouble) -> Response>) -> Self {
        Router { routes: routes.into_iter().collect(), error_page }
    }

    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// What the head alone decides: rate, address, who it is and whether they may. Err is the answer.
    pub fn admit(&self, site: &Site, request: &Request) -> Result<Admitted, Response> {
        let mut visitor = None;
        self.try_admit(site, request, &mut visitor).map_err(|trouble| self.tell(site, request, visitor, &trouble))
    }

    fn try_admit(&self, site: &Site, request: &Request, visitor: &mut Option<Actor>) -> Result<Admitted, Trouble> {
        site.take_token(request)?;
        let (route, params) = self.find(request)?;
        *visitor = site.identify(request, route.access)?;
        if let Access::May(action) = route.access {
            let actor = visitor.as_ref().ok_or_else(|| Trouble::SignIn("sign in first".to_owned()))?;
            authorize(actor, action)?;
        }
        Ok(Admitted { route, visitor: visitor.clone(), params })
    }

    /// Answers a request whose body is complete.
    pub fn serve(&self, site: &Site, request: &Request, admitted: Admitted) -> Response {
        let Admitted { route, visitor, params } = admitted;
        let visit = Visit { site, request, visitor, params };
        let answer = csrf::check(&visit).and_then(|()| (route.handler)(&visit));
        answer.unwrap_or_else(|trouble| self.tell(site, request, visit.visitor, &trouble))
    }

    /// Both steps, for tests and for callers that have the body already.
    pub fn answer(&self, site: &Site, request: &Request) -> Response {
        match self.admit(site, request) {
            Ok(admitted) => self.serve(site, request, admitted),
            Err(response) => response,
        }
    }

    fn find(&self, request: &Request) -> Result<(Route, BTreeMap<&'static str, String>), Trouble> {
        let mut methods = Vec::new();
        for route in &self.routes {
            let Some(params) = matches(route.path, &request.path) else { continue };
            if route.method == request.method {
                return Ok((*route, params));
            }
            methods.push(route.method.name());
        }
        if methods.is_empty() {
            return Err(Trouble::NotFound(format!("there is nothing at {}", request.path)));
        }
        Err(Trouble::WrongMethod(methods.join(", ")))
    }

    /// Trouble as an answer in the tongue that the request speaks.
    pub fn tell(&self, site: &Site, request: &Request, visitor: Option<Actor>, trouble: &Trouble) -> Response {
        if let Trouble::Storage(_) | Trouble::Internal(_) = trouble {
            tracing::error!(path = request.path, %trouble, "a request failed");
        }
        match self.error_page {
            Some(page) if !request.wants_json() => {
                let visit = Visit { site, request, visitor, params: BTreeMap::new() };
                let response = page(&visit, trouble);
                trouble
                    .headers()
                    .into_iter()
                    .filter(|(name, _)| response.header(name).is_none())
                    .collect::<Vec<_>>()
                    .into_iter()
                    .fold(response, |response, (name, value)| response.with(name, value))
            }
            _ => trouble.problem_json(),
        }
    }
}

impl Admitted {
    pub fn takes_a_file(&self) -> bool {
        self.visitor.is_some() && self.route.method == Method::Post && UPLOADS.contains(&self.route.path)
    }

    pub fn max_body(&self) -> usize {
        if self.visitor.is_some() { MAX_BODY } else { MAX_BODY_ANYONE }
    }
}

impl Visit<'_> {
    /// A part of the path; routes and handlers agree on the names.
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    pub fn actor(&self) -> Result<&Actor, Trouble> {
        self.visitor.as_ref().ok_or_else(|| Trouble::SignIn("sign in first".to_owned()))
    }

    /// For pages, to leave out what would be refused.
    pub fn may(&self, action: Action) -> bool {
        self.visitor.as_ref().is_some_and(|actor| authorize(actor, action).is_ok())
    }

    /// Whether a browser carries the proof by itself, so that another site could make it send requests.
    pub fn by_cookie(&self) -> bool {
        self.visitor.as_ref().is_none_or(|actor| matches!(actor.via, Via::Session { .. }))
    }
}

fn matches(pattern: &'static str, path: &str) -> Option<BTreeMap<&'static str, String>> {
    let mut params = BTreeMap::new();
    let mut wanted = pattern.split('/');
    let mut given = path.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(params),
            (Some(wanted), Some(given)) => match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(_) if given.is_empty() => return None,
                Some(name) => {
                    params.insert(name, given.to_owned());
                }
                None if wanted != given => return None,
                None => {}
            },
            _ => return None,
        }
    }
}
