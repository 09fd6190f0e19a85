//! Signed tokens for programs: JWT (RFC 7519) with HS256 and key ids. A new key signs while the old ones are still good for what they
//! signed, so that rotation interrupts nobody.

use hmac::{Hmac, KeyInit, Mac};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::actor::{Actor, Via};
use crate::audit::Note;
use crate::http::Request;
use crate::role::Role;
use crate::secret::{self, base64, from_base64};
use crate::site::Site;
use crate::trouble::Trouble;

/// Seconds that a token is good for.
pub const LIFE: u64 = 15 * 60;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    /// Seconds since the epoch, as the RFC wants it.
    iat: u64,
    exp: u64,
    jti: String,
    /// Milliseconds since the epoch: `iat` is too coarse to tell a token from a sign-out in the same second.
    at: u64,
}

/// A signing key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    pub kid: String,
    /// Milliseconds since the epoch.
    pub created_at: u64,
    /// Since then it only verifies.
    pub retired_at: Option<u64>,
}

/// A token for the actor, with the role that the user has whenever it is used.
pub fn issue(site: &Site, actor: &Actor) -> Result<String, Trouble> {
    let now = site.now();
    let (kid, key) = site.db.change(|tx| match newest(tx)? {
        Some(newest) => Ok(newest),
        None => add_key(tx, now),
    })?;
    let header = Header { alg: "HS256".to_owned(), typ: "JWT".to_owned(), kid };
    let claims = Claims {
        iss: "portcullis".to_owned(),
        sub: actor.user.clone(),
        iat: now / 1000,
        exp: now / 1000 + LIFE,
        jti: secret::hex(&secret::random_bytes::<8>()),
        at: now,
    };
    site.change(actor, |ledger| ledger.note(Note::new("token.issue", &actor.user, format!("token {} for {LIFE} s", claims.jti))))?;
    let signed = format!("{}.{}", base64(&json(&header)?), base64(&json(&claims)?));
    let signature = base64(&sign(&key, &signed)?);
    Ok(format!("{signed}.{signature}"))
}

pub fn identify(site: &Site, request: &Request, bearer: &str) -> Result<Actor, Trouble> {
    let bad = || Trouble::SignIn("this token is not good (any more); get a new one".to_owned());
    let (signed, signature) = bearer.rsplit_once('.').ok_or_else(bad)?;
    let (header, claims) = signed.split_once('.').ok_or_else(bad)?;
    let header: Header = from_base64(header).and_then(|json| serde_json::from_slice(&json).ok()).ok_or_else(bad)?;
    // Only what we issue: `none` and every other algorithm end here, before any key is looked up.
    if header.alg != "HS256" {
        return Err(bad());
    }
    let now = site.now();
    let key: Option<(Vec<u8>, Option<u64>)> = site.db.read(|db| {
        let query = "SELECT secret, retired_at FROM jwt_keys WHERE kid = ?1";
        Ok(db.prepare_cached(query)?.query_row([&header.kid], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    })?;
    let (key, retired_at) = key.ok_or_else(bad)?;
    mac(&key)?.chain_update(signed).verify_slice(&from_base64(signature).ok_or_else(bad)?).map_err(|_| bad())?;
    let claims: Claims = from_base64(claims).and_then(|json| serde_json::from_slice(&json).ok()).ok_or_else(bad)?;
    let expired = claims.exp <= now / 1000 || claims.at > now + 60_000;
    // A retired key that leaked must not sign new tokens.
    let signed_late = retired_at.is_some_and(|at| claims.at > at);
    if expired || signed_late || claims.iss != "portcullis" {
        return Err(bad());
    }
    let user: Option<(String, u64)> = site.db.read(|db| {
        let query = "SELECT role, signed_out_at FROM users WHERE name = ?1 AND disabled = 0";
        Ok(db.prepare_cached(query)?.query_row([&claims.sub], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    })?;
    let (role, signed_out_at) = user.ok_or_else(bad)?;
    if claims.at <= signed_out_at {
        return Err(bad());
    }
    let role: Role = role.parse()?;
    Ok(Actor { user: claims.sub, role, via: Via::Token { kid: header.kid }, client: request.client.clone() })
}

/// A new key signs from now on. What the old one has signed is good until it expires.
pub fn rotate(site: &Site, actor: &Actor) -> Result<Key, Trouble> {
    site.change(actor, |ledger| {
        let (tx, now) = (ledger.tx, ledger.now);
        let old = newest(tx)?.map(|(kid, _)| kid);
        tx.execute("DELETE FROM jwt_keys WHERE retired_at < ?1", [now.saturating_sub(LIFE * 1000)])?;
        tx.execute("UPDATE jwt_keys SET retired_at = ?1 WHERE retired_at IS NULL", [now])?;
        let (kid, _) = add_key(tx, now)?;
        let note =
            Note::new("token.rotate", format!("key {kid}"), "a new key signs; the old one stays good for what it signed").to(kid.clone());
        ledger.note(Note { before: old, ..note })?;
        Ok(Key { kid, created_at: now, retired_at: None })
    })
}

pub fn keys(site: &Site) -> Result<Vec<Key>, Trouble> {
    site.db.read(|db| {
        let mut query = db.prepare("SELECT kid, created_at, retired_at FROM jwt_keys ORDER BY created_at DESC")?;
        let rows = query.query_map([], |row| Ok(Key { kid: row.get(0)?, created_at: row.get(1)?, retired_at: row.get(2)? }))?;
        Ok(rows.collect::<Result<_, _>>()?)
    })
}

fn newest(db: &Connection) -> Result<Option<(String, Vec<u8>)>, Trouble> {
    let query = "SELECT kid, secret FROM jwt_keys WHERE retired_at IS NULL ORDER BY created_at DESC LIMIT 1";
    Ok(db.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

fn add_key(db: &Connection, now: u64) -> Result<(String, Vec<u8>), Trouble> {
    let (kid, key) = (secret::hex(&secret::random_bytes::<8>()), secret::random_bytes::<32>().to_vec());
    db.execute("INSERT INTO jwt_keys (kid, secret, created_at) VALUES (?1, ?2, ?3)", params![kid, key, now])?;
    Ok((kid, key))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Trouble> {
    serde_json::to_vec(value).map_err(|error| Trouble::Internal(format!("a token cannot be written: {error}")))
}

fn mac(key: &[u8]) -> Result<Hmac<Sha256>, Trouble> {
    Hmac::<Sha256>::new_from_slice(key).map_err(|error| Trouble::Internal(format!("a signing key cannot be used: {error}")))
}

fn sign(key: &[u8], text: &str) -> Result<Vec<u8>, Trouble> {
    Ok(mac(key)?.chain_update(text).finalize().into_bytes().to_vec())
}
