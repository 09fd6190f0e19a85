//! config.db: what is precious. WAL with synchronous=FULL loses nothing that was acknowledged, whatever happens to the power.
//!
//! One connection behind a lock: a commit takes a fifth of a millisecond, and order is what the audit chain needs. If the file cannot be
//! opened or used, every page says so and the log too; the box itself does not need it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::trouble::Trouble;

/// In order, never edited after release.
const MIGRATIONS: &[&str] = &[include_str!("../migrations/0001-foundation.sql")];

pub struct Db {
    path: PathBuf,
    connection: Mutex<Option<Opened>>,
}

/// The file that was opened, by its inode: the console may put it aside and begin another under the same name.
struct Opened {
    inode: u64,
    connection: Connection,
}

#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("{0} cannot be opened as a database")]
    Open(PathBuf, #[source] rusqlite::Error),
    #[error("{path} was written by a newer Portcullis (schema {found}, this one knows {known}): start that one, or restore a backup")]
    Newer { path: PathBuf, found: u32, known: usize },
    #[error("{path} is damaged ({report}): move it away and restore a backup, or start anew with a new set-up code")]
    Damaged { path: PathBuf, report: String },
}

impl Db {
    pub fn open(path: &Path) -> Result<Self, DbError> {
        let opened = open(path)?;
        Ok(Db { path: path.to_owned(), connection: Mutex::new(Some(opened)) })
    }

    /// Opens what can be opened; where nothing can, every use tries again and says what is wrong.
    pub fn open_or_try_later(path: &Path) -> (Self, Result<(), DbError>) {
        match open(path) {
            Ok(opened) => (Db { path: path.to_owned(), connection: Mutex::new(Some(opened)) }, Ok(())),
            Err(error) => (Db { path: path.to_owned(), connection: Mutex::new(None) }, Err(error)),
        }
    }

    /// Reads. Not for changes: those belong into a transaction.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let mut guard = self.lock();
        work(self.usable(&mut guard)?)
    }

    /// All of it or nothing.
    pub fn change<T>(&self, work: impl FnOnce(&Transaction) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let mut guard = self.lock();
        let connection = self.usable(&mut guard)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Opened>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable<'a>(&self, guard: &'a mut MutexGuard<'_, Option<Opened>>) -> Result<&'a mut Connection, Trouble> {
        if guard.as_ref().is_some_and(|opened| inode(&self.path) != Some(opened.inode)) {
            **guard = None;
        }
        if guard.is_none() {
            **guard = Some(open(&self.path).map_err(unusable)?);
        }
        let opened = guard.as_mut().ok_or_else(|| Trouble::Internal("config.db is not open".to_owned()))?;
        Ok(&mut opened.connection)
    }
}

/// Keeps SQLite's own words for what is wrong.
fn unusable(error: DbError) -> Trouble {
    match error {
        DbError::Open(_, source) => Trouble::Storage(source),
        other => Trouble::Storage(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
            Some(other.to_string()),
        )),
    }
}

fn inode(path: &Path) -> Option<u64> {
    Some(std::fs::metadata(path).ok()?.ino())
}

fn open(path: &Path) -> Result<Opened, DbError> {
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => DbError::Damaged { path: path.to_owned(), report: error.to_string() },
        _ => DbError::Open(path.to_owned(), error),
    };
    let mut connection = Connection::open(path).map_err(failed)?;
    prepare(&mut connection, path, failed)?;
    Ok(Opened { inode: inode(path).unwrap_or_default(), connection })
}

fn prepare(connection: &mut Connection, path: &Path, failed: impl Fn(rusqlite::Error) -> DbError) -> Result<(), DbError> {
    connection.busy_timeout(Duration::from_secs(5)).map_err(&failed)?;
    // 2 MiB of page cache: control stays small.
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -2048; PRAGMA trusted_schema = OFF;")
        .map_err(&failed)?;
    let report: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(&failed)?;
    if report != "ok" {
        return Err(DbError::Damaged { path: path.to_owned(), report });
    }
    migrate(connection, path, failed)
}

