//! alerts.db: what people should look at, and who has. Findings of one rule, source and destination are one alert while nobody has
//! acknowledged it and it is not an hour quiet.
//!
//! Kept apart from the events: it is small, outlives them, and is written with every batch that found something.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use policy::messages::observer::{Acknowledged, Alert, AlertFilter, Severity, Suppression};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, params};

use crate::detect::Finding;

pub struct Alerts {
    connection: Connection,
    open: BTreeMap<Key, Open>,
    suppressions: Vec<Suppression>,
    /// Set aside at opening, in words.
    pub trouble: Option<String>,
}

type Key = (String, Option<IpAddr>, Option<IpAddr>);

struct Open {
    id: u64,
    last: i64,
}

/// Findings of one key in one batch.
pub struct Raised {
    pub finding: Finding,
    pub count: u64,
    pub at: i64,
    pub event: u64,
}

/// Alerts that grow at the same time. What goes beyond is counted in one that says so.
const MOST_OPEN: usize = 10_000;
/// Alerts that are kept, give or take a tenth; the oldest go first.
const MOST_KEPT: u64 = 100_000;
/// After so long without a finding the next one is a new alert. Microseconds.
const QUIET: i64 = 3_600_000_000;
const OVERFLOW: &str = "too-many-alerts";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS alerts (
        id INTEGER PRIMARY KEY AUTOINCREMENT, rule TEXT NOT NULL, severity INTEGER NOT NULL, title TEXT NOT NULL, source TEXT, destination TEXT,
        count INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, event INTEGER NOT NULL,
        acknowledged_by TEXT, acknowledged_at INTEGER
    ) STRICT;
    CREATE INDEX IF NOT EXISTS open_alerts ON alerts (id) WHERE acknowledged_at IS NULL;
    CREATE TABLE IF NOT EXISTS suppressions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, rule TEXT NOT NULL, source TEXT, until INTEGER NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL
    ) STRICT;";

