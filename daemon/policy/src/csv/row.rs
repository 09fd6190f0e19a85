//! One mapping as the cells of a line.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::{COLUMNS, plain};
use crate::model::{CaptureMode, DnsMode, Pem, ProxyMapping, RuleSchedule, TimeOfDay, Weekday};
use crate::name::Name;
use crate::problem::quote;
use crate::shape::{MOST_TEXT, Word};

/// What a line says.
pub struct Row {
    pub name: Name,
    pub description: Option<String>,
    pub mapping: ProxyMapping,
}

/// Takes a problem of one column.
type Say<'s> = &'s mut dyn FnMut(&'static str, String);

/// In the order of [`COLUMNS`].
pub fn cells(name: &Name, description: Option<&str>, mapping: &ProxyMapping) -> [String; COLUMNS.len()] {
    let (dns, url, server, authority) = match &mapping.dns {
        DnsMode::Drop {} => ("drop", None, None, None),
        DnsMode::Proxied {} => ("proxied", None, None, None),
        DnsMode::DohStub { doh_url, doh_server, doh_authority } => ("dohStub", Some(doh_url), *doh_server, doh_authority.as_ref()),
    };
    [
        name.to_string(),
        words(&mapping.clients),
        optional(mapping.upstream.as_ref()),
        optional(mapping.group.as_ref()),
        mapping.tcp.to_string(),
        mapping.udp.to_string(),
        dns.to_owned(),
        optional(url),
        optional(server),
        authority.map(|pem| pem.0.trim_end().to_owned()).unwrap_or_default(),
        optional(mapping.down_mbit),
        optional(mapping.up_mbit),
        optional(mapping.daily_mb),
        optional(mapping.monthly_mb),
        mapping.schedule.as_ref().map(schedule_text).unwrap_or_default(),
        mapping.enabled.to_string(),
        description.map(harmless).unwrap_or_default(),
    ]
}

/// None after at least one problem was said.
pub fn read(cells: &BTreeMap<&'static str, &str>, say: Say) -> Option<Row> {
    let mut cells = Cells { cells, say, fine: true };
    let name = cells.word::<Name>("name");
    if name.is_none() && cells.get("name").is_none() {
        cells.wrong("name", "a mapping has a name; write one");
    }
    let usual = plain();
    let mapping = ProxyMapping {
        clients: cells.list("clients"),
        upstream: cells.word("upstream"),
        group: cells.word("group"),
        tcp: cells.one_of("tcp", &[("redirect", CaptureMode::Redirect), ("tproxy", CaptureMode::Tproxy)]).unwrap_or(usual.tcp),
        udp: cells.truth("udp").unwrap_or(usual.udp),
        dns: dns(&mut cells),
        down_mbit: cells.number("down_mbit"),
        up_mbit: cells.number("up_mbit"),
        daily_mb: cells.number("daily_mb"),
        monthly_mb: cells.number("monthly_mb"),
        schedule: schedule(&mut cells),
        enabled: cells.truth("enabled").unwrap_or(usual.enabled),
    };
    let description = description(&mut cells);
    name.filter(|_| cells.fine).map(|name| Row { name, description, mapping })
}

struct Cells<'c, 's> {
    cells: &'c BTreeMap<&'static str, &'c str>,
    say: Say<'s>,
    fine: bool,
}

impl<'c> Cells<'c, '_> {
    /// None for a cell that is empty.
    fn get(&self, column: &'static str) -> Option<&'c str> {
        self.cells.get(column).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    fn wrong(&mut self, column: &'static str, message: impl Into<String>) {
        self.fine = false;
        (self.say)(column, message.into());
    }

    fn word<T: Word>(&mut self, column: &'static str) -> Option<T> {
        let read = T::parse(self.get(column)?);
        read.map_err(|message| self.wrong(column, message)).ok()
    }

    fn list<T: Word>(&mut self, column: &'static str) -> Vec<T> {
        let words = self.get(column).unwrap_or_default().split_ascii_whitespace();
        words.filter_map(|word| T::parse(word).map_err(|message| self.wrong(column, message)).ok()).collect()
    }

    fn one_of<T: Clone>(&mut self, column: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.get(column)?;
        let found = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| value.clone());
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.wrong(column, format!("{} is not possible here; write one of: {}", quote(text), words.join(", ")));
        }
        found
    }

    fn truth(&mut self, column: &'static str) -> Option<bool> {
        self.one_of(column, &[("true", true), ("false", false)])
    }

    fn number<T: std::str::FromStr>(&mut self, column: &'static str) -> Option<T> {
        let text = self.get(column)?;
        let number = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())).and_then(|text| text.parse().ok());
        if number.is_none() {
            self.wrong(column, format!("{} is not a whole number; write one, or leave the cell empty for no limit", quote(text)));
        }
        number
    }
}

