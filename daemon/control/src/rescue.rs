//! What the console asks of users and of the database, in a process of its own: systemd starts one for each connection to
//! `rescue.sock`. It needs no control that runs and no applier, and says what is wrong with a database that it cannot use.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use policy::messages::rescue::{RescueRequest, RescueResponse, RescueStatus};
use policy::messages::{Inbox, encode};
use rusqlite::params;

use crate::actor::Actor;
use crate::audit::Note;
use crate::db::DbError;
use crate::http::Client;
use crate::role::Role;
use crate::site::Site;
use crate::trouble::Trouble;
use crate::{password, seed, setup, throttle, user};

/// The name of whoever sits at the console, in the audit log.
pub const CONSOLE: &str = "console";

/// A request is a name and a password; nobody needs longer to send one.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_REQUEST: usize = 16 << 10;

/// Answers the connection that this process was started with, until it ends.
pub fn serve(site: &Site, opened: Result<(), DbError>, stream: UnixStream, allowed: &[u32]) -> io::Result<()> {
    let peer = getsockopt(&stream.as_fd(), PeerCredentials).map_err(io::Error::from)?;
    if !allowed.contains(&peer.uid()) {
        tracing::warn!(uid = peer.uid(), pid = peer.pid(), "a user who may not use the console tried to");
        return Ok(());
    }
    let mut rescue = Rescue { site, damaged: opened.err().map(|error| error.to_string()) };
    converse(stream, |request| rescue.answer(request))
}

fn converse(mut stream: UnixStream, mut answer: impl FnMut(RescueRequest) -> RescueResponse) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut inbox = Inbox::default();
    let mut piece = [0; 4096];
    loop {
        while let Some(request) = inbox.take().map_err(io::Error::other)? {
            stream.write_all(&encode(&answer(request)).map_err(io::Error::other)?)?;
        }
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            _ if inbox.len() > MAX_REQUEST => return Err(io::Error::other("a request is too long")),
            length => inbox.push(&piece[..length]),
        }
    }
}

struct Rescue<'a> {
    site: &'a Site,
    damaged: Option<String>,
}

