//! Mappings as a table that spreadsheets read and write.
//!
//! ```text
//! Config ──export──▶ text ──import──▶ every bad line named, or the policy's text with these mappings in it
//! ```
//!
//! An import adds mappings and replaces those of the same name; it removes none. The text of mappings that it does not change stays as
//! it is, comments included.

mod row;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use csv::{ReaderBuilder, StringRecord, Trim};

use crate::edit;
use crate::judge::load;
use crate::model::{Config, ProxyMapping};
use crate::name::Name;
use crate::problem::{Problems, nearest, quote};
use crate::read::read;
use crate::read::text::forbidden;
use crate::shape::camel;
use crate::source::{Origin, Sources};

use row::Row;

/// The first line of a table. Import takes them in any order and without those that nobody needs.
pub const COLUMNS: [&str; 17] = [
    "name",
    "clients",
    "upstream",
    "group",
    "tcp",
    "udp",
    "dns",
    "doh_url",
    "doh_server",
    "doh_authority",
    "down_mbit",
    "up_mbit",
    "daily_mb",
    "monthly_mb",
    "schedule",
    "enabled",
    "description",
];
const REQUIRED: [&str; 2] = ["name", "clients"];

/// What problems call the table.
const FILE: &str = "mappings.csv";
/// Where mappings go when the policy has none yet.
const NEW_FILE: &str = "mappings.yaml";
const MOST_BYTES: usize = 16 << 20;

/// What an import does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The policy's text with the mappings in it.
    pub sources: Sources,
    pub added: Vec<Name>,
    pub changed: Vec<Name>,
    pub unchanged: usize,
}

