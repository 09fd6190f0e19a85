//! The people who may sign in.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::actor::Actor;
use crate::audit::{Ledger, Note};
use crate::password;
use crate::role::Role;
use crate::site::Site;
use crate::trouble::Trouble;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub name: String,
    pub role: Role,
    pub disabled: bool,
    /// Milliseconds since the epoch, like all times here.
    pub created_at: u64,
    pub password_changed_at: u64,
    pub last_login_at: Option<u64>,
}

pub fn list(site: &Site) -> Result<Vec<User>, Trouble> {
    site.db.read(|db| {
        let mut query = db.prepare(&format!("{SELECT} ORDER BY name"))?;
        Ok(query.query_map([], user)?.collect::<Result<_, _>>()?)
    })
}

pub fn get(site: &Site, name: &str) -> Result<User, Trouble> {
    site.db.read(|db| find(db, name))?.ok_or_else(|| Trouble::no_such("user", name))
}

pub fn create(site: &Site, actor: &Actor, name: &str, role: Role, password: &str) -> Result<User, Trouble> {
    check_name(name)?;
    password::check(password, name)?;
    let hash = site.hasher.hash(password)?;
    site.change(actor, |ledger| insert(ledger, name, role, &hash))?;
    get(site, name)
}

pub(crate) fn insert(ledger: &Ledger, name: &str, role: Role, hash: &str) -> Result<(), Trouble> {
    if find(ledger.tx, name)?.is_some() {
        return Err(Trouble::field("name", format!("{name:?} is taken; choose another")));
    }
    let row = "INSERT INTO users (name, role, password, created_at, password_changed_at) VALUES (?1, ?2, ?3, ?4, ?4)";
    ledger.tx.execute(row, params![name, role.name(), hash, ledger.now])?;
    ledger.note(Note::new("user.create", name, format!("role {role}")).to(role.name()))
}

pub fn set_role(site: &Site, actor: &Actor, name: &str, role: Role) -> Result<(), Trouble> {
    site.change(actor, |ledger| {
        let user = existing(ledger, name)?;
        ledger.tx.execute("UPDATE users SET role = ?2 WHERE name = ?1", [name, role.name()])?;
        an_admin_is_left(ledger)?;
        ledger.note(Note::new("user.role", name, "role changed").from(user.role.name()).to(role.name()))
    })
}

/// A disabled user's sessions, keys and tokens are good for nothing at once.
pub fn set_disabled(site: &Site, actor: &Actor, name: &str, disabled: bool) -> Result<(), Trouble> {
    site.change(actor, |ledger| {
        let user = existing(ledger, name)?;
        ledger.tx.execute("UPDATE users SET disabled = ?2 WHERE name = ?1", params![name, disabled])?;
        if disabled {
            ledger.tx.execute("DELETE FROM sessions WHERE user = ?1", [name])?;
            an_admin_is_left(ledger)?;
        }
        let word = |disabled| if disabled { "disabled" } else { "enabled" };
        ledger.note(Note::new(if disabled { "user.disable" } else { "user.enable" }, name, "").from(word(user.disabled)).to(word(disabled)))
    })
}

pub fn remove(site: &Site, actor: &Actor, name: &str) -> Result<(), Trouble> {
    site.change(actor, |ledger| {
        let user = existing(ledger, name)?;
        ledger.tx.execute("DELETE FROM users WHERE name = ?1", [name])?;
        an_admin_is_left(ledger)?;
        ledger.note(Note::new("user.remove", name, "with all sessions and keys").from(user.role.name()))
    })
}

/// By an admin, for someone else. Everything that the old password had opened is closed.
pub fn set_password(site: &Site, actor: &Actor, name: &str, password: &str) -> Result<(), Trouble> {
    password::check(password, name)?;
    let hash = site.hasher.hash(password)?;
    site.change(actor, |ledger| {
        existing(ledger, name)?;
        replace_password(ledger, name, &hash)?;
        ledger.note(Note::new("user.password", name, "password set, signed out everywhere"))
    })
}

