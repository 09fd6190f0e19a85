//! Numbers, sizes and times as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

/// `1234567` → `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend(group.iter().map(|byte| char::from(*byte)));
    }
    text
}

/// Decimal units, three digits: `532 B`, `1.53 kB`, `15.3 MB`.
pub fn bytes(number: u64) -> String {
    scaled(number as f64, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Bytes a second as network people say it: `12.4 Mbit/s`.
pub fn rate(bytes_per_second: f64) -> String {
    scaled(bytes_per_second * 8.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match value {
        _ if unit == 0 || value >= 99.95 => format!("{value:.0} {}", units[unit]),
        _ if value >= 9.995 => format!("{value:.1} {}", units[unit]),
        _ => format!("{value:.2} {}", units[unit]),
    }
}

/// `43 s`, `2:05 min`, `1:00:00 h`: what a countdown shows.
pub fn left(seconds: u64) -> String {
    match seconds {
        0..100 => format!("{seconds} s"),
        100..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// How long ago or how long: `12 s`, `5 min`, `3 h`, `2 days`.
pub fn span(milliseconds: u64) -> String {
    match milliseconds / 1000 {
        0 => format!("{milliseconds} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// The first 12 digits of a digest or hash, enough to tell two apart by eye.
pub fn short_hash(hash: &str) -> String {
    hash.chars().take(12).collect()
}

pub fn plural(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(number as u64), if number == 1 { one } else { many })
}

/// A moment in the box's own time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stamp {
    /// For machines: RFC 3339, UTC.
    pub iso: String,
    /// `2026-11-21 10:42:17 CET`
    pub full: String,
    /// As short as it can be said today: `10:42:17`, `20 Nov 10:42`, `2025-11-20`.
    pub short: String,
}

/// What times on a page are relative to.
#[derive(Debug, Clone)]
pub struct Clock {
    pub now: u64,
    pub zone: TimeZone,
}

impl Clock {
    /// An unknown time zone shows as UTC, and says so in the full form.
    pub fn new(now: u64, timezone: &str) -> Self {
        Clock { now, zone: TimeZone::get(timezone).unwrap_or(TimeZone::UTC) }
    }

    /// From milliseconds since the epoch; None for what no calendar holds.
    pub fn stamp(&self, at: u64) -> Option<Stamp> {
        let zoned = |ms: u64| Some(Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?.to_zoned(self.zone.clone()));
        let (then, now) = (zoned(at)?, zoned(self.now)?);
        let short = if then.date() == now.date() {
            "%H:%M:%S"
        } else if then.year() == now.year() {
            "%-d %b %H:%M"
        } else {
            "%Y-%m-%d"
        };
        Some(Stamp {
            iso: then.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            full: then.strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
            short: then.strftime(short).to_string(),
        })
    }

    /// For sentences; what cannot be told says so.
    pub fn say(&self, at: u64) -> String {
        self.stamp(at).map_or_else(|| "an unknown time".to_owned(), |stamp| stamp.short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_scaled() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [bytes(0), bytes(999), bytes(1000), bytes(15_300_000), bytes(999_999)],
            ["0 B", "999 B", "1.00 kB", "15.3 MB", "1.00 MB"]
        );
        assert_eq!([rate(0.0), rate(125_000.0)], ["0 bit/s", "1.00 Mbit/s"]);
        assert_eq!([left(9), left(125), left(3600)], ["9 s", "2:05", "1:00:00"]);
    }

    #[test]
    fn times_say_only_what_today_needs() {
        let clock = Clock::new(1_795_000_000_000, "Europe/Berlin");
        let day = 86_400_000;
        let stamp = |at| clock.stamp(at).expect("a time").short;
        assert_eq!(stamp(clock.now).len(), "10:42:17".len());
        assert!(stamp(clock.now - 3 * day).contains("Nov"), "{}", stamp(clock.now - 3 * day));
        assert_eq!(stamp(clock.now - 400 * day).len(), "2025-11-21".len());
        assert!(clock.stamp(u64::MAX).is_none());
        assert_eq!(Clock::new(0, "Nowhere/Atlantis").zone, TimeZone::UTC);
    }
}
