//! How much of its quota a mapping has used: bytes by day and by month, as the box's own time zone counts them.
//!
//! The forwarder says how much it carried since it started. What it said last is kept together with what was counted of it, so
//! that whoever of the two is restarted, and whenever the power fails, nothing is counted twice and at most a few seconds are lost.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use policy::name::Name;
use serde::{Deserialize, Serialize};

use super::permits::Used;
use crate::store::{Disk, sealed};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Usage {
    /// Whose totals `told` are.
    forwarder: String,
    told: BTreeMap<Name, u64>,
    counted: BTreeMap<Name, Counted>,
    /// The last day on which something was counted, `2026-11-28`.
    last_day: String,
}

/// Bytes by day and by month; a few of each, so that a clock that is set finds what was counted before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counted {
    days: BTreeMap<String, u64>,
    months: BTreeMap<String, u64>,
}

pub const FILE: &str = "usage";
const MOST_DAYS: usize = 4;
const MOST_MONTHS: usize = 3;
/// No clock of ours was right before this: a machine without a battery begins in 1970.
const PLAUSIBLE: &str = "2026";

impl Usage {
    /// A file that is damaged is told, and counting begins anew.
    pub fn read(disk: &impl Disk) -> (Usage, Option<String>) {
        match disk.read(FILE) {
            Ok(bytes) => match sealed::open(&bytes) {
                Some(usage) => (usage, None),
                None => (Usage::default(), Some("the record of used quotas is damaged; counting begins anew".into())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Usage::default(), None),
            Err(error) => (Usage::default(), Some(format!("the record of used quotas cannot be read: {error}"))),
        }
    }

    /// Durable, the whole of it or not at all.
    pub fn write(disk: &mut impl Disk, bytes: &[u8]) -> io::Result<()> {
        let beside = format!("{FILE}.new");
        disk.write_synced(&beside, bytes)?;
        disk.rename(&beside, FILE)?;
        disk.sync_folder(".")
    }

    pub fn sealed(&self) -> Vec<u8> {
        sealed::seal(self)
    }

    /// A forwarder has connected; one that we know goes on where it was.
    pub fn connected(&mut self, forwarder: &str) {
        if self.forwarder != forwarder {
            self.forwarder = forwarder.into();
            self.told.clear();
        }
    }

    /// `bytes` since it started. Returns whether anything was new.
    pub fn said(&mut self, bytes: &BTreeMap<Name, u64>, is_mapping: impl Fn(&Name) -> bool, zone: &str, wall: u64) -> bool {
        let Some((day, month)) = self.today(zone, wall) else { return false };
        let mut is_new = false;
        for (name, total) in bytes.iter().filter(|(name, _)| is_mapping(name)) {
            let told = self.told.insert(name.clone(), *total).unwrap_or(0);
            // Less than before: it is another forwarder after all.
            let more = total.checked_sub(told).unwrap_or(*total);
            if more == 0 {
                continue;
            }
            is_new = true;
            let counted = self.counted.entry(name.clone()).or_default();
            add(&mut counted.days, &day, more, MOST_DAYS);
            add(&mut counted.months, &month, more, MOST_MONTHS);
        }
        if is_new {
            self.last_day = day;
        }
        is_new
    }

    pub fn used(&self, zone: &str, wall: u64) -> BTreeMap<Name, Used> {
        let Some((day, month)) = self.today(zone, wall) else { return BTreeMap::new() };
        let of = |counts: &BTreeMap<String, u64>, period: &str| counts.get(period).copied().unwrap_or(0);
        let used = |counted: &Counted| Used { today: of(&counted.days, &day), this_month: of(&counted.months, &month) };
        self.counted.iter().map(|(name, counted)| (name.clone(), used(counted))).collect()
    }

    /// Mappings of months that are over and that are gone.
    pub fn forget(&mut self, is_mapping: impl Fn(&Name) -> bool) {
        let newest = self.counted.values().flat_map(|counted| counted.months.keys()).max().cloned();
        self.counted.retain(|name, counted| is_mapping(name) || counted.months.keys().max() == newest.as_ref());
    }

    /// `2026-11-28` and `2026-11`. Before a clock is right, the last day goes on: what was spent stays spent.
    fn today(&self, zone: &str, wall: u64) -> Option<(String, String)> {
        let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
        let now = Timestamp::from_millisecond(i64::try_from(wall).ok()?).ok()?.to_zoned(zone);
        let mut day = now.strftime("%F").to_string();
        if day.as_str() < PLAUSIBLE && !self.last_day.is_empty() {
            day.clone_from(&self.last_day);
        }
        let month = day.get(..7)?.to_owned();
        Some((day, month))
    }
}

fn add(counts: &mut BTreeMap<String, u64>, period: &str, bytes: u64, most: usize) {
    let count = counts.entry(period.to_owned()).or_default();
    *count = count.saturating_add(bytes);
    while counts.len() > most {
        // The oldest, but never the one that counts.
        let Some(oldest) = counts.keys().find(|other| *other != period).cloned() else { return };
        counts.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::name;
    use super::*;
    use crate::store::Flaky;

    const BERLIN: &str = "Europe/Berlin";
    const HOUR: u64 = 3_600_000;

    fn at(text: &str) -> u64 {
        text.parse::<jiff::Zoned>().unwrap().timestamp().as_millisecond() as u64
    }

    fn noon() -> u64 {
        at("2026-11-30T12:00[Europe/Berlin]")
    }

    fn say(usage: &mut Usage, total: u64, wall: u64) {
        usage.said(&BTreeMap::from([(name("one"), total)]), |_| true, BERLIN, wall);
    }

    fn used(usage: &Usage, wall: u64) -> (u64, u64) {
        let used = usage.used(BERLIN, wall).get(&name("one")).copied().unwrap_or_default();
        (used.today, used.this_month)
    }

    #[test]
    fn totals_become_differences_by_day_and_month_of_the_boxs_own_time_zone() {
        let mut usage = Usage::default();
        usage.connected("a");
        say(&mut usage, 100, noon());
        say(&mut usage, 150, noon());
        assert_eq!(used(&usage, noon()), (150, 150));
        // 23:30 there is 22:30 in London, and half an hour later it is December.
        say(&mut usage, 160, at("2026-11-30T23:30[Europe/Berlin]"));
        assert_eq!(used(&usage, at("2026-11-30T23:59[Europe/Berlin]")), (160, 160));
        let december = at("2026-12-01T00:00[Europe/Berlin]");
        assert_eq!(used(&usage, december), (0, 0));
        say(&mut usage, 165, december);
        assert_eq!(used(&usage, december), (5, 5));
        assert_eq!(used(&usage, december + 24 * HOUR), (0, 5));
    }

    #[test]
    fn a_forwarder_that_was_restarted_begins_at_nothing_and_one_that_goes_on_does_not() {
        let mut usage = Usage::default();
        usage.connected("a");
        say(&mut usage, 100, noon());
        usage.connected("a");
        say(&mut usage, 110, noon());
        usage.connected("b");
        say(&mut usage, 200, noon());
        assert_eq!(used(&usage, noon()), (310, 310));
        say(&mut usage, 20, noon());
        assert_eq!(used(&usage, noon()), (330, 330), "less than before under the same name");
    }

    #[test]
    fn a_clock_that_is_set_finds_what_was_counted_and_one_without_a_battery_gives_nothing_back() {
        let mut usage = Usage::default();
        usage.connected("a");
        say(&mut usage, 100, noon());
        say(&mut usage, 130, noon() - 24 * HOUR);
        assert_eq!(used(&usage, noon()), (100, 130));
        assert_eq!(used(&usage, noon() - 24 * HOUR), (30, 130));
        say(&mut usage, 137, 0);
        assert_eq!(used(&usage, 5), (37, 137), "1970");
        for day in 0..30 {
            say(&mut usage, 200 + day, noon() + day * 24 * HOUR);
        }
        assert!(usage.counted[&name("one")].days.len() <= MOST_DAYS);
    }

    #[test]
    fn what_is_gone_is_forgotten_when_its_month_is_over() {
        let mut usage = Usage::default();
        say(&mut usage, 100, noon());
        usage.forget(|_| false);
        assert_eq!(used(&usage, noon()), (100, 100), "taken out and put back, its quota is still spent");
        usage.said(&BTreeMap::from([(name("many"), 1)]), |_| true, BERLIN, noon() + 24 * HOUR);
        usage.forget(|name| name.as_str() == "many");
        assert_eq!(usage.counted.len(), 1);
    }

    #[test]
    fn a_power_cut_leaves_the_old_record_or_the_new_and_a_restart_counts_what_came_meanwhile() {
        let mut disk = Flaky::default();
        let mut usage = Usage::default();
        usage.connected("a");
        say(&mut usage, 100, noon());
        Usage::write(&mut disk, &usage.sealed()).unwrap();
        let begun = disk.log.len();
        say(&mut usage, 250, noon());
        Usage::write(&mut disk, &usage.sealed()).unwrap();
        for at in begun..=disk.log.len() {
            for luck in 0..16_u64 {
                let (mut after, remark) = Usage::read(&disk.after_power_cut(at, luck << 60));
                assert!(remark.is_none() && matches!(used(&after, noon()).0, 100 | 250), "cut at {at}: {remark:?}");
                after.connected("a");
                say(&mut after, 300, noon());
                assert_eq!(used(&after, noon()), (300, 300));
            }
        }
    }

    #[test]
    fn a_damaged_record_is_told() {
        let mut disk = Flaky::default();
        disk.files.insert(FILE.into(), b"{}".to_vec());
        assert!(Usage::read(&disk).1.unwrap().contains("damaged"));
    }
}
