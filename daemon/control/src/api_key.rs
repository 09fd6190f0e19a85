//! Keys for programs: `pck_PREFIX_SECRET`. The prefix finds the key and may be shown; of the secret only the hash is kept.

use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use crate::actor::{Actor, Via};
use crate::audit::Note;
use crate::http::Request;
use crate::role::{Action, Role};
use crate::secret;
use crate::site::Site;
use crate::trouble::Trouble;

/// Every key begins so, which lets secret scanners find one that was published by mistake.
pub const MARK: &str = "pck_";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    pub id: i64,
    pub prefix: String,
    pub user: String,
    /// What its owner calls it.
    pub name: String,
    pub role: Role,
    /// Milliseconds since the epoch, like all times here.
    pub created_at: u64,
    pub expires_at: Option<u64>,
    pub used_at: Option<u64>,
}

/// A user's keys, or everybody's.
pub fn list(site: &Site, user: Option<&str>) -> Result<Vec<ApiKey>, Trouble> {
    site.db.read(|db| {
        let query =
            "SELECT id, prefix, user, name, role, created_at, expires_at, used_at FROM api_keys WHERE ?1 IS NULL OR user = ?1 ORDER BY id";
        let mut query = db.prepare_cached(query)?;
        let rows = query.query_map([user], |row| {
            let role: String = row.get(4)?;
            let role = role.parse().map_err(|_| rusqlite::Error::InvalidColumnType(4, role, rusqlite::types::Type::Text))?;
            Ok(ApiKey {
                id: row.get(0)?,
                prefix: row.get(1)?,
                user: row.get(2)?,
                name: row.get(3)?,
                role,
                created_at: row.get(5)?,
                expires_at: row.get(6)?,
                used_at: row.get(7)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    })
}

/// A new key of the actor's own; the text is shown this once. `days` from 1 to 3,650, or None for one that never expires.
pub fn create(site: &Site, actor: &Actor, name: &str, role: Role, days: Option<u32>) -> Result<(ApiKey, String), Trouble> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 60 || name.chars().any(char::is_control) {
        return Err(Trouble::field("name", "must have 1 to 60 characters that say what the key is for"));
    }
    if !includes(actor.role, role) {
        return Err(Trouble::field("role", format!("{role} may do things that your role {} may not", actor.role)));
    }
    if days.is_some_and(|days| !(1..=3650).contains(&days)) {
        return Err(Trouble::field("days", "must be from 1 to 3650"));
    }
    if list(site, Some(&actor.user))?.len() >= 50 {
        return Err(Trouble::Conflict("you have 50 keys; revoke some first".to_owned()));
    }
    let prefix = secret::hex(&secret::random_bytes::<5>());
    let text = format!("{MARK}{prefix}_{}", secret::random());
    let id = site.change(actor, |ledger| {
        let expires_at = days.map(|days| ledger.now + u64::from(days) * 24 * 60 * 60 * 1000);
        let row = "INSERT INTO api_keys (prefix, hash, user, name, role, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        ledger.tx.execute(row, params![prefix, secret::hash(&text), actor.user, name, role.name(), ledger.now, expires_at])?;
        let id = ledger.tx.last_insert_rowid();
        ledger.note(Note::new("key.create", format!("key {prefix}"), format!("{name:?} of {}", actor.user)).to(role.name()))?;
        Ok(id)
    })?;
    let key = list(site, Some(&actor.user))?.into_iter().find(|key| key.id == id);
    Ok((key.ok_or_else(|| Trouble::no_such("key", &prefix))?, text))
}

/// Ends a key; `owner` narrows to that user's own.
pub fn revoke(site: &Site, actor: &Actor, id: i64, owner: Option<&str>) -> Result<(), Trouble> {
    site.change(actor, |ledger| {
        let query = "DELETE FROM api_keys WHERE id = ?1 AND (?2 IS NULL OR user = ?2) RETURNING prefix, user";
        let gone: Option<(String, String)> =
            ledger.tx.query_row(query, params![id, owner], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let (prefix, user) = gone.ok_or_else(|| Trouble::no_such("key", &id.to_string()))?;
        ledger.note(Note::new("key.revoke", format!("key {prefix}"), format!("of {user}")))
    })
}

pub fn identify(site: &Site, request: &Request, bearer: &str) -> Result<Actor, Trouble> {
    let unknown = || Trouble::SignIn("this key is not known, has expired or was revoked".to_owned());
    let (prefix, _) = bearer.strip_prefix(MARK).and_then(|rest| rest.split_once('_')).ok_or_else(unknown)?;
    let found = site.db.read(|db| {
        let query = "SELECT k.id, k.hash, k.user, k.role, u.role, k.expires_at, k.used_at FROM api_keys k JOIN users u ON u.name = k.user
                     WHERE k.prefix = ?1 AND u.disabled = 0";
        let row = db.prepare_cached(query)?.query_row([prefix], |row| {
            Ok(Found {
                id: row.get(0)?,
                hash: row.get(1)?,
                user: row.get(2)?,
                role: row.get(3)?,
                owner_role: row.get(4)?,
                expires_at: row.get(5)?,
                used_at: row.get(6)?,
            })
        });
        Ok(row.optional()?)
    })?;
    let now = site.now();
    let found = found.filter(|found| secret::equal(&found.hash, &secret::hash(bearer))).ok_or_else(unknown)?;
    if found.expires_at.is_some_and(|at| at <= now) {
        return Err(unknown());
    }
    let (role, owner_role): (Role, Role) = (found.role.parse()?, found.owner_role.parse()?);
    if !includes(owner_role, role) {
        return Err(Trouble::SignIn(format!("this key has the role {role}, which its owner has lost; make a new one")));
    }
    // Use is written down at most once a minute, so that a busy program costs no writes.
    if found.used_at.is_none_or(|at| now.saturating_sub(at) > 60_000) {
        site.db.change(|tx| Ok(tx.execute("UPDATE api_keys SET used_at = ?2 WHERE id = ?1", params![found.id, now])?))?;
    }
    Ok(Actor { user: found.user, role, via: Via::ApiKey { id: found.id }, client: request.client.clone() })
}

struct Found {
    id: i64,
    hash: String,
    user: String,
    role: String,
    owner_role: String,
    expires_at: Option<u64>,
    used_at: Option<u64>,
}

/// Whether everything that `less` may do, `more` may too.
fn includes(more: Role, less: Role) -> bool {
    Action::ALL.into_iter().all(|action| more.may(action) || !less.may(action))
}
