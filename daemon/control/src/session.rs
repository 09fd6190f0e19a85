//! Sessions: a random secret in a cookie, its hash in the database.

use rusqlite::{OptionalExtension, params};

use crate::actor::{Actor, Via};
use crate::http::{Cookie, Request};
use crate::secret;
use crate::site::Site;
use crate::trouble::Trouble;
use crate::{api_key, jwt};

pub const COOKIE: &str = "__Host-portcullis";
/// Carries the CSRF secret of people who have not signed in yet.
pub const VISIT_COOKIE: &str = "__Host-portcullis-visit";

/// Milliseconds without a request.
pub const IDLE: u64 = 30 * 60 * 1000;
/// Milliseconds since login.
pub const LIFE: u64 = 12 * 60 * 60 * 1000;
/// Use is written down at most this often, so that reading pages costs no writes.
const WRITE_SEEN: u64 = 60 * 1000;

/// One signed-in browser.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub id: i64,
    pub user: String,
    pub address: Option<String>,
    /// What the browser calls itself.
    pub agent: String,
    pub created_at: u64,
    pub seen_at: u64,
}

/// Who sent the request: by `Authorization: Bearer` with an API key or a token, else by cookie. None when it carries no proof at all.
pub fn identify(site: &Site, request: &Request) -> Result<Option<Actor>, Trouble> {
    if let Some(header) = request.header("authorization") {
        let bearer = header.strip_prefix("Bearer ").map(str::trim);
        let bearer = bearer.ok_or_else(|| Trouble::SignIn("only `Authorization: Bearer` is understood".to_owned()))?;
        return if bearer.starts_with(api_key::MARK) {
            api_key::identify(site, request, bearer)
        } else {
            jwt::identify(site, request, bearer)
        }
        .map(Some);
    }
    match request.cookie(COOKIE).filter(|value| !value.is_empty()) {
        Some(cookie) => by_cookie(site, request, cookie).map(Some),
        None => Ok(None),
    }
}

fn by_cookie(site: &Site, request: &Request, cookie: &str) -> Result<Actor, Trouble> {
    let now = site.now();
    let hash = secret::hash(cookie);
    let found = site.db.read(|db| {
        let query = "SELECT s.id, s.user, u.role, s.created_at, s.seen_at FROM sessions s JOIN users u ON u.name = s.user
                     WHERE s.hash = ?1 AND u.disabled = 0";
        let row = db
            .prepare_cached(query)?
            .query_row([&hash], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, u64>(3)?,
                    row.get::<_, u64>(4)?,
                ))
            })
            .optional()?;
        Ok(row)
    })?;
    let gone = || Trouble::SignIn("the session has ended; sign in again".to_owned());
    let (id, user, role, created_at, seen_at) = found.ok_or_else(gone)?;
    if now.saturating_sub(seen_at) > IDLE || now.saturating_sub(created_at) > LIFE {
        site.db.change(|db| Ok(db.execute("DELETE FROM sessions WHERE id = ?1", [id])?))?;
        return Err(gone());
    }
    if now.saturating_sub(seen_at) > WRITE_SEEN {
        site.db.change(|db| Ok(db.execute("UPDATE sessions SET seen_at = ?2 WHERE id = ?1", params![id, now])?))?;
    }
    Ok(Actor { user, role: role.parse()?, via: Via::Session { id }, client: request.client.clone() })
}

/// The cookie of a visitor who is shown a form before signing in.
pub fn visit_cookie(secret: &str) -> Cookie {
    Cookie::new(VISIT_COOKIE, secret)
}

pub fn cookie(secret: &str) -> Cookie {
    Cookie::new(COOKIE, secret).for_seconds(LIFE / 1000)
}
