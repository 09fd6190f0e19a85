//! Questions to the stored events: bounded in rows and in time, paged by the event's id, newest first.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use policy::messages::observer::{Event, EventFilter, EventKind, RawEvent, Severity};
use rusqlite::{Connection, Row, ToSql};

use super::partition::{Files, Octets, StoreError, address, code, id, kind, parts};
use super::raw::{self, Place};
use super::shelf::{Shelf, Shelved};
use super::{Troubles, said};

/// Events that match and come before an id.
#[derive(Debug, Default)]
pub struct Page {
    pub events: Vec<Event>,
    /// There may be older ones.
    pub more: bool,
    /// The time was over: ask again with this as `before`.
    pub resume: Option<u64>,
}

pub const MOST: u32 = 1_000;
/// A question that takes longer is cut and goes on when it is asked for.
const PATIENCE: Duration = Duration::from_millis(400);

pub fn page(shelf: &Shelf, troubles: &Troubles, filter: &EventFilter, before: Option<u64>, limit: u32) -> Page {
    let deadline = Instant::now() + PATIENCE;
    let limit = limit.clamp(1, MOST) as usize;
    let mut page = Page::default();
    let before = before.unwrap_or(u64::MAX);
    for shelved in shelf.newest_first() {
        if shelved.files.number > parts(before).0 || !within(&shelved, filter) {
            continue;
        }
        let below = if shelved.files.number == parts(before).0 { parts(before).1 } else { u64::from(u32::MAX) };
        let wanted = limit + 1 - page.events.len();
        match search(&shelved, filter, below, wanted, deadline) {
            Err(error) => lost(shelf, troubles, &shelved, &error),
            Ok(Found::All(events)) => page.events.extend(events),
            Ok(Found::Cut { events, reached }) => {
                page.events.extend(events);
                page.resume = Some(id(shelved.files.number, reached));
                page.more = true;
                break;
            }
        }
        if page.events.len() > limit {
            break;
        }
    }
    if page.events.len() > limit {
        page.events.truncate(limit);
        (page.more, page.resume) = (true, None);
    }
    page
}

/// One that cannot be read is told, and one that never will be is put out of the way; the question goes on without it.
fn lost(shelf: &Shelf, troubles: &Troubles, shelved: &Shelved, error: &StoreError) {
    troubles.tell(format!("events of one stretch of time could not be read: {}", said(error)));
    if shelved.sealed && error.is_damage() {
        shelf.take(shelved.files.number);
        shelved.files.set_aside();
    }
}

fn within(shelved: &Shelved, filter: &EventFilter) -> bool {
    filter.from.is_none_or(|from| shelved.last >= from) && filter.until.is_none_or(|until| shelved.first <= until)
}

enum Found {
    All(Vec<Event>),
    /// Nothing at or above `reached` is missing.
    Cut {
        events: Vec<Event>,
        reached: u64,
    },
}

/// Rows looked at in one go where no index helps, between two looks at the clock.
const STRETCH: u64 = 50_000;

fn search(shelved: &Shelved, filter: &EventFilter, below: u64, wanted: usize, deadline: Instant) -> Result<Found, StoreError> {
    let reader = shelved.files.reader()?;
    let failed = |error| StoreError::Db(shelved.files.db.clone(), error);
    // With an index that narrows, all in one go; otherwise stretch by stretch from the newest.
    let narrow = shelved.sealed && (filter.address.is_some() || filter.signature.is_some());
    let any = *filter == EventFilter::default();
    let mut events = Vec::new();
    let mut top = below.min(shelved.rows + 1);
    while top > 1 && events.len() < wanted {
        let bottom = if narrow || any { 0 } else { top.saturating_sub(STRETCH) };
        events.extend(stretch(&reader, shelved.files.number, filter, bottom..top, wanted - events.len()).map_err(failed)?);
        top = bottom;
        if top > 1 && events.len() < wanted && Instant::now() >= deadline {
            return Ok(Found::Cut { events, reached: top });
        }
    }
    Ok(Found::All(events))
}