fn dns(cells: &mut Cells) -> DnsMode {
    const OWN: [&str; 3] = ["doh_url", "doh_server", "doh_authority"];
    let stub = cells.one_of("dns", &[("drop", None), ("proxied", Some(false)), ("dohStub", Some(true))]).flatten();
    if stub == Some(true) {
        let url = cells.get("doh_url").map(str::to_owned);
        let usual = || "https://cloudflare-dns.com/dns-query".to_owned();
        return DnsMode::DohStub {
            doh_url: url.unwrap_or_else(usual),
            doh_server: cells.word("doh_server"),
            doh_authority: cells.word::<Pem>("doh_authority"),
        };
    }
    for column in OWN {
        if cells.get(column).is_some() {
            cells.wrong(column, "this belongs to dns `dohStub`; empty the cell or change the column dns");
        }
    }
    if stub == Some(false) { DnsMode::Proxied {} } else { DnsMode::Drop {} }
}

/// `mon tue 08:00-18:00`: days, none for every day, and then the times, none for the whole day.
fn schedule_text(schedule: &RuleSchedule) -> String {
    format!("{} {}-{}", words(&schedule.days), schedule.from, schedule.until).trim_start().to_owned()
}

fn schedule(cells: &mut Cells) -> Option<RuleSchedule> {
    let text = cells.get("schedule")?;
    let mut schedule = RuleSchedule { days: Vec::new(), from: TimeOfDay(0), until: TimeOfDay(1440) };
    let mut words = text.split_ascii_whitespace().peekable();
    while let Some(word) = words.next() {
        let read = match word.split_once('-') {
            Some((from, until)) if words.peek().is_none() => TimeOfDay::parse(from).and_then(|from| Ok((from, TimeOfDay::parse(until)?))),
            _ => match Weekday::parse(word) {
                Ok(day) => {
                    schedule.days.push(day);
                    continue;
                }
                Err(message) => Err(message),
            },
        };
        match read {
            Ok((from, until)) => (schedule.from, schedule.until) = (from, until),
            Err(message) => {
                cells.wrong("schedule", format!("{message}; a schedule is written like `mon tue 08:00-18:00`"));
                return None;
            }
        }
    }
    Some(schedule)
}

/// A spreadsheet takes a cell that begins so for a formula and runs it.
const FORMULAS: [char; 5] = ['=', '+', '-', '@', '\''];

/// With an apostrophe before it, which spreadsheets take for "this is text" and the import takes away.
fn harmless(text: &str) -> String {
    if text.starts_with(FORMULAS) { format!("'{text}") } else { text.to_owned() }
}

fn description(cells: &mut Cells) -> Option<String> {
    // Spaces around it are its author's.
    let text = cells.cells.get("description").filter(|text| !text.is_empty())?;
    let text = text.strip_prefix('\'').filter(|rest| rest.starts_with(FORMULAS)).unwrap_or(text);
    if text.contains(['\n', '\r', '\t']) {
        cells.wrong("description", "this text has a line break or a tab in it; keep it on one line. Is a quotation mark missing?");
    } else if text.chars().count() > MOST_TEXT {
        cells.wrong("description", format!("this text is longer than {MOST_TEXT} characters; shorten it"));
    }
    Some(text.to_owned())
}

fn words<T: Display>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

fn optional<T: Display>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
