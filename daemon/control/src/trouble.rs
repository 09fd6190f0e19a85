//! Why a request was not done, in words for the person who made it.

use policy::Problems;
use serde_json::json;

use crate::http::{HeaderValue, Response};

/// Everything that ends a request early. Pages show it as a page, the API as `application/problem+json` (RFC 9457).
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("{0}")]
    NotFound(String),
    #[error("this address answers {0} only")]
    WrongMethod(String),
    /// Nobody is signed in, or the session, key or token is no longer good.
    #[error("{0}")]
    SignIn(String),
    #[error("{0}")]
    Forbidden(String),
    /// No or a wrong CSRF token, or another site's Origin.
    #[error("the form was not sent from this box's own page, or the page is too old: reload it and send it again")]
    ForeignForm,
    /// What was entered does not hold; each with the field and the remedy.
    #[error("{}", fields(.0))]
    Fields(Vec<FieldProblem>),
    /// The policy has problems.
    #[error("the policy has {} problem(s)", .0.0.len())]
    Policy(Problems),
    /// It was changed meanwhile, or is not in the state in which this can be done.
    #[error("{0}")]
    Conflict(String),
    /// The confirmation came over the connection that the change was made through, or an older one.
    #[error("the confirmation must come over a new connection: close this one and confirm again")]
    OldConnection,
    #[error("{text}")]
    TooMany { text: String, retry_after: u64 },
    #[error("the request is larger than {0} bytes")]
    TooLarge(usize),
    /// The applier refused, with its reason. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// The applier tried, failed, and went back.
    #[error("{0}")]
    WentBack(String),
    #[error("the applier does not answer ({0}): the box keeps its last confirmed policy, but nothing can be changed until it is back")]
    ApplierAway(String),
    #[error(
        "the forwarder does not answer ({0}): the applier lets no mapped client in without it, so nothing leaks and nothing is carried until it is back"
    )]
    ForwarderAway(String),
    #[error("the observer does not answer ({0}): nothing that carries traffic needs it, and what sensors say meanwhile is not recorded")]
    ObserverAway(String),
    #[error(
        "the updater does not answer ({0}): nothing can be installed or restarted from here until it is back; the console can restart the box"
    )]
    UpdaterAway(String),
    #[error(
        "config.db cannot be used ({0}): the box keeps running on what the applier holds; see the log, then restore a backup of config.db or free space"
    )]
    Storage(#[from] rusqlite::Error),
    #[error("{0}")]
    Internal(String),
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldProblem {
    pub field: String,
    pub message: String,
}

fn fields(problems: &[FieldProblem]) -> String {
    problems.iter().map(|problem| format!("{} {}", problem.field, problem.message)).collect::<Vec<_>>().join("; ")
}

impl Trouble {
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Trouble::Fields(vec![FieldProblem { field: field.into(), message: message.into() }])
    }

    pub fn no_such(what: &str, name: &str) -> Self {
        Trouble::NotFound(format!("there is no {what} {name:?}"))
    }

    pub fn status(&self) -> u16 {
        match self {
            Trouble::NotFound(_) => 404,
            Trouble::WrongMethod(_) => 405,
            Trouble::SignIn(_) => 401,
            Trouble::Forbidden(_) | Trouble::ForeignForm => 403,
            Trouble::Fields(_) | Trouble::Policy(_) => 422,
            Trouble::Conflict(_) | Trouble::OldConnection | Trouble::Refused(_) => 409,
            Trouble::TooMany { .. } => 429,
            Trouble::TooLarge(_) => 413,
            Trouble::WentBack(_) => 502,
            Trouble::ApplierAway(_)
            | Trouble::ForwarderAway(_)
            | Trouble::ObserverAway(_)
            | Trouble::UpdaterAway(_)
            | Trouble::Storage(_) => 503,
            Trouble::Internal(_) => 500,
        }
    }

    /// A stable word for programs, and the last part of the problem's `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Trouble::NotFound(_) => "not-found",
            Trouble::WrongMethod(_) => "wrong-method",
            Trouble::SignIn(_) => "sign-in",
            Trouble::Forbidden(_) => "forbidden",
            Trouble::ForeignForm => "foreign-form",
            Trouble::Fields(_) => "fields",
            Trouble::Policy(_) => "policy",
            Trouble::Conflict(_) => "conflict",
            Trouble::OldConnection => "old-connection",
            Trouble::TooMany { .. } => "too-many",
            Trouble::TooLarge(_) => "too-large",
            Trouble::Refused(_) => "refused",
            Trouble::WentBack(_) => "went-back",
            Trouble::ApplierAway(_) => "applier-away",
            Trouble::ForwarderAway(_) => "forwarder-away",
            Trouble::ObserverAway(_) => "observer-away",
            Trouble::UpdaterAway(_) => "updater-away",
            Trouble::Storage(_) => "storage",
            Trouble::Internal(_) => "internal",
        }
    }

    pub fn title(&self) -> &'static str {
        match self {
            Trouble::NotFound(_) => "Not found",
            Trouble::WrongMethod(_) => "Not possible this way",
            Trouble::SignIn(_) => "Please sign in",
            Trouble::Forbidden(_) => "Not permitted",
            Trouble::ForeignForm => "The form is too old",
            Trouble::Fields(_) => "Please correct what you entered",
            Trouble::Policy(_) => "The policy has problems",
            Trouble::Conflict(_) => "Something changed meanwhile",
            Trouble::OldConnection => "A new connection is needed",
            Trouble::TooMany { .. } => "Too many requests",
            Trouble::TooLarge(_) => "Too large",
            Trouble::Refused(_) => "The applier refused",
            Trouble::WentBack(_) => "The change failed and the box went back",
            Trouble::ApplierAway(_) => "The applier does not answer",
            Trouble::ForwarderAway(_) => "The forwarder does not answer",
            Trouble::ObserverAway(_) => "The observer does not answer",
            Trouble::UpdaterAway(_) => "The updater does not answer",
            Trouble::Storage(_) => "The database cannot be used",
            Trouble::Internal(_) => "Something went wrong in Portcullis",
        }
    }

    /// Headers that belong to the answer whatever its form.
    pub fn headers(&self) -> Vec<(&'static str, HeaderValue)> {
        match self {
            Trouble::TooMany { retry_after, .. } => vec![("Retry-After", HeaderValue::lossy(&retry_after.to_string()))],
            Trouble::SignIn(_) => vec![("WWW-Authenticate", "Bearer".into())],
            Trouble::WrongMethod(methods) => vec![("Allow", HeaderValue::lossy(methods))],
            Trouble::OldConnection => vec![("Connection", "close".into())],
            _ => Vec::new(),
        }
    }

    /// RFC 9457.
    pub fn problem_json(&self) -> Response {
        let mut body = json!({
            "type": format!("urn:portcullis:problem:{}", self.kind()),
            "title": self.title(),
            "status": self.status(),
            "detail": self.to_string(),
        });
        match self {
            Trouble::Fields(fields) => body["errors"] = json!(fields),
            Trouble::Policy(problems) => body["problems"] = json!(problems),
            _ => {}
        }
        let response = Response::new(self.status(), "application/problem+json", body.to_string());
        self.headers().into_iter().fold(response, |response, (name, value)| response.with(name, value))
    }
}
