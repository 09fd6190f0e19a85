//! Signing in and out.

use rusqlite::params;

use crate::actor::{Actor, Via};
use crate::audit::Note;
use crate::http::Request;
use crate::role::Role;
use crate::session::{self, Session};
use crate::site::Site;
use crate::trouble::Trouble;
use crate::{secret, throttle, user};

/// Sessions a user may have open; the oldest gives way.
const MAX_SESSIONS: u32 = 20;

/// The user whose name and password these are. What is wrong is never told, and takes as long whichever it is.
pub fn verify(site: &Site, request: &Request, name: &str, password: &str) -> Result<Actor, Trouble> {
    throttle::attempt(site, name, &request.client)?;
    let stored = user::stored_password(site, name)?;
    // Longer ones cannot be set, and would only keep us busy.
    let right = password.len() <= 1024 && site.hasher.verify(password, stored.as_deref())?;
    if !right {
        let nobody = Actor {
            user: name.chars().take(64).filter(|c| !c.is_control()).collect(),
            role: Role::Viewer,
            via: Via::Box,
            client: request.client.clone(),
        };
        let subject = nobody.user.clone();
        site.change(&nobody, |ledger| ledger.note(Note::new("login.failed", subject, "wrong name or password")))?;
        return Err(Trouble::SignIn("the name or the password is wrong".to_owned()));
    }
    throttle::succeeded(site, name, &request.client)?;
    let user = user::get(site, name)?;
    Ok(Actor { user: user.name, role: user.role, via: Via::Box, client: request.client.clone() })
}

/// Opens a session and returns the secret for its cookie ([`session::cookie`]).
pub fn sign_in(site: &Site, request: &Request, name: &str, password: &str) -> Result<String, Trouble> {
    let actor = verify(site, request, name, password)?;
    open(site, request, &actor)
}

/// For someone who has just proved who they are.
pub fn open(site: &Site, request: &Request, actor: &Actor) -> Result<String, Trouble> {
    let secret = secret::random();
    let agent: String = request.header("user-agent").unwrap_or("").chars().filter(|c| !c.is_control()).take(200).collect();
    site.change(actor, |ledger| {
        let (tx, now) = (ledger.tx, ledger.now);
        tx.execute(
            "DELETE FROM sessions WHERE seen_at < ?1 OR created_at < ?2",
            [now.saturating_sub(session::IDLE), now.saturating_sub(session::LIFE)],
        )?;
        let spare =
            "DELETE FROM sessions WHERE user = ?1 AND id NOT IN (SELECT id FROM sessions WHERE user = ?1 ORDER BY seen_at DESC LIMIT ?2)";
        tx.execute(spare, params![actor.user, MAX_SESSIONS - 1])?;
        let row = "INSERT INTO sessions (hash, user, address, agent, created_at, seen_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)";
        tx.execute(row, params![secret::hash(&secret), actor.user, request.client.address.map(|a| a.to_string()), agent, now])?;
        tx.execute("UPDATE users SET last_login_at = ?2 WHERE name = ?1", params![actor.user, now])?;
        ledger.note(Note::new("login", &actor.user, "signed in"))
    })?;
    Ok(secret)
}

/// Ends the session that the request came with.
pub fn sign_out(site: &Site, actor: &Actor) -> Result<(), Trouble> {
    let Via::Session { id } = actor.via else { return Ok(()) };
    site.change(actor, |ledger| {
        ledger.tx.execute("DELETE FROM sessions WHERE id = ?1", [id])?;
        ledger.note(Note::new("logout", &actor.user, "signed out"))
    })
}

/// The open sessions of one user, or of all.
pub fn sessions(site: &Site, user: Option<&str>) -> Result<Vec<Session>, Trouble> {
    let now = site.now();
    site.db.read(|db| {
        let query = "SELECT id, user, address, agent, created_at, seen_at FROM sessions
                     WHERE (?1 IS NULL OR user = ?1) AND seen_at >= ?2 AND created_at >= ?3 ORDER BY seen_at DESC";
        let mut query = db.prepare_cached(query)?;
        let bounds = params![user, now.saturating_sub(session::IDLE), now.saturating_sub(session::LIFE)];
        let rows = query.query_map(bounds, |row| {
            Ok(Session {
                id: row.get(0)?,
                user: row.get(1)?,
                address: row.get(2)?,
                agent: row.get(3)?,
                created_at: row.get(4)?,
                seen_at: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    })
}

/// Ends one session; `owner` narrows to that user's own.
pub fn end_session(site: &Site, actor: &Actor, id: i64, owner: Option<&str>) -> Result<(), Trouble> {
    site.change(actor, |ledger| {
        let ended = ledger.tx.execute("DELETE FROM sessions WHERE id = ?1 AND (?2 IS NULL OR user = ?2)", params![id, owner])?;
        if ended == 0 {
            return Err(Trouble::no_such("session", &id.to_string()));
        }
        ledger.note(Note::new("session.end", format!("session {id}"), "session ended"))
    })
}