impl Alerts {
    /// A damaged file is set aside and told; alerts begin anew.
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        match Self::try_open(path) {
            Err(error)
                if matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)) =>
            {
                let aside = path.with_extension("damaged");
                let _ = std::fs::rename(path, &aside);
                for ending in ["db-wal", "db-shm"] {
                    let _ = std::fs::remove_file(path.with_extension(ending));
                }
                let mut alerts = Self::try_open(path)?;
                alerts.trouble = Some(format!("alerts could not be read ({error}): they lie in {}", aside.display()));
                Ok(alerts)
            }
            other => other,
        }
    }

    fn try_open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(2))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -2048; PRAGMA trusted_schema = OFF;",
        )?;
        let report: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if report != "ok" {
            return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(report)));
        }
        connection.execute_batch(SCHEMA)?;
        let mut alerts = Alerts { connection, open: BTreeMap::new(), suppressions: Vec::new(), trouble: None };
        let (open, _) = alerts.list(&AlertFilter { open: true, ..AlertFilter::default() }, None, MOST_OPEN as u32)?;
        for alert in open {
            alerts.open.entry((alert.rule, alert.source, alert.destination)).or_insert(Open { id: alert.id, last: alert.last });
        }
        alerts.suppressions = alerts.read_suppressions()?;
        Ok(alerts)
    }

    /// Counts what a batch found; the alerts that were opened or grew.
    pub fn raise(&mut self, raised: Vec<Raised>) -> rusqlite::Result<Vec<Alert>> {
        let wanted: Vec<Raised> = raised.into_iter().filter(|raised| !self.is_suppressed(&raised.finding, raised.at)).collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let newest = wanted.iter().map(|raised| raised.at).max().unwrap_or_default();
        if self.open.len() >= MOST_OPEN {
            self.open.retain(|_, open| newest - open.last < QUIET);
        }
        let transaction = self.connection.transaction()?;
        let mut changed = Vec::new();
        let mut now_open: BTreeMap<Key, Open> = BTreeMap::new();
        for raised in wanted {
            let (key, raised) = keyed(raised, self.open.len() + now_open.len() >= MOST_OPEN, &self.open);
            let known = now_open.get(&key).or_else(|| self.open.get(&key));
            let id = match known.filter(|open| raised.at - open.last < QUIET) {
                Some(open) => grow(&transaction, open.id, &raised)?,
                None => insert(&transaction, &raised)?,
            };
            now_open.insert(key, Open { id, last: raised.at });
            changed.push(id);
        }
        transaction.commit()?;
        self.open.extend(now_open);
        changed.sort_unstable();
        changed.dedup();
        self.prune()?;
        changed.into_iter().filter_map(|id| self.one(id).transpose()).collect()
    }

    fn is_suppressed(&self, finding: &Finding, at: i64) -> bool {
        self.suppressions
            .iter()
            .any(|quiet| quiet.rule == finding.rule && at < quiet.until && (quiet.source.is_none() || quiet.source == finding.source))
    }

    fn prune(&mut self) -> rusqlite::Result<()> {
        let span: Option<(u64, u64)> = self
            .connection
            .query_row("SELECT min(id), max(id) FROM alerts", [], |row| Ok(row.get::<_, Option<u64>>(0)?.zip(row.get(1)?)))?;
        let Some((_, last)) = span.filter(|(first, last)| last - first > MOST_KEPT + MOST_KEPT / 10) else { return Ok(()) };
        self.connection.execute("DELETE FROM alerts WHERE id <= ?1", [last - MOST_KEPT])?;
        self.open.retain(|_, open| open.id > last - MOST_KEPT);
        Ok(())
    }

    /// Newest first, and whether there may be older ones.
    pub fn list(&self, filter: &AlertFilter, before: Option<u64>, limit: u32) -> rusqlite::Result<(Vec<Alert>, bool)> {
        let mut conditions = vec!["id < ?1".to_owned()];
        let before = before.unwrap_or(u64::MAX).min(i64::MAX.cast_unsigned());
        let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(before), Box::new(u64::from(limit) + 1)];
        if filter.open {
            conditions.push("acknowledged_at IS NULL".to_owned());
        }
        let mut also = |condition: &str, value: Box<dyn ToSql>| {
            values.push(value);
            conditions.push(format!("{condition} ?{}", values.len()));
        };
        if let Some(severity) = filter.at_least {
            also("severity >=", Box::new(severity as u8));
        }
        if let Some(rule) = &filter.rule {
            also("rule =", Box::new(rule.clone()));
        }
        if let Some(source) = filter.source {
            also("source =", Box::new(source.to_string()));
        }
        let sql = format!("SELECT * FROM alerts WHERE {} ORDER BY id DESC LIMIT ?2", conditions.join(" AND "));
        let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
        let mut found: Vec<Alert> = self.connection.prepare(&sql)?.query_map(&*values, alert)?.collect::<Result<_, _>>()?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        Ok((found, more))
    }

    pub fn one(&self, id: u64) -> rusqlite::Result<Option<Alert>> {
        self.connection.prepare_cached("SELECT * FROM alerts WHERE id = ?1")?.query_row([id], alert).optional()
    }

    /// How many nobody has acknowledged.
    pub fn open_count(&self) -> rusqlite::Result<u64> {
        self.connection.prepare_cached("SELECT count(*) FROM alerts WHERE acknowledged_at IS NULL")?.query_row([], |row| row.get(0))
    }

    /// How many were open among those.
    pub fn acknowledge(&mut self, ids: &[u64], by: &str, now: i64) -> rusqlite::Result<u64> {
        let transaction = self.connection.transaction()?;
        let mut changed = 0;
        for id in ids {
            changed += transaction.execute(
                "UPDATE alerts SET acknowledged_by = ?2, acknowledged_at = ?3 WHERE id = ?1 AND acknowledged_at IS NULL",
                params![id, by, now],
            )?;
        }
        transaction.commit()?;
        self.open.retain(|_, open| !ids.contains(&open.id));
        Ok(changed as u64)
    }

    pub fn suppress(&mut self, quiet: &Suppression, now: i64) -> rusqlite::Result<()> {
        self.connection.execute("DELETE FROM suppressions WHERE until < ?1", [now])?;
        self.connection.execute(
            "INSERT INTO suppressions (rule, source, until, by, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![quiet.rule, quiet.source.map(|source| source.to_string()), quiet.until, quiet.by, quiet.reason],
        )?;
        self.suppressions = self.read_suppressions()?;
        Ok(())
    }

    pub fn unsuppress(&mut self, id: u64) -> rusqlite::Result<u64> {
        let removed = self.connection.execute("DELETE FROM suppressions WHERE id = ?1", [id])?;
        self.suppressions = self.read_suppressions()?;
        Ok(removed as u64)
    }

    pub fn suppressions(&self) -> &[Suppression] {
        &self.suppressions
    }

    fn read_suppressions(&self) -> rusqlite::Result<Vec<Suppression>> {
        self.connection
            .prepare("SELECT id, rule, source, until, by, reason FROM suppressions ORDER BY id LIMIT 1000")?
            .query_map([], |row| {
                Ok(Suppression {
                    id: row.get(0)?,
                    rule: row.get(1)?,
                    source: address(row, 2)?,
                    until: row.get(3)?,
                    by: row.get(4)?,
                    reason: row.get(5)?,
                })
            })?
            .collect()
    }
}

