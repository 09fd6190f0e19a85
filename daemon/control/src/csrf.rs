//! That a form was sent from our own page, and not by another site that knows the browser is signed in.
//!
//! Three things must hold for a change that a cookie vouches for: SameSite=Strict let the cookie through, `Origin` (browsers always send it
//! with POST) is our own host, and the form carries a token that only our pages know: a hash of a secret in the cookie.

use sha2::{Digest, Sha256};

use crate::http::Visit;
use crate::secret;
use crate::session;
use crate::trouble::Trouble;

/// The name of the hidden field, and of the header for scripts.
pub const FIELD: &str = "csrf";
pub const HEADER: &str = "x-csrf-token";

impl Visit<'_> {
    /// The token for forms on this page. Before signing in it hangs on the visit cookie, which [`session::visit_cookie`] sets.
    pub fn csrf(&self) -> String {
        self.secret_in_cookie().map(|secret| token(&secret)).unwrap_or_default()
    }

    fn secret_in_cookie(&self) -> Option<String> {
        let name = if self.visitor.is_some() { session::COOKIE } else { session::VISIT_COOKIE };
        self.request.cookie(name).filter(|value| !value.is_empty()).map(str::to_owned)
    }
}

pub fn token(secret: &str) -> String {
    let hash = Sha256::new().chain_update(b"portcullis form\0").chain_update(secret.as_bytes()).finalize();
    secret::base64(&hash)
}

/// Run by the router before every handler.
pub fn check(visit: &Visit) -> Result<(), Trouble> {
    if !visit.request.method.changes() || !visit.by_cookie() {
        return Ok(());
    }
    same_origin(visit)?;
    if visit.request.wants_json() && visit.visitor.is_none() {
        // Login over the API carries its proof in the body; there is no cookie to abuse.
        return Ok(());
    }
    let expected = visit.csrf();
    let sent = match visit.request.header(HEADER) {
        Some(header) => header.to_owned(),
        None => visit.request.form().map(|form| form.text(FIELD).to_owned()).unwrap_or_default(),
    };
    if !expected.is_empty() && secret::equal(&expected, &sent) { Ok(()) } else { Err(Trouble::ForeignForm) }
}

/// `Origin` names our own host, or is absent (then only the token decides). `null` is a foreign one.
fn same_origin(visit: &Visit) -> Result<(), Trouble> {
    let Some(origin) = visit.request.header("origin") else { return Ok(()) };
    let host = visit.request.header("host").unwrap_or("");
    if !host.is_empty() && origin.strip_prefix("https://") == Some(host) { Ok(()) } else { Err(Trouble::ForeignForm) }
}
