//! The first admin. There is no default password: whoever can read the box's console gets a code that works once.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rusqlite::{OptionalExtension, params};

use crate::actor::{Actor, Via};
use crate::audit::Note;
use crate::http::Client;
use crate::role::Role;
use crate::site::{Settings, Site};
use crate::trouble::Trouble;
use crate::{password, secret, throttle, user};

/// Without letters that are taken for digits: 5 bits each, 75 bits in all.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKMNPQRSTVWXYZ0123456789";

/// At every start while there is no user: a new code, shown on the console and kept in a file that only root and control can read.
pub fn offer(site: &Site) -> Result<(), Trouble> {
    if user::any(site)? {
        close(site);
        return Ok(());
    }
    // A code that came with a seed file stays the same over restarts.
    let code = fs::read_to_string(seeded_file(&site.settings)).map_or_else(|_| new_code(), |code| code.trim().to_owned());
    put(site, &code)
}

/// From now on this is the code.
pub fn offer_this(site: &Site, code: &str) -> Result<(), Trouble> {
    let file = seeded_file(&site.settings);
    write_privately(&file, code).map_err(|error| Trouble::Internal(format!("{} cannot be written: {error}", file.display())))?;
    put(site, code)
}

/// The code that is on offer, for whoever sits at the console.
pub fn offered(site: &Site) -> Option<String> {
    let code = fs::read_to_string(code_file(&site.settings)).ok()?;
    is_open(site).unwrap_or(false).then(|| code.trim().to_owned())
}

/// No code leads anywhere any more.
pub fn close(site: &Site) {
    let _ = fs::remove_file(code_file(&site.settings));
    let _ = fs::remove_file(seeded_file(&site.settings));
}

fn put(site: &Site, code: &str) -> Result<(), Trouble> {
    site.db.change(|tx| {
        let row = "INSERT INTO setup_code VALUES (1, ?1, ?2) ON CONFLICT (one) DO UPDATE SET hash = ?1, created_at = ?2";
        Ok(tx.execute(row, params![secret::hash(&normal(code)), site.now()])?)
    })?;
    eprintln!("Portcullis set-up code: {code}");
    let file = code_file(&site.settings);
    write_privately(&file, code).map_err(|error| Trouble::Internal(format!("{} cannot be written: {error}", file.display())))
}

/// Whether the set-up page is open.
pub fn is_open(site: &Site) -> Result<bool, Trouble> {
    Ok(!user::any(site)?)
}

/// Creates the first admin and closes the page for ever.
pub fn redeem(site: &Site, client: &Client, code: &str, name: &str, password: &str) -> Result<(), Trouble> {
    if !is_open(site)? {
        return Err(Trouble::NotFound("the box is set up already; sign in".to_owned()));
    }
    user::check_name(name)?;
    password::check(password, name)?;
    throttle::attempt(site, "set-up", client)?;
    if !code_is(site, code)? {
        return Err(Trouble::field("code", "is not the code on the box's console"));
    }
    let hash = site.hasher.hash(password)?;
    let actor = Actor { user: name.to_owned(), role: Role::Admin, via: Via::Box, client: client.clone() };
    site.change(&actor, |ledger| {
        // Asked again inside the transaction: of two at once only one becomes the first.
        let used = ledger.tx.execute("DELETE FROM setup_code WHERE one = 1", [])?;
        let users: u32 = ledger.tx.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?;
        if used == 0 || users > 0 {
            return Err(Trouble::NotFound("the box is set up already; sign in".to_owned()));
        }
        ledger.note(Note::new("setup", name, "the first admin was created with the one-time code"))?;
        user::insert(ledger, name, Role::Admin, &hash)
    })?;
    throttle::succeeded(site, "set-up", client)?;
    close(site);
    Ok(())
}

fn code_is(site: &Site, code: &str) -> Result<bool, Trouble> {
    let stored: Option<String> = site.db.read(|db| Ok(db.query_row("SELECT hash FROM setup_code", [], |row| row.get(0)).optional()?))?;
    Ok(stored.is_some_and(|stored| secret::equal(&stored, &secret::hash(&normal(code)))))
}

fn new_code() -> String {
    let letters: Vec<char> = secret::random_bytes::<15>().iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    letters.chunks(5).map(String::from_iter).collect::<Vec<_>>().join("-")
}

/// As people type it: small letters, no dashes, O for 0.
fn normal(code: &str) -> String {
    code.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_uppercase())
        .map(|c| if c == 'O' { '0' } else { c })
        .map(|c| if c == 'I' || c == 'L' { '1' } else { c })
        .collect()
}

fn code_file(settings: &Settings) -> PathBuf {
    settings.run_dir.join("setup-code")
}

fn seeded_file(settings: &Settings) -> PathBuf {
    settings.state_dir.join("seed.setup-code")
}

fn write_privately(file: &PathBuf, code: &str) -> io::Result<()> {
    let _ = fs::remove_file(file);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(file, "{code}")
}
