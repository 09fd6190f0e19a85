//! Which schedules are open at a moment, and for how long the kernel may keep them open without us.
//!
//! Pure: time comes in. An element's timeout never reaches beyond its window, so that the kernel closes the window by itself if
//! the applier is gone, and never beyond [`MOST`], so that a wall clock that was set (which the kernel's timeouts do not
//! notice) is followed within minutes even then.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use policy::name::Name;
use policy::plan::{Schedule, Window};

/// The longest timeout an element is given.
pub const MOST: Duration = Duration::from_secs(600);
/// An element is renewed when less than this is left of its timeout and its window goes on.
const RENEW: Duration = Duration::from_secs(300);
const WEEK: u32 = 7 * 24 * 60;

/// How long each schedule may stay open from `wall` (milliseconds since the epoch) on; None is closed.
///
/// A time zone that this machine does not know opens nothing.
pub fn elements(schedules: &BTreeMap<Name, Schedule>, wall: u64) -> BTreeMap<Name, Option<Duration>> {
    schedules.iter().map(|(name, schedule)| (name.clone(), open_for(schedule, wall).map(|left| left.min(MOST)))).collect()
}

/// What was told to the kernel, and what has to be told next.
#[derive(Debug, Default)]
pub struct Told {
    /// Until when (boot clock) the kernel keeps the element by itself.
    until: BTreeMap<Name, Duration>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    Open(Name, Duration),
    Close(Name),
}

impl Told {
    /// The differences between what should be open and what the kernel keeps open.
    pub fn turns(&mut self, wanted: &BTreeMap<Name, Option<Duration>>, boot: Duration) -> Vec<Turn> {
        let mut turns = vec![];
        for (name, left) in wanted {
            let held = self.until.get(name).map(|until| until.saturating_sub(boot));
            match (left, held) {
                // A second of difference is the tick's; more means that the clock was set, or that the element needs time again.
                (Some(left), Some(held))
                    if held <= *left + Duration::from_secs(1) && (held >= RENEW || held + Duration::from_secs(1) >= *left) => {}
                (Some(left), _) => {
                    self.until.insert(name.clone(), boot + *left);
                    turns.push(Turn::Open(name.clone(), *left));
                }
                (None, Some(_)) => {
                    self.until.remove(name);
                    turns.push(Turn::Close(name.clone()));
                }
                (None, None) => {}
            }
        }
        turns
    }

    /// The sets are new and empty.
    pub fn forget(&mut self) {
        self.until.clear();
    }

    pub fn is_open(&self, name: &Name, boot: Duration) -> bool {
        self.until.get(name).is_some_and(|until| *until > boot)
    }
}

pub fn open_for(schedule: &Schedule, wall: u64) -> Option<Duration> {
    let zone = TimeZone::get(&schedule.timezone).ok()?;
    let now = Timestamp::from_millisecond(i64::try_from(wall).ok()?).ok()?.to_zoned(zone);
    let minute = u32::from(minute_of_week(&now));
    let window = schedule.open.iter().find(|window| u32::from(window.from) <= minute && minute < u32::from(window.to))?;
    if *window == (Window { from: 0, to: WEEK as u16 }) {
        return Some(MOST);
    }
    let left = end(&now, window.to)?.duration_since(&now);
    let left = Duration::try_from(left).ok()?;
    // A window that ends as the week does goes on with the one that begins the next.
    let goes_on = u32::from(window.to) == WEEK && schedule.open.first().is_some_and(|first| first.from == 0);
    Some(if goes_on { MOST.max(left) } else { left }).filter(|left| !left.is_zero())
}

/// When the local clock next shows this minute of the week. Where daylight saving skips that minute, the moment after the gap: clocks jump
/// over the end, and so does the window. Where it comes twice, the first: a permit ends early rather than late.
fn end(now: &Zoned, to: u16) -> Option<Zoned> {
    let days = i64::from(to / (24 * 60)) - i64::from(now.weekday().to_monday_zero_offset());
    let day = now.date().checked_add(days.days()).ok()?;
    let minute = to % (24 * 60);
    let civil = day.at((minute / 60) as i8, (minute % 60) as i8, 0, 0);
    let end = now.time_zone().to_ambiguous_zoned(civil).compatible().ok()?;
    // Inside the repeated hour the first passing is over: the second is the end, or the window would never be open there.
    if end > *now { Some(end) } else { now.time_zone().to_ambiguous_zoned(civil).later().ok() }
}