/// Of the rows `bottom <= id < top`.
fn stretch(
    reader: &Connection,
    partition: u32,
    filter: &EventFilter,
    rows: std::ops::Range<u64>,
    wanted: usize,
) -> rusqlite::Result<Vec<Event>> {
    let mut conditions = vec!["events.id >= ?1 AND events.id < ?2".to_owned()];
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(rows.start), Box::new(rows.end), Box::new(wanted as u64)];
    let mut also = |condition: &str, value: Box<dyn ToSql>| {
        values.push(value);
        conditions.push(condition.replace('?', &format!("?{}", values.len())));
    };
    if let Some(kind) = filter.kind {
        also("kind = ?", Box::new(code(kind)));
    }
    if let Some(port) = filter.port {
        also("? IN (source_port, destination_port)", Box::new(port));
    }
    if let Some(signature) = filter.signature {
        also("signature = ?", Box::new(signature.cast_signed()));
    }
    if let Some(flow) = filter.flow {
        also("flow = ?", Box::new(flow.cast_signed()));
    }
    if let Some(from) = filter.from {
        also("at >= ?", Box::new(from));
    }
    if let Some(until) = filter.until {
        also("at <= ?", Box::new(until));
    }
    let select = "SELECT events.id, at, kind, severity, source, source_port, destination, destination_port, protocol, signature, flow,
        coalesce(events.message, signatures.message, '') FROM events LEFT JOIN signatures ON signatures.id = events.signature";
    let order = "ORDER BY events.id DESC LIMIT ?3";
    let rest = conditions.join(" AND ");
    let sql = match filter.address {
        None => format!("{select} WHERE {rest} {order}"),
        // Two walks, each along its own index in the order of the rows: nothing is sorted but what both found.
        Some(address) => {
            values.push(Box::new(Octets::of(address).bytes().to_vec()));
            let n = values.len();
            format!(
                "SELECT * FROM (SELECT * FROM ({select} WHERE source = ?{n} AND {rest} {order})
                 UNION SELECT * FROM ({select} WHERE destination = ?{n} AND {rest} {order})) ORDER BY 1 DESC LIMIT ?3"
            )
        }
    };
    let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
    reader.prepare(&sql)?.query_map(&*values, |row| event(partition, row))?.collect()
}

fn event(partition: u32, row: &Row) -> rusqlite::Result<Event> {
    let place =
        |column: usize| -> rusqlite::Result<Option<IpAddr>> { Ok(row.get::<_, Option<Vec<u8>>>(column)?.as_deref().and_then(address)) };
    Ok(Event {
        id: id(partition, row.get(0)?),
        at: row.get(1)?,
        kind: kind(row.get(2)?),
        severity: Severity::ALL.get(row.get::<_, usize>(3)?).copied().unwrap_or(Severity::Info),
        source: place(4)?,
        source_port: row.get(5)?,
        destination: place(6)?,
        destination_port: row.get(7)?,
        protocol: row.get(8)?,
        signature: row.get::<_, Option<i64>>(9)?.map(i64::cast_unsigned),
        flow: row.get::<_, Option<i64>>(10)?.map(i64::cast_unsigned),
        message: row.get(11)?,
    })
}

/// One event and the line it came as. None: it is kept no longer.
pub fn one(shelf: &Shelf, wanted: u64) -> Result<Option<(Event, RawEvent)>, StoreError> {
    let (partition, row) = parts(wanted);
    let Some(shelved) = shelf.find(partition) else { return Ok(None) };
    let failed = |error| StoreError::Db(shelved.files.db.clone(), error);
    let reader = shelved.files.reader()?;
    let found = stretch(&reader, partition, &EventFilter::default(), row..row + 1, 1).map_err(failed)?;
    let Some(event) = found.into_iter().next() else { return Ok(None) };
    let place = reader.query_row("SELECT block, start, length FROM events WHERE id = ?1", [row], |row| {
        Ok(Place { block: row.get(0)?, start: row.get(1)?, length: row.get(2)? })
    });
    Ok(Some((event, line(&shelved.files, place.map_err(failed)?))))
}

fn line(files: &Files, place: Place) -> RawEvent {
    match raw::read(&files.raw, place) {
        Ok(line) => RawEvent::Line(line),
        Err(error) => RawEvent::Lost(format!("its line cannot be read: {error}")),
    }
}

/// Events by kind in equal parts of a time, from counts by the minute.
pub fn trend(shelf: &Shelf, troubles: &Troubles, from: i64, until: i64, buckets: u32) -> Vec<BTreeMap<EventKind, u64>> {
    let minute = 60_000_000;
    let (first, last) = (from.div_euclid(minute), until.div_euclid(minute));
    let count = i64::from(buckets.clamp(1, 1_000)).min((last - first + 1).max(1));
    let mut trend = vec![BTreeMap::new(); count as usize];
    for shelved in shelf.newest_first() {
        if shelved.last < from || shelved.first > until {
            continue;
        }
        match counts(&shelved, [first, last, count]) {
            Err(error) => lost(shelf, troubles, &shelved, &error),
            Ok(counted) => {
                for (bucket, code, events) in counted {
                    if let Some(bucket) = trend.get_mut(bucket) {
                        *bucket.entry(kind(code)).or_default() += events;
                    }
                }
            }
        }
    }
    trend
}

/// Bucket, kind, how many.
fn counts(shelved: &Shelved, [first, last, count]: [i64; 3]) -> Result<Vec<(usize, u8, u64)>, StoreError> {
    let sql = "SELECT (minute - ?1) * ?3 / (?2 - ?1 + 1), kind, sum(count) FROM minutes WHERE minute BETWEEN ?1 AND ?2 GROUP BY 1, 2";
    let reader = shelved.files.reader()?;
    let read = || -> rusqlite::Result<Vec<_>> {
        reader.prepare(sql)?.query_map([first, last, count], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
    };
    read().map_err(|error| StoreError::Db(shelved.files.db.clone(), error))
}