/// Every mapping of the policy, in the order of names.
pub fn export(config: &Config) -> String {
    let mut table = csv::Writer::from_writer(Vec::new());
    // Writing into memory has no way to fail.
    let _ = table.write_record(COLUMNS);
    for (name, mapping) in &config.proxy_mappings {
        let _ = table.write_record(row::cells(name, mapping.description.as_deref(), &mapping.spec));
    }
    table.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Reads a table and puts its mappings into a policy, or says everything that is wrong with it and does nothing.
pub fn import(text: &str, sources: &Sources) -> Result<Imported, Problems> {
    let mut problems = Problems::default();
    let rows = rows(text, &mut problems);
    let (config, before) = read(sources);
    let lines: BTreeMap<&Name, u32> = rows.iter().map(|(line, row)| (&row.name, *line)).collect();
    let mut imported = Imported { sources: sources.clone(), added: Vec::new(), changed: Vec::new(), unchanged: 0 };
    let mut texts = Vec::new();
    for (_, row) in &rows {
        match config.proxy_mappings.get(&row.name) {
            Some(old) if (&old.spec, &old.description) == (&row.mapping, &row.description) => {
                imported.unchanged += 1;
                continue;
            }
            Some(_) => imported.changed.push(row.name.clone()),
            None => imported.added.push(row.name.clone()),
        }
        texts.push(write::resource(&row.name, row.description.as_deref(), &row.mapping));
    }
    match edit::put(sources, &file_for_new(&config), &texts) {
        Ok(edited) => imported.sources = edited,
        Err(refused) => problems.general(refused.to_string()),
    }
    with_the_policy(sources, before, &imported.sources, &lines, &mut problems);
    problems.sort();
    if problems.is_empty() { Ok(imported) } else { Err(problems) }
}

/// The file in which the policy's last mapping stands.
fn file_for_new(config: &Config) -> String {
    config.proxy_mappings.values().next_back().map_or_else(|| NEW_FILE.to_owned(), |mapping| mapping.origin.file.clone())
}

/// What the mappings break in the policy. Each problem of one of them is moved to its line of the table; what was wrong with the policy
/// before is not the table's fault.
fn with_the_policy(old: &Sources, read: Problems, new: &Sources, lines: &BTreeMap<&Name, u32>, problems: &mut Problems) {
    let Err(after) = load(new) else { return };
    let before = load(old).err().unwrap_or(read);
    let known: BTreeSet<(&str, &str)> = before.0.iter().map(|problem| (problem.path.as_str(), problem.message.as_str())).collect();
    for problem in &after.0 {
        let mapping = problem.path.strip_prefix("ProxyMapping/").map(|path| path.split_once('.').unwrap_or((path, "")));
        let place = mapping.and_then(|(name, field)| Some((lines.get(&Name::try_from(name).ok()?)?, field)));
        match (place, &problem.origin) {
            (Some((line, field)), _) => {
                let (field, name) = (field.trim_start_matches("spec").trim_start_matches('.'), mapping.map_or("", |(name, _)| name));
                let column = COLUMNS.iter().find(|column| camel(column) == field.split(['[', '.']).next().unwrap_or_default());
                let path = column.map_or_else(|| name.to_owned(), |column| format!("{name}, {column}"));
                problems.at(&Origin { file: FILE.to_owned(), line: *line }, path, &problem.message);
            }
            _ if known.contains(&(&problem.path, &problem.message)) => (),
            (None, Some(origin)) => problems.at(origin, &problem.path, &problem.message),
            (None, None) => problems.general(&problem.message),
        }
    }
}

/// The rows that can be read, each with its line. What is wrong with the others is said.
fn rows(text: &str, problems: &mut Problems) -> Vec<(u32, Row)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let place = |line| Origin { file: FILE.to_owned(), line };
    if text.len() > MOST_BYTES {
        problems.at(&place(1), "", format!("the table has {} bytes; at most {MOST_BYTES} are read", text.len()));
        return Vec::new();
    }
    for (line, characters) in (1..).zip(text.lines()) {
        if let Some(c) = characters.chars().find(|c| forbidden(*c) && *c != '\r') {
            problems.at(&place(line), "", format!("the character U+{:04X} must not stand in a table; delete it", c as u32));
        }
    }
    // Where the comma is part of numbers, spreadsheets write semicolons.
    let head = text.lines().next().unwrap_or_default();
    let delimiter = if head.contains(';') && !head.contains(',') { b';' } else { b',' };
    let mut table = ReaderBuilder::new().delimiter(delimiter).flexible(true).trim(Trim::Headers).from_reader(text.as_bytes());
    let columns = match table.headers() {
        Ok(head) => columns(head, problems),
        Err(_) => None,
    };
    let Some(columns) = columns else { return Vec::new() };
    let mut rows: Vec<(u32, Row)> = Vec::new();
    let mut seen: BTreeMap<Name, u32> = BTreeMap::new();
    for record in table.records() {
        // The text is UTF-8 and lengths may differ, so there is nothing left that the reader could refuse.
        let Ok(record) = record else { continue };
        if problems.is_full() {
            break;
        }
        let line = record.position().map_or(1, |position| u32::try_from(position.line()).unwrap_or(u32::MAX));
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        if record.len() != columns.len() {
            let message = format!(
                "the line has {} cells and the first line names {} columns; is a separator or a quotation mark missing?",
                record.len(),
                columns.len()
            );
            problems.at(&place(line), "", message);
            continue;
        }
        let cells = columns.iter().copied().zip(&record).collect();
        let Some(row) = row::read(&cells, &mut |column, message| problems.at(&place(line), column, message)) else { continue };
        if let Some(first) = seen.insert(row.name.clone(), line) {
            problems.at(&place(line), "name", format!("a mapping named {} stands on line {first} already; keep one of them", row.name));
            continue;
        }
        rows.push((line, row));
    }
    rows
}

/// What each column is, or what is wrong with the first line.
fn columns(head: &StringRecord, problems: &mut Problems) -> Option<Vec<&'static str>> {
    let origin = Origin { file: FILE.to_owned(), line: 1 };
    let mut columns: Vec<&'static str> = Vec::new();
    for word in head {
        match COLUMNS.iter().find(|column| **column == word.to_ascii_lowercase()) {
            Some(column) if columns.contains(column) => {
                problems.at(&origin, *column, "this column stands here twice; remove one of them");
                return None;
            }
            Some(column) => columns.push(column),
            None => {
                let near = nearest(word, COLUMNS);
                problems.at(&origin, "", format!("unknown column {}; the columns are {}{near}", quote(word), COLUMNS.join(", ")));
            }
        }
    }
    for column in REQUIRED.iter().filter(|column| !columns.contains(column)) {
        problems.at(&origin, "", format!("the column `{column}` is missing; the first line names the columns: {}", COLUMNS.join(", ")));
    }
    (columns.len() == head.len() && REQUIRED.iter().all(|column| columns.contains(column))).then_some(columns)
}

/// A mapping without anything but its way out, which all others are compared with.
fn plain() -> ProxyMapping {
    use crate::model::{CaptureMode, DnsMode};
    ProxyMapping {
        clients: Vec::new(),
        upstream: None,
        group: None,
        tcp: CaptureMode::Redirect,
        udp: true,
        dns: DnsMode::Drop {},
        down_mbit: None,
        up_mbit: None,
        daily_mb: None,
        monthly_mb: None,
        schedule: None,
        enabled: true,
    }
}
