//! Timetables: when a rule holds, as windows of the week and as the name of the set that says so.

use std::collections::BTreeMap;

use crate::model::{Action, RuleSchedule, TimeOfDay, Weekday};
use crate::name::Name;
use crate::plan::{Schedule, Window};
use crate::ruleset::{Field, Part, Set};

use super::Context;

const DAY: u16 = 24 * 60;
const WEEK: u16 = 7 * DAY;
const WEEKDAYS: [(Weekday, &str); 7] = [
    (Weekday::Mon, "mon"),
    (Weekday::Tue, "tue"),
    (Weekday::Wed, "wed"),
    (Weekday::Thu, "thu"),
    (Weekday::Fri, "fri"),
    (Weekday::Sat, "sat"),
    (Weekday::Sun, "sun"),
];

/// Which of the two complementary sets a rule needs: whatever happens to it, an empty set must permit nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    /// Elements while the rule holds.
    During,
    /// Elements while it does not.
    Outside,
}

fn sense(action: Action) -> Sense {
    match action {
        Action::Accept => Sense::During,
        Action::Drop | Action::Reject => Sense::Outside,
    }
}

/// An accept rule matches while the element is present; a rule that forbids matches while it is absent.
pub fn part(schedule: &RuleSchedule, action: Action) -> Part {
    let sense = sense(action);
    Part::InSet { fields: vec![Field::NfProto], negate: sense == Sense::Outside, set: set_name(&name(schedule, sense)) }
}

/// Every timetable that an enabled rule keeps to. Equal ones are one.
pub fn all(context: &Context<'_>) -> BTreeMap<Name, Schedule> {
    let mut found = BTreeMap::new();
    for (_, rule) in context.firewall_rules() {
        let Some(schedule) = &rule.value.schedule else { continue };
        let sense = sense(rule.value.action);
        let text = name(schedule, sense);
        if let Ok(name) = Name::try_from(text.as_str()) {
            let open = if sense == Sense::During { windows(schedule) } else { complement(&windows(schedule)) };
            found.insert(name, Schedule { set: set_name(&text), timezone: context.system.timezone.clone(), open });
        }
    }
    found
}

/// The sets that the timetables fill.
pub fn sets(schedules: &BTreeMap<Name, Schedule>) -> BTreeMap<String, Set> {
    let empty = Set {
        key: vec![Field::NfProto],
        maps_to: None,
        interval: false,
        timeout: true,
        counters: false,
        elements: Vec::new(),
        comment: Some("filled while the timetable says open".to_owned()),
    };
    schedules.values().map(|schedule| (schedule.set.clone(), empty.clone())).collect()
}

fn set_name(name: &str) -> String {
    format!("sched_{name}")
}

/// `mon-tue-0800-1800`, `not-daily-2200-0600`: at most 37 characters.
fn name(schedule: &RuleSchedule, sense: Sense) -> String {
    let days: Vec<_> = WEEKDAYS.iter().filter(|(day, _)| schedule.days.contains(day)).map(|(_, name)| *name).collect();
    let days = if days.is_empty() || days.len() == 7 { "daily".to_owned() } else { days.join("-") };
    let time = |TimeOfDay(minutes): TimeOfDay| format!("{:02}{:02}", minutes / 60, minutes % 60);
    let not = if sense == Sense::Outside { "not-" } else { "" };
    format!("{not}{days}-{}-{}", time(schedule.from), time(schedule.until))
}

/// A window that runs past midnight belongs to the day on which it begins; one that begins and ends at the same time lasts a day.
pub fn windows(schedule: &RuleSchedule) -> Vec<Window> {
    let (from, until) = (schedule.from.0, schedule.until.0);
    let length = if until > from { until - from } else { DAY - from + until };
    let mut minutes = Vec::new();
    for (day, (weekday, _)) in WEEKDAYS.iter().enumerate() {
        if schedule.days.is_empty() || schedule.days.contains(weekday) {
            let first = day as u16 * DAY + from;
            let last = first + length;
            minutes.push((first, last.min(WEEK)));
            if last > WEEK {
                minutes.push((0, last - WEEK));
            }
        }
    }
    minutes.sort_unstable();
    let mut windows: Vec<Window> = Vec::new();
    for (from, to) in minutes.into_iter().filter(|(from, to)| from < to) {
        match windows.last_mut() {
            Some(before) if from <= before.to => before.to = before.to.max(to),
            _ => windows.push(Window { from, to }),
        }
    }
    windows
}

fn complement(windows: &[Window]) -> Vec<Window> {
    let starts = std::iter::once(0).chain(windows.iter().map(|window| window.to));
    let ends = windows.iter().map(|window| window.from).chain(std::iter::once(WEEK));
    starts.zip(ends).filter(|(from, to)| from < to).map(|(from, to)| Window { from, to }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(days: &[Weekday], from: u16, until: u16) -> RuleSchedule {
        RuleSchedule { days: days.to_vec(), from: TimeOfDay(from), until: TimeOfDay(until) }
    }

    fn text(windows: &[Window]) -> Vec<String> {
        windows.iter().map(Window::to_string).collect()
    }

    #[test]
    fn a_window_past_midnight_at_the_end_of_the_week_goes_on_on_monday() {
        let night = schedule(&[Weekday::Sun], 22 * 60, 6 * 60);
        assert_eq!(text(&windows(&night)), ["Mon 00:00 - Mon 06:00", "Sun 22:00 - Sun 24:00"]);
        assert_eq!(text(&complement(&windows(&night))), ["Mon 06:00 - Sun 22:00"]);
    }

    #[test]
    fn windows_that_touch_are_one() {
        let always = schedule(&[], 0, 1440);
        assert_eq!(text(&windows(&always)), ["Mon 00:00 - Sun 24:00"]);
        assert_eq!(complement(&windows(&always)), []);
        let from_noon_to_noon = schedule(&[Weekday::Mon, Weekday::Tue], 720, 720);
        assert_eq!(text(&windows(&from_noon_to_noon)), ["Mon 12:00 - Wed 12:00"]);
    }

    #[test]
    fn the_longest_name_is_a_name() {
        use Weekday::*;
        let six = schedule(&[Mon, Tue, Wed, Thu, Fri, Sat], 480, 1440);
        assert_eq!(name(&six, Sense::Outside), "not-mon-tue-wed-thu-fri-sat-0800-2400");
        assert!(Name::try_from(name(&six, Sense::Outside)).is_ok());
    }
}