/// By the owner, who knows the old one.
pub fn change_own_password(site: &Site, actor: &Actor, old: &str, new: &str) -> Result<(), Trouble> {
    crate::throttle::attempt(site, &actor.user, &actor.client)?;
    let stored = stored_password(site, &actor.user)?;
    if !site.hasher.verify(old, stored.as_deref())? {
        return Err(Trouble::field("old", "is not your password"));
    }
    crate::throttle::succeeded(site, &actor.user, &actor.client)?;
    password::check(new, &actor.user)?;
    if old == new {
        return Err(Trouble::field("password", "is the old one; choose another"));
    }
    let hash = site.hasher.hash(new)?;
    site.change(actor, |ledger| {
        replace_password(ledger, &actor.user, &hash)?;
        ledger.note(Note::new("user.password", &actor.user, "own password changed, signed out everywhere"))
    })
}

/// Ends every session and token of the user.
pub fn sign_out_everywhere(site: &Site, actor: &Actor, name: &str) -> Result<(), Trouble> {
    site.change(actor, |ledger| {
        existing(ledger, name)?;
        ledger.tx.execute("DELETE FROM sessions WHERE user = ?1", [name])?;
        ledger.tx.execute("UPDATE users SET signed_out_at = ?2 WHERE name = ?1", params![name, ledger.now])?;
        ledger.note(Note::new("user.sign-out", name, "signed out everywhere"))
    })
}

pub fn any(site: &Site) -> Result<bool, Trouble> {
    site.db.read(|db| Ok(db.query_row("SELECT EXISTS (SELECT 1 FROM users)", [], |row| row.get(0))?))
}

/// The stored hash; None for nobody and for disabled users.
pub(crate) fn stored_password(site: &Site, name: &str) -> Result<Option<String>, Trouble> {
    site.db
        .read(|db| Ok(db.query_row("SELECT password FROM users WHERE name = ?1 AND disabled = 0", [name], |row| row.get(0)).optional()?))
}

/// 1 to 32 of letters, digits, `.`, `_`, `-` and `@`, so that a name can stand in a log line and in a path.
pub(crate) fn check_name(name: &str) -> Result<(), Trouble> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    let reserved = ["console", "control", "hot-reload", "applier", "box"];
    if name.is_empty() || name.len() > 32 || !name.chars().all(allowed) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Trouble::field("name", "must have 1 to 32 of a-z A-Z 0-9 . _ - @ and begin with a letter or digit"));
    }
    if reserved.contains(&name) {
        return Err(Trouble::field("name", "is what the box calls itself in the audit log; choose another"));
    }
    Ok(())
}

const SELECT: &str = "SELECT name, role, disabled, created_at, password_changed_at, last_login_at FROM users";

fn find(db: &Connection, name: &str) -> Result<Option<User>, Trouble> {
    Ok(db.query_row(&format!("{SELECT} WHERE name = ?1"), [name], user).optional()?)
}

fn existing(ledger: &Ledger, name: &str) -> Result<User, Trouble> {
    find(ledger.tx, name)?.ok_or_else(|| Trouble::no_such("user", name))
}

/// Signs out everywhere.
pub(crate) fn replace_password(ledger: &Ledger, name: &str, hash: &str) -> Result<(), Trouble> {
    existing(ledger, name)?;
    ledger.tx.execute("DELETE FROM sessions WHERE user = ?1", [name])?;
    let change = "UPDATE users SET password = ?2, password_changed_at = ?3, signed_out_at = ?3 WHERE name = ?1";
    ledger.tx.execute(change, params![name, hash, ledger.now])?;
    Ok(())
}

/// Asked inside the transaction, after the change: it is rolled back if nobody could undo it.
fn an_admin_is_left(ledger: &Ledger) -> Result<(), Trouble> {
    let admins: u32 = ledger.tx.query_row("SELECT count(*) FROM users WHERE role = 'admin' AND disabled = 0", [], |row| row.get(0))?;
    if admins > 0 { Ok(()) } else { Err(Trouble::Conflict("this is the last admin who can sign in; make another one first".to_owned())) }
}

fn user(row: &Row) -> rusqlite::Result<User> {
    let role: String = row.get(1)?;
    let role = role.parse().map_err(|_| rusqlite::Error::InvalidColumnType(1, role, rusqlite::types::Type::Text))?;
    Ok(User {
        name: row.get(0)?,
        role,
        disabled: row.get(2)?,
        created_at: row.get(3)?,
        password_changed_at: row.get(4)?,
        last_login_at: row.get(5)?,
    })
}