/// Where too many are open already, what would open another one is counted in the one that says so.
fn keyed(raised: Raised, full: bool, open: &BTreeMap<Key, Open>) -> (Key, Raised) {
    let finding = &raised.finding;
    let key = (finding.rule.clone(), finding.source, finding.destination);
    if !full || open.contains_key(&key) {
        return (key, raised);
    }
    let finding = Finding {
        rule: OVERFLOW.to_owned(),
        severity: Severity::Critical,
        title: format!("more than {MOST_OPEN} different alerts are open: further ones are only counted here"),
        source: None,
        destination: None,
    };
    ((OVERFLOW.to_owned(), None, None), Raised { finding, ..raised })
}

fn insert(transaction: &Transaction, raised: &Raised) -> rusqlite::Result<u64> {
    let finding = &raised.finding;
    transaction
        .prepare_cached("INSERT INTO alerts (rule, severity, title, source, destination, count, first, last, event) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8)")?
        .execute(params![
            finding.rule,
            finding.severity as u8,
            finding.title,
            finding.source.map(|source| source.to_string()),
            finding.destination.map(|destination| destination.to_string()),
            raised.count,
            raised.at,
            raised.event
        ])?;
    Ok(transaction.last_insert_rowid().cast_unsigned())
}

fn grow(transaction: &Transaction, id: u64, raised: &Raised) -> rusqlite::Result<u64> {
    transaction
        .prepare_cached("UPDATE alerts SET count = count + ?2, last = max(last, ?3), severity = max(severity, ?4) WHERE id = ?1")?
        .execute(params![id, raised.count, raised.at, raised.finding.severity as u8])?;
    Ok(id)
}

fn alert(row: &Row) -> rusqlite::Result<Alert> {
    let acknowledged: Option<(String, i64)> = row.get::<_, Option<String>>("acknowledged_by")?.zip(row.get("acknowledged_at")?);
    Ok(Alert {
        id: row.get("id")?,
        rule: row.get("rule")?,
        severity: Severity::ALL.get(row.get::<_, usize>("severity")?).copied().unwrap_or(Severity::Info),
        title: row.get("title")?,
        source: address(row, 4)?,
        destination: address(row, 5)?,
        count: row.get("count")?,
        first: row.get("first")?,
        last: row.get("last")?,
        event: row.get("event")?,
        acknowledged: acknowledged.map(|(by, at)| Acknowledged { by, at }),
    })
}