impl Rescue<'_> {
    fn answer(&mut self, request: RescueRequest) -> RescueResponse {
        let done = match request {
            RescueRequest::Status => return RescueResponse::Status(self.status()),
            RescueRequest::ResetPassword { user, password } => self.reset_password(&user, &password),
            RescueRequest::StartAnew => self.start_anew(),
            RescueRequest::AllowShell { allow, name, password } => self.allow_shell(allow, &name, &password),
            RescueRequest::OpenShell { terminal, name, password } => self.open_shell(&terminal, &name, &password),
        };
        match done {
            Ok(text) => RescueResponse::Done { text },
            Err(trouble) => RescueResponse::Refused { reason: trouble.to_string() },
        }
    }

    fn status(&self) -> RescueStatus {
        let users = user::list(self.site);
        let damaged = self.damaged.clone().or_else(|| users.as_ref().err().map(Trouble::to_string));
        let admins = users.unwrap_or_default().into_iter().filter(|user| user.role == Role::Admin).map(|user| user.name).collect();
        RescueStatus {
            damaged,
            admins,
            setup_code: setup::offered(self.site),
            shell_allowed: shell_flag(self.site).exists(),
            seed: seed::report(&self.site.settings),
        }
    }

    fn reset_password(&self, name: &str, password: &str) -> Result<String, Trouble> {
        password::check(password, name)?;
        let hash = self.site.hasher.hash(password)?;
        self.site.change(&at_the_console(), |ledger| {
            user::replace_password(ledger, name, &hash)?;
            ledger.tx.execute("UPDATE users SET disabled = 0 WHERE name = ?1", [name])?;
            ledger.tx.execute("DELETE FROM login_failures WHERE who = ?1 OR who LIKE ?1 || '@%'", params![name])?;
            ledger.note(Note::new("user.password-reset", name, "password reset at the console, enabled, signed out everywhere"))
        })?;
        Ok(format!("{name} has a new password, and is signed out everywhere. It stands in the audit log."))
    }

    /// Only what cannot be used is put aside; it may still be of use to somebody with better tools.
    fn start_anew(&mut self) -> Result<String, Trouble> {
        let Some(why) = self.damaged.clone() else {
            return Err(Trouble::Conflict("the database can be used, so there is no need to begin a new one".to_owned()));
        };
        let folder = &self.site.settings.state_dir;
        let name = self.site.db.name();
        let aside = format!("{name}.damaged-{}", self.site.now() / 1000);
        let failed = |error: io::Error| Trouble::Internal(format!("the damaged database cannot be put aside: {error}"));
        fs::rename(folder.join(&name), folder.join(&aside)).map_err(failed)?;
        for ending in ["-wal", "-shm"] {
            let _ = fs::rename(folder.join(format!("{name}{ending}")), folder.join(format!("{aside}{ending}")));
        }
        // It names the last entry of the log that was put aside.
        let _ = fs::rename(folder.join("audit.anchor"), folder.join(format!("{aside}.anchor")));
        self.site.change(&at_the_console(), |ledger| ledger.note(Note::new("database.new", name, format!("{why}; kept as {aside}"))))?;
        self.damaged = None;
        setup::offer(self.site)?;
        Ok(format!("A new database was begun; the damaged one is kept as {aside}. Set the box up with the code that status shows."))
    }

    fn allow_shell(&self, allow: bool, name: &str, password: &str) -> Result<String, Trouble> {
        let actor = if allow { self.admin(name, password)? } else { at_the_console() };
        let flag = shell_flag(self.site);
        let action = if allow { "shell.allow" } else { "shell.forbid" };
        self.site.change(&actor, |ledger| {
            ledger.note(Note::new(action, "login shell", "at the console"))?;
            let done = if allow { fs::write(&flag, "") } else { fs::remove_file(&flag).or_else(absent_is_fine) };
            done.map_err(|error| Trouble::Internal(format!("{} cannot be written: {error}", flag.display())))
        })?;
        Ok(if allow { "A login shell may be opened now." } else { "No login shell can be opened any more." }.to_owned())
    }

    fn open_shell(&self, terminal: &str, name: &str, password: &str) -> Result<String, Trouble> {
        if terminal.is_empty() || terminal.len() > 16 || !terminal.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Trouble::Conflict("a login shell is opened on the box's own terminals alone".to_owned()));
        }
        if !shell_flag(self.site).exists() {
            return Err(Trouble::Conflict("no login shell is allowed on this box; an admin allows it first".to_owned()));
        }
        let actor = self.admin(name, password)?;
        let asked = self.site.settings.run_dir.join(format!("shell-{terminal}"));
        self.site.change(&actor, |ledger| {
            ledger.note(Note::new("shell.open", terminal, "a root shell was opened at the console"))?;
            // A path unit waits for this file.
            fs::write(&asked, "").map_err(|error| Trouble::Internal(format!("{} cannot be written: {error}", asked.display())))
        })?;
        Ok(format!("A root shell opens on {terminal}. Leave it with `exit` to come back here."))
    }

    /// Somebody who proves with a password to be an admin.
    fn admin(&self, name: &str, password: &str) -> Result<Actor, Trouble> {
        let client = Client::default();
        throttle::attempt(self.site, name, &client)?;
        let stored = user::stored_password(self.site, name)?;
        let right = password.len() <= 1024 && self.site.hasher.verify(password, stored.as_deref())?;
        if !right || user::get(self.site, name)?.role != Role::Admin {
            self.site
                .change(&at_the_console(), |ledger| ledger.note(Note::new("login.failed", name, "not an admin's name and password")))?;
            return Err(Trouble::SignIn("that is not the name and password of an admin".to_owned()));
        }
        throttle::succeeded(self.site, name, &client)?;
        Ok(Actor { user: name.to_owned(), ..at_the_console() })
    }
}

fn at_the_console() -> Actor {
    Actor { role: Role::Admin, ..Actor::the_box(CONSOLE) }
}

fn shell_flag(site: &Site) -> PathBuf {
    site.settings.state_dir.join("login-shell")
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests;