fn minute_of_week(at: &Zoned) -> u16 {
    at.weekday().to_monday_zero_offset() as u16 * 24 * 60 + at.hour() as u16 * 60 + at.minute() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        text.parse::<Zoned>().unwrap().timestamp().as_millisecond() as u64
    }

    fn left(zone: &str, windows: &[(u16, u16)], now: &str) -> Option<Duration> {
        let open = windows.iter().map(|(from, to)| Window { from: *from, to: *to }).collect();
        open_for(&Schedule { set: "sched_0".into(), timezone: zone.into(), open }, at(now))
    }

    const fn minute(day: u16, hour: u16, minute: u16) -> u16 {
        day * 24 * 60 + hour * 60 + minute
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_window_is_open_from_its_first_to_before_its_last_minute() {
        let monday = [(minute(0, 8, 0), minute(0, 18, 0))];
        assert_eq!(left("Europe/Berlin", &monday, "2026-11-23T07:59:59[Europe/Berlin]"), None);
        assert_eq!(left("Europe/Berlin", &monday, "2026-11-23T08:00[Europe/Berlin]"), Some(600 * MINUTE));
        assert_eq!(left("Europe/Berlin", &monday, "2026-11-23T17:59:30[Europe/Berlin]"), Some(MINUTE / 2));
        assert_eq!(left("Europe/Berlin", &monday, "2026-11-23T18:00[Europe/Berlin]"), None);
        assert_eq!(left("Europe/Berlin", &monday, "2026-11-24T12:00[Europe/Berlin]"), None);
        assert_eq!(left("Europe/Berlin", &monday, "2026-11-23T06:30[UTC]"), None, "winter: 07:30 there");
    }

    #[test]
    fn the_whole_week_and_the_turn_of_the_week_have_no_gap() {
        assert_eq!(left("UTC", &[(0, 10_080)], "2026-11-22T23:59:59[UTC]"), Some(MOST));
        let weekend = [(0, minute(0, 6, 0)), (minute(5, 0, 0), 10_080)];
        assert!(left("UTC", &weekend, "2026-11-22T23:59:59[UTC]").unwrap() >= MOST);
        assert_eq!(left("UTC", &[(minute(5, 0, 0), 10_080)], "2026-11-22T23:59[UTC]"), Some(MINUTE));
    }

    #[test]
    fn daylight_saving_shortens_and_lengthens_a_night() {
        let night = [(minute(6, 0, 0), minute(6, 6, 0))];
        // 29 March 2026: 02:00 becomes 03:00. Five hours, not six.
        assert_eq!(left("Europe/Berlin", &night, "2026-03-29T00:00[Europe/Berlin]"), Some(300 * MINUTE));
        // 25 October 2026: 03:00 becomes 02:00. Seven.
        assert_eq!(left("Europe/Berlin", &night, "2026-10-25T00:00[Europe/Berlin]"), Some(420 * MINUTE));
    }

    #[test]
    fn a_window_that_ends_in_the_hour_that_is_skipped_ends_with_the_skip() {
        let night = [(minute(6, 0, 0), minute(6, 2, 30))];
        let now = "2026-03-29T01:59[Europe/Berlin]";
        let left = left("Europe/Berlin", &night, now).unwrap();
        assert!(left <= 31 * MINUTE, "{left:?}");
        // And the local clock that shows 03:00 is outside in any case.
        assert_eq!(super::tests::left("Europe/Berlin", &night, "2026-03-29T03:00[Europe/Berlin]"), None);
    }

    #[test]
    fn a_window_that_ends_in_the_hour_that_comes_twice() {
        let night = [(minute(6, 0, 0), minute(6, 2, 30))];
        assert_eq!(left("Europe/Berlin", &night, "2026-10-25T02:29+02:00[Europe/Berlin]"), Some(MINUTE));
        assert_eq!(left("Europe/Berlin", &night, "2026-10-25T02:31+02:00[Europe/Berlin]"), None);
        assert_eq!(left("Europe/Berlin", &night, "2026-10-25T02:29+01:00[Europe/Berlin]"), Some(MINUTE));
    }

    #[test]
    fn an_unknown_time_zone_opens_nothing() {
        assert_eq!(left("Mars/Olympus", &[(0, 10_080)], "2026-11-22T23:59:59[UTC]"), None);
    }

    fn name() -> Name {
        Name::try_from("office-hours").unwrap()
    }

    fn wants(left: Option<Duration>) -> BTreeMap<Name, Option<Duration>> {
        BTreeMap::from([(name(), left)])
    }

    #[test]
    fn an_element_is_renewed_while_its_window_lasts_and_left_alone_otherwise() {
        let mut told = Told::default();
        let boot = Duration::from_secs(1000);
        let second = Duration::from_secs(1);
        assert_eq!(told.turns(&wants(Some(MOST)), boot), [Turn::Open(name(), MOST)]);
        assert_eq!(told.turns(&wants(Some(MOST)), boot + 300 * second), []);
        assert_eq!(told.turns(&wants(Some(MOST)), boot + 301 * second), [Turn::Open(name(), MOST)]);
        // The last stretch: the timeout reaches the end of the window, nothing is left to do.
        let boot = boot + 301 * second;
        assert_eq!(told.turns(&wants(Some(200 * second)), boot + 400 * second), []);
        assert_eq!(told.turns(&wants(None), boot + 600 * second), [Turn::Close(name())]);
        assert_eq!(told.turns(&wants(None), boot + 601 * second), []);
    }

    #[test]
    fn a_clock_set_forward_closes_at_once_and_one_set_to_the_last_minute_shortens() {
        let mut told = Told::default();
        let boot = Duration::from_secs(1000);
        told.turns(&wants(Some(MOST)), boot);
        assert_eq!(told.turns(&wants(Some(MINUTE)), boot + MINUTE), [Turn::Open(name(), MINUTE)]);
        assert_eq!(told.turns(&wants(None), boot + MINUTE), [Turn::Close(name())]);
    }
}
