//! config.db: what is precious. WAL with synchronous=FULL loses nothing that was acknowledged, whatever happens to the power.
//!
//! One connection behind a lock: a commit takes a fifth of a millisecond, and order is what the audit chain needs. If the file cannot be
//! opened or used, every page says so and the log too; the box itself does not need it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::trouble::Trouble;

/// In order, never edited after release. How many there are is the schema's number.
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

/// The database of this version of the schema, in `folder`: `config.v1.db`.
///
/// Each schema has a file of its own, so that the version in the other slot finds what it left, whatever this one makes of its copy. Where
/// there is none yet, the newest older one is copied; opening it migrates the copy.
pub fn own_copy(folder: &Path) -> (PathBuf, Result<(), DbError>) {
    copy_for(folder, MIGRATIONS.len())
}

fn copy_for(folder: &Path, schema: usize) -> (PathBuf, Result<(), DbError>) {
    let own = folder.join(format!("config.v{schema}.db"));
    if own.exists() {
        return (own, Ok(()));
    }
    let older = (0..schema).rev().map(|schema| folder.join(format!("config.v{schema}.db")));
    // What versions before this wrote.
    let older = older.chain([folder.join("config.db")]).find(|path| path.exists());
    let copied = older.map_or(Ok(()), |older| copy(&older, &own));
    (own, copied)
}

/// Whole or not at all: under another name, synced, then renamed.
fn copy(from: &Path, to: &Path) -> Result<(), DbError> {
    let failed = |error| DbError::Open(from.to_owned(), error);
    let beside = to.with_extension("db.new");
    let _ = std::fs::remove_file(&beside);
    {
        let source = Connection::open(from).map_err(failed)?;
        source.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        // Also what is still in the write-ahead log.
        source.backup("main", &beside, None::<fn(rusqlite::backup::Progress)>).map_err(failed)?;
    }
    let moved = File::open(&beside).and_then(|file| file.sync_all()).and_then(|()| std::fs::rename(&beside, to));
    let synced = moved.and_then(|()| to.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()));
    synced.map_err(|error| DbError::Copy { from: from.to_owned(), to: to.to_owned(), error })
}

#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("{from} cannot be copied to {to}, where this version keeps its own", from = .from.display(), to = .to.display())]
    Copy {
        from: PathBuf,
        to: PathBuf,
        #[source]
        error: std::io::Error,
    },
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

    /// Opens what can be opened; where nothing can, every use tries again and says what is wrong. After a copy that failed (see [`own_copy`])
    /// nothing is opened: an empty database in its place would lose everybody.
    pub fn open_or_try_later(path: &Path, copied: Result<(), DbError>) -> (Self, Result<(), DbError>) {
        match copied.and_then(|()| open(path)) {
            Ok(opened) => (Db { path: path.to_owned(), connection: Mutex::new(Some(opened)) }, Ok(())),
            Err(error) => (Db { path: path.to_owned(), connection: Mutex::new(None) }, Err(error)),
        }
    }

    /// The file's name in its folder.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
            let folder = self.path.parent().unwrap_or(Path::new("."));
            own_copy(folder).1.and_then(|()| open(&self.path)).map(|opened| **guard = Some(opened)).map_err(unusable)?;
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

    fn users(path: &Path) -> Vec<String> {
        let db = Connection::open(path).unwrap();
        let mut query = db.prepare("SELECT hash FROM setup_code").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn say(path: &Path, word: &str) {
        let db = Db::open(path).unwrap();
        db.change(|t| Ok(t.execute("INSERT OR REPLACE INTO setup_code VALUES (1, ?1, 0)", [word])?)).unwrap();
    }

    #[test]
    fn a_newer_schema_works_on_its_own_copy_and_the_older_finds_what_it_left() {
        let folder = tempfile::tempdir().unwrap();
        let (old, copied) = copy_for(folder.path(), 1);
        copied.unwrap();
        say(&old, "before the update");
        let (new, copied) = copy_for(folder.path(), 2);
        copied.unwrap();
        assert_eq!(users(&new), ["before the update"], "also what was still in the write-ahead log");
        Connection::open(&new)
            .unwrap()
            .execute_batch("UPDATE setup_code SET hash = 'changed by the new version'; PRAGMA user_version = 2")
            .unwrap();
        // Going back: the older one opens its own, and could not have read the other.
        let (back, copied) = copy_for(folder.path(), 1);
        copied.unwrap();
        assert_eq!(users(&back), ["before the update"]);
        drop(Db::open(&back).unwrap());
        assert!(matches!(Db::open(&new), Err(DbError::Newer { found: 2, .. })), "one file for both would have ended here");
        // And forward again: what the newer one made of it is still there.
        assert_eq!(users(&copy_for(folder.path(), 2).0), ["changed by the new version"]);
    }

    #[test]
    fn the_newest_older_one_is_copied_and_a_half_made_copy_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        say(&folder.path().join("config.db"), "oldest");
        say(&copy_for(folder.path(), 1).0, "older");
        fs::write(folder.path().join("config.v3.db.new"), "half a copy").unwrap();
        let (path, copied) = copy_for(folder.path(), 3);
        copied.unwrap();
        assert_eq!(users(&path), ["older"]);
    }

    #[test]
    fn a_damaged_database_that_cannot_be_copied_is_told_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.v1.db"), "no database at all, but long enough to be looked at as one").unwrap();
        let (path, copied) = copy_for(folder.path(), 2);
        assert!(copied.is_err());
        assert!(!path.exists());
        assert!(folder.path().join("config.v1.db").exists());
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
            let (db, opened) = Db::open_or_try_later(&path, Ok(()));
            let told = opened.unwrap_err().to_string();
            assert!(told.contains("damaged") || told.contains("cannot be opened"), "{told}");
            let trouble = db.read(|_| Ok(())).unwrap_err();
            assert_eq!(trouble.status(), 503, "{trouble}");
        }
        fs::write(&path, whole).unwrap();
        let (db, _) = Db::open_or_try_later(&path, Ok(()));
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