fn address(row: &Row, column: usize) -> rusqlite::Result<Option<IpAddr>> {
    Ok(row.get::<_, Option<String>>(column)?.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(rule: &str, source: &str, at: i64) -> Raised {
        let finding = Finding {
            rule: rule.to_owned(),
            severity: Severity::Warning,
            title: rule.to_owned(),
            source: source.parse().ok(),
            destination: None,
        };
        Raised { finding, count: 1, at, event: 7 }
    }

    fn all(alerts: &Alerts) -> Vec<Alert> {
        alerts.list(&AlertFilter::default(), None, 1_000).unwrap().0
    }

    #[test]
    fn findings_of_one_kind_are_one_alert_until_somebody_has_seen_it_or_it_was_quiet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.db");
        let mut alerts = Alerts::open(&path).unwrap();
        let second = 1_000_000;
        alerts
            .raise(vec![
                raised("scan", "203.0.113.7", second),
                raised("scan", "203.0.113.7", 2 * second),
                raised("scan", "203.0.113.8", second),
            ])
            .unwrap();
        assert_eq!(all(&alerts).len(), 2);
        drop(alerts);

        let mut alerts = Alerts::open(&path).unwrap();
        alerts.raise(vec![raised("scan", "203.0.113.7", 3 * second)]).unwrap();
        let first = all(&alerts).pop().unwrap();
        assert_eq!((first.count, first.first, first.last), (3, second, 3 * second), "also over a restart");

        assert_eq!(alerts.acknowledge(&[first.id, 999], "ada", 4 * second).unwrap(), 1);
        alerts.raise(vec![raised("scan", "203.0.113.7", 5 * second)]).unwrap();
        assert_eq!(all(&alerts).len(), 3, "acknowledged: a new one");
        alerts.raise(vec![raised("scan", "203.0.113.7", 5 * second + QUIET)]).unwrap();
        assert_eq!(all(&alerts).len(), 4, "quiet for an hour: a new one");
        assert_eq!(alerts.open_count().unwrap(), 3);
    }

    #[test]
    fn a_suppressed_rule_is_silent_until_its_time_and_for_its_source_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut alerts = Alerts::open(&folder.path().join("alerts.db")).unwrap();
        let quiet = Suppression {
            id: 0,
            rule: "scan".into(),
            source: "203.0.113.7".parse().ok(),
            until: 100,
            by: "ada".into(),
            reason: "our own scanner".into(),
        };
        alerts.suppress(&quiet, 0).unwrap();
        assert!(alerts.raise(vec![raised("scan", "203.0.113.7", 99)]).unwrap().is_empty());
        assert_eq!(alerts.raise(vec![raised("scan", "203.0.113.8", 99), raised("scan", "203.0.113.7", 100)]).unwrap().len(), 2);
        let id = alerts.suppressions()[0].id;
        assert_eq!(alerts.unsuppress(id).unwrap(), 1);
        assert!(alerts.suppressions().is_empty());
    }

    #[test]
    fn a_flood_of_different_alerts_ends_in_one_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut alerts = Alerts::open(&folder.path().join("alerts.db")).unwrap();
        for round in 0..3_u32 {
            let flood = (0..5_000_u32).map(|n| raised("scan", &IpAddr::from((round * 5_000 + n).to_be_bytes()).to_string(), 1)).collect();
            alerts.raise(flood).unwrap();
        }
        let (overflow, _) = alerts.list(&AlertFilter { rule: Some(OVERFLOW.into()), ..AlertFilter::default() }, None, 10).unwrap();
        assert_eq!(overflow.len(), 1);
        assert_eq!(overflow[0].count, 5_000);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.db");
        std::fs::write(&path, vec![7; 20_000]).unwrap();
        let mut alerts = Alerts::open(&path).unwrap();
        assert!(alerts.trouble.as_ref().unwrap().contains("alerts.damaged"));
        assert_eq!(std::fs::read(path.with_extension("damaged")).unwrap().len(), 20_000);
        assert_eq!(alerts.raise(vec![raised("scan", "203.0.113.7", 1)]).unwrap().len(), 1);
    }
}