fn migrate(connection: &mut Connection, path: &Path, failed: impl Fn(rusqlite::Error) -> DbError) -> Result<(), DbError> {
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(&failed)?;
    if found as usize > MIGRATIONS.len() {
        return Err(DbError::Newer { path: path.to_owned(), found, known: MIGRATIONS.len() });
    }
    for (done, migration) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let transaction = connection.transaction().map_err(&failed)?;
        transaction.execute_batch(migration).map_err(&failed)?;
        transaction.pragma_update(None, "user_version", done as u32 + 1).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_new_database_is_migrated_once_and_opens_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.db");
        for _ in 0..2 {
            let db = Db::open(&path).unwrap();
            let tables: u32 =
                db.read(|c| Ok(c.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'users'", [], |r| r.get(0))?)).unwrap();
            assert_eq!(tables, 1);
        }
    }

    #[test]
    fn a_damaged_database_is_told_as_such_and_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.db");
        drop(Db::open(&path).unwrap());
        let whole = fs::read(&path).unwrap();
        let mut torn = whole.clone();
        torn[4096..8192].fill(0xAA);
        let garbage: Vec<u8> = (0..20_000).map(|n| (n % 251) as u8).collect();
        for damaged in [garbage, torn, b"SQLite format 3\0 and then nothing".to_vec()] {
            fs::write(&path, damaged).unwrap();
            let (db, opened) = Db::open_or_try_later(&path);
            let told = opened.unwrap_err().to_string();
            assert!(told.contains("damaged") || told.contains("cannot be opened"), "{told}");
            let trouble = db.read(|_| Ok(())).unwrap_err();
            assert_eq!(trouble.status(), 503, "{trouble}");
        }
        fs::write(&path, whole).unwrap();
        let (db, _) = Db::open_or_try_later(&path);
        db.read(|_| Ok(())).unwrap();
    }

    #[test]
    fn another_file_under_the_same_name_is_found_without_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.db");
        let db = Db::open(&path).unwrap();
        db.change(|t| Ok(t.execute("INSERT INTO setup_code VALUES (1, 'old', 0)", [])?)).unwrap();
        for file in ["config.db", "config.db-wal", "config.db-shm"] {
            fs::rename(folder.path().join(file), folder.path().join(format!("{file}.aside"))).unwrap();
        }
        drop(Db::open(&path).unwrap());
        let rows: u32 = db.read(|c| Ok(c.query_row("SELECT count(*) FROM setup_code", [], |r| r.get(0))?)).unwrap();
        assert_eq!(rows, 0, "the file that was put aside is still read");
    }

    #[test]
    fn a_newer_schema_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.db");
        Db::open(&path).unwrap().read(|c| Ok(c.pragma_update(None, "user_version", 999)?)).unwrap();
        assert!(matches!(Db::open(&path), Err(DbError::Newer { found: 999, .. })));
    }

    #[test]
    fn a_full_disk_is_trouble_for_one_request_and_nothing_half_done() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("config.db")).unwrap();
        db.read(|c| Ok(c.pragma_update(None, "max_page_count", 40)?)).unwrap();
        let big = "x".repeat(1 << 20);
        let full = db.change(|t| {
            t.execute("INSERT INTO setup_code VALUES (1, 'first', 0)", [])?;
            t.execute("UPDATE setup_code SET hash = ?1", [&big])?;
            Ok(())
        });
        assert!(matches!(full.unwrap_err(), Trouble::Storage(e) if e.sqlite_error_code() == Some(ErrorCode::DiskFull)));
        let rows: u32 = db.read(|c| Ok(c.query_row("SELECT count(*) FROM setup_code", [], |r| r.get(0))?)).unwrap();
        assert_eq!(rows, 0);
    }
}
