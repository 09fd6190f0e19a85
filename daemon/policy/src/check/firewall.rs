//! Firewall rules: can each of them match, and does it say what it means?

use std::collections::BTreeMap;

use super::Whole;
use super::report::{Report, Spot};
use super::terms::TheBox;
use crate::model::{Action, FirewallRule, RuleSchedule, TimeOfDay, ZoneTerm};

const MOST_RULES: usize = 100_000;
/// A rule stands once for every pair of its zones.
const MOST_PAIRS: usize = 4_000_000;

pub(super) fn check(whole: &Whole, report: &mut Report) {
    let (mut rules, mut pairs) = (0_usize, 0_usize);
    for (name, policy) in &whole.config.firewall_policies {
        let mut spot = report.resource("FirewallPolicy", name, policy);
        let mut lines = BTreeMap::new();
        for (at, rule) in policy.spec.rules.iter().enumerate() {
            let mut spot = spot.rule(at, rule);
            if let Some(first) = lines.insert(&rule.value.name, rule.line) {
                spot.field("name")
                    .say(format!("a rule named {} stands on line {first} already; give one of them another name", rule.value.name));
            }
            check_rule(whole, &mut spot, &rule.value);
            pairs = pairs.saturating_add(width(whole, &rule.value.from) * width(whole, &rule.value.to));
        }
        rules += policy.spec.rules.len();
    }
    if rules > MOST_RULES {
        report.0.general(format!(
            "the policy has {rules} firewall rules; at most {MOST_RULES} are possible: join some by address sets and services"
        ));
    } else if pairs > MOST_PAIRS {
        report.0.general(format!(
            "the rules stand for {pairs} pairs of zones; at most {MOST_PAIRS} are possible: name fewer zones than `any` in many rules"
        ));
    }
}

fn width(whole: &Whole, terms: &[ZoneTerm]) -> usize {
    if terms.contains(&ZoneTerm::Any) { whole.zones.len() + 1 } else { terms.len() }
}

fn check_rule(whole: &Whole, spot: &mut Spot, rule: &FirewallRule) {
    whole.zone_terms(spot, "from", &rule.from, TheBox::Allowed);
    whole.zone_terms(spot, "to", &rule.to, TheBox::Allowed);
    if rule.from.iter().chain(&rule.to).all(|term| *term == ZoneTerm::Box) {
        spot.say("what the box sends to itself is not filtered; name a zone in `from` or `to`");
    }
    whole.address_terms(spot, "sources", &rule.sources);
    whole.address_terms(spot, "destinations", &rule.destinations);
    whole.service_terms(spot, "services", &rule.services);
    whole.families_meet(spot, &rule.sources, &rule.destinations, &rule.services);
    if let (Some(_), Action::Drop | Action::Reject) = (rule.rate_limit, rule.action) {
        let message = format!(
            "a rate limit says how much is let through, so it goes with `action: accept`; `{}` refuses everything that matches: remove one of them",
            rule.action
        );
        spot.field("rateLimit").say(message);
    }
    if let Some(schedule) = &rule.schedule {
        check_schedule(spot, schedule);
    }
}

pub(super) fn check_schedule(spot: &mut Spot, schedule: &RuleSchedule) {
    let (from, until) = (schedule.from, schedule.until);
    if from == until {
        spot.field("schedule").say(format!("from {from} until {until} is no time at all; for the whole day leave both out"));
    } else if from == TimeOfDay(1440) {
        spot.field("schedule.from").say("24:00 is the end of a day; write \"00:00\" for its beginning");
    }
    if schedule.days.is_empty() && (from, until) == (TimeOfDay(0), TimeOfDay(1440)) {
        spot.field("schedule").say("this schedule means always; remove it, or name days or times");
    }
    for (at, day) in schedule.days.iter().enumerate() {
        if schedule.days[..at].contains(day) {
            spot.index("schedule.days", at).say(format!("{day} stands here twice; keep one"));
        }
    }
}
