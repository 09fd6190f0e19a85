//! One stretch of time: a database of rows and a file of lines. It is filled, sealed, read, and one day removed whole.
//!
//! While it is filled it has no index but the row's own number, since pages of an index would be rewritten at every commit. A full one is
//! sealed: indexes are built once, and nothing is written to it ever again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policy::messages::observer::EventKind;
use rusqlite::{Connection, OpenFlags, params};

use super::raw;
use crate::seen::Batch;

/// Where its files lie; its number orders it among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub number: u32,
    pub db: PathBuf,
    pub raw: PathBuf,
}

/// The one that is being filled.
pub struct Partition {
    pub files: Files,
    connection: Connection,
    raw: raw::Writer,
    pub rows: u64,
    pub first: i64,
    pub last: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0} cannot be used")]
    Db(PathBuf, #[source] rusqlite::Error),
    #[error("{0} cannot be written")]
    File(PathBuf, #[source] io::Error),
}

impl StoreError {
    /// It will not be better another time.
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        matches!(self, StoreError::Db(_, error) if matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase)))
    }

    pub fn is_full(&self) -> bool {
        match self {
            StoreError::Db(_, error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            StoreError::File(_, error) => error.kind() == io::ErrorKind::StorageFull,
        }
    }
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS events (
        id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind INTEGER NOT NULL, severity INTEGER NOT NULL,
        source BLOB, source_port INTEGER, destination BLOB, destination_port INTEGER, protocol INTEGER,
        signature INTEGER, flow INTEGER, message TEXT, block INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS signatures (id INTEGER PRIMARY KEY, message TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS minutes (minute INTEGER, kind INTEGER, count INTEGER NOT NULL, PRIMARY KEY (minute, kind)) STRICT, WITHOUT ROWID;";

const INDEXES: &str = "
    CREATE INDEX IF NOT EXISTS by_source ON events (source) WHERE source IS NOT NULL;
    CREATE INDEX IF NOT EXISTS by_destination ON events (destination) WHERE destination IS NOT NULL;
    CREATE INDEX IF NOT EXISTS by_signature ON events (signature) WHERE signature IS NOT NULL;
    PRAGMA user_version = 1;";

impl Files {
    pub fn of(folder: &Path, number: u32) -> Self {
        Files { number, db: folder.join(format!("events-{number:08}.db")), raw: folder.join(format!("events-{number:08}.raw")) }
    }

    pub fn bytes(&self) -> u64 {
        let of = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
        of(&self.db) + of(&self.raw) + of(&self.beside("-wal"))
    }

    pub fn remove(&self) {
        for path in [&self.beside("-wal"), &self.beside("-shm"), &self.db, &self.raw] {
            let _ = fs::remove_file(path);
        }
    }

    /// Out of the way and not lost: a person may want to look at it.
    pub fn set_aside(&self) -> PathBuf {
        let aside = self.db.with_extension("damaged");
        let _ = fs::rename(&self.db, &aside);
        let _ = fs::rename(&self.raw, self.raw.with_extension("raw.damaged"));
        let _ = fs::remove_file(self.beside("-wal"));
        let _ = fs::remove_file(self.beside("-shm"));
        aside
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.db.clone().into_os_string();
        path.push(ending);
        path.into()
    }

    /// For questions; the one who fills it is not disturbed.
    pub fn reader(&self) -> Result<Connection, StoreError> {
        let failed = |error| StoreError::Db(self.db.clone(), error);
        let connection =
            Connection::open_with_flags(&self.db, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
        connection.busy_timeout(Duration::from_millis(200)).map_err(failed)?;
        connection
            .execute_batch("PRAGMA cache_size = -4096; PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 268435456;")
            .map_err(failed)?;
        Ok(connection)
    }

    pub fn is_sealed(&self) -> bool {
        self.reader()
            .and_then(|reader| version(&reader).map_err(|error| StoreError::Db(self.db.clone(), error)))
            .is_ok_and(|version| version > 0)
    }

    /// Builds the indexes of one that is filled no more, and folds its log into it.
    pub fn seal(&self) -> Result<(), StoreError> {
        let failed = |error| StoreError::Db(self.db.clone(), error);
        let connection = Connection::open(&self.db).map_err(failed)?;
        connection.execute_batch("PRAGMA cache_size = -16384; PRAGMA synchronous = NORMAL;").map_err(failed)?;
        connection.execute_batch(INDEXES).map_err(failed)?;
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);").map_err(failed)
    }

    /// First and last time, and how many rows.
    pub fn span(&self) -> Result<(i64, i64, u64), StoreError> {
        let failed = |error| StoreError::Db(self.db.clone(), error);
        // By the minutes and the row's number: no row is looked at.
        let minute: (Option<i64>, Option<i64>) = self
            .reader()?
            .query_row("SELECT min(minute), max(minute) FROM minutes", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(failed)?;
        let rows: Option<u64> = self.reader()?.query_row("SELECT max(id) FROM events", [], |row| row.get(0)).map_err(failed)?;
        let (first, last) = (minute.0.unwrap_or(0), minute.1.unwrap_or(0));
        Ok((first * MINUTE, (last + 1) * MINUTE - 1, rows.unwrap_or(0)))
    }
}

const MINUTE: i64 = 60_000_000;

impl Partition {
    /// A new one, or one that an earlier process did not fill.
    pub fn open(files: Files) -> Result<Self, StoreError> {
        let failed = |error| StoreError::Db(files.db.clone(), error);
        let connection = Connection::open(&files.db).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(2)).map_err(failed)?;
        // A commit of thousands of rows costs the same with FULL. The log is folded in by seal, or when it is big.
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -8192; PRAGMA wal_autocheckpoint = 16384; PRAGMA trusted_schema = OFF;")
            .map_err(failed)?;
        let report: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if report != "ok" {
            let damaged = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            return Err(failed(rusqlite::Error::SqliteFailure(damaged, Some(report))));
        }
        connection.execute_batch(SCHEMA).map_err(failed)?;
        let raw = raw::Writer::open(&files.raw).map_err(|error| StoreError::File(files.raw.clone(), error))?;
        let (first, last, rows) = files.span()?;
        Ok(Partition {
            connection,
            raw,
            rows,
            first: if rows == 0 { i64::MAX } else { first },
            last: if rows == 0 { i64::MIN } else { last },
            files,
        })
    }

    /// All of it or nothing. The ids of the events follow each other from the one that is returned.
    pub fn append(&mut self, batches: &[Batch]) -> Result<u64, StoreError> {
        let mut places = Vec::with_capacity(batches.iter().map(|batch| batch.seen.len()).sum());
        let unwritten = |error| StoreError::File(self.files.raw.clone(), error);
        for batch in batches {
            for seen in &batch.seen {
                let line = batch.lines.get(seen.line.start as usize..seen.line.end as usize).unwrap_or_default();
                places.push(self.raw.add(line).map_err(unwritten)?);
            }
        }
        self.raw.flush().map_err(unwritten)?;
        let failed = |error| StoreError::Db(self.files.db.clone(), error);
        let first = self.rows + 1;
        insert(&mut self.connection, batches, &places, first).map_err(failed)?;
        self.rows += places.len() as u64;
        for seen in batches.iter().flat_map(|batch| &batch.seen) {
            self.first = self.first.min(seen.at);
            self.last = self.last.max(seen.at);
        }
        Ok(id(self.files.number, first))
    }

    pub fn bytes(&self) -> u64 {
        self.files.bytes().max(self.raw.bytes())
    }
}

/// An event's number in all partitions, in order of arrival.
pub fn id(partition: u32, row: u64) -> u64 {
    u64::from(partition) << 32 | row
}

/// Which partition and which row.
pub fn parts(id: u64) -> (u32, u64) {
    ((id >> 32) as u32, id & 0xFFFF_FFFF)
}

fn insert(connection: &mut Connection, batches: &[Batch], places: &[raw::Place], first: u64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut event =
            transaction.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)")?;
        let mut signatures: BTreeMap<u64, &str> = BTreeMap::new();
        let mut minutes: BTreeMap<(i64, EventKind), u64> = BTreeMap::new();
        let all = batches.iter().flat_map(|batch| &batch.seen);
        for ((seen, place), row) in all.zip(places).zip(first..) {
            // A signature's words stand once, not in every row.
            let message = if seen.signature.is_some() { None } else { Some(&*seen.message).filter(|words| !words.is_empty()) };
            if let Some(signature) = seen.signature {
                signatures.insert(signature, &seen.message);
            }
            *minutes.entry((seen.at.div_euclid(MINUTE), seen.kind)).or_default() += 1;
            event.execute(params![
                row,
                seen.at,
                code(seen.kind),
                seen.severity as u8,
                seen.source.map(Octets::of).as_ref().map(Octets::bytes),
                seen.source_port,
                seen.destination.map(Octets::of).as_ref().map(Octets::bytes),
                seen.destination_port,
                seen.protocol,
                seen.signature.map(u64::cast_signed),
                seen.flow.map(u64::cast_signed),
                message,
                place.block,
                place.start,
                place.length
            ])?;
        }
        let mut signature = transaction.prepare_cached("INSERT OR REPLACE INTO signatures VALUES (?1, ?2)")?;
        for (id, message) in signatures {
            signature.execute(params![id.cast_signed(), message])?;
        }
        let mut minute = transaction.prepare_cached(
            "INSERT INTO minutes VALUES (?1, ?2, ?3) ON CONFLICT (minute, kind) DO UPDATE SET count = count + excluded.count",
        )?;
        for ((at, kind), count) in minutes {
            minute.execute(params![at, code(kind), count])?;
        }
    }
    transaction.commit()
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// As it stands in the database: never renumbered.
pub fn code(kind: EventKind) -> u8 {
    kind as u8
}

pub fn kind(code: u8) -> EventKind {
    EventKind::ALL.get(usize::from(code)).copied().unwrap_or(EventKind::Other)
}

/// An address as 4 or 16 bytes.
pub enum Octets {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Octets {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Octets::V4(address.octets()),
            IpAddr::V6(address) => Octets::V6(address.octets()),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Octets::V4(bytes) => bytes,
            Octets::V6(bytes) => bytes,
        }
    }
}

pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
