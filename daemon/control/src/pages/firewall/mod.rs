//! The rules that run, in the order in which they take effect, with what they have counted.

mod nat;
mod sets;

use std::collections::BTreeSet;

use nat::NatRow;
use policy::messages::{Counters, Tally};
use policy::model::{Action, Config, FirewallRule, RuleSchedule, ZoneTerm};
use policy::{Origin, Sources};
use serde::Serialize;
pub use sets::service_items;
use sets::{ServiceRow, SetRow};

use super::dashboard::verdict;
use super::format;
use super::page::{self, Page};
use super::ui::{self, Badge, Choice, Field, Place, Tab};
use crate::http::{Access, Method, Response, Route, Visit};
use crate::role::Action as May;
use crate::trouble::Trouble;

const VIEW: Access = Access::May(May::View);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/firewall", access: VIEW, handler: |visit| show(visit, "rules") },
    Route { method: Method::Get, path: "/firewall/nat", access: VIEW, handler: |visit| show(visit, "nat") },
    Route { method: Method::Get, path: "/firewall/sets", access: VIEW, handler: |visit| show(visit, "sets") },
    Route { method: Method::Get, path: "/firewall/kernel", access: VIEW, handler: |visit| show(visit, "kernel") },
];

fn show(visit: &Visit, tab: &'static str) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let none = Sources::default();
    let sources = seen.running.as_ref().map_or(&none, |running| &running.sources);
    let query = &visit.request.query;
    let wanted = Wanted { from: query.text("from").to_owned(), to: query.text("to").to_owned() };
    let mut view = firewall(tab, page::config(&seen), sources, seen.counters.as_ref(), &wanted);
    if tab == "kernel" {
        match visit.site.applier.kernel_ruleset() {
            Ok(text) => {
                view.kernel = Some(ui::lines(&text));
                view.kernel_text = format!(
                    "Read from the kernel at {}, {}",
                    page::clock(visit).say(visit.site.now()),
                    format::plural(text.lines().count(), "line", "lines")
                );
            }
            Err(trouble) => view.nothing = format!("{trouble}."),
        }
    }
    let page = Page::new(visit, "Firewall");
    let page = if tab == "rules" { page.live("rules") } else { page };
    page.draw("firewall.html", &view)
}

#[derive(Debug, Serialize)]
pub struct Firewall {
    pub intro: String,
    pub tabs: Vec<Tab>,
    pub tab: &'static str,
    pub pairs: Vec<Pair>,
    pub filter: Vec<Field>,
    pub filtered: bool,
    pub more: Option<String>,
    pub posture: Vec<PostureRow>,
    pub nat: Vec<NatRow>,
    pub sets: Vec<SetRow>,
    pub services: Vec<ServiceRow>,
    pub kernel: Option<Vec<String>>,
    pub kernel_text: String,
    pub nothing: String,
}

/// The rules that a new connection from one zone to another meets, in order.
#[derive(Debug, Serialize)]
pub struct Pair {
    pub from: String,
    pub to: String,
    pub text: String,
    pub rules: Vec<RuleRow>,
}

#[derive(Debug, Clone, Serialize)]
pub struct RuleRow {
    number: usize,
    id: String,
    name: String,
    comment: Option<String>,
    /// Schedule, rate limit, log: what else the rule says, in one line.
    extras: String,
    sources: Vec<String>,
    destinations: Vec<String>,
    services: Vec<String>,
    verdict: Badge,
    enabled: bool,
    counted: bool,
    uncounted: &'static str,
    packets: String,
    bytes: String,
    origin: Place,
}

#[derive(Debug, Serialize)]
pub struct PostureRow {
    id: String,
    name: String,
    packets: String,
    bytes: String,
}

/// Rows of one page; a page of all pairs of a large policy would weigh megabytes.
const MOST_ROWS: usize = 150;

/// Which pair to show; empty shows all.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub from: String,
    pub to: String,
}

pub fn tabs(current: &str) -> Vec<Tab> {
    let all = [
        ("rules", "/firewall", "Rules"),
        ("nat", "/firewall/nat", "Translation"),
        ("sets", "/firewall/sets", "Sets and services"),
        ("kernel", "/firewall/kernel", "Kernel ruleset"),
    ];
    all.into_iter().map(|(tab, href, label)| Tab { href, label, current: tab == current }).collect()
}

/// The frame of the page; `config` is the policy that runs.
pub fn firewall(tab: &'static str, config: Option<&Config>, sources: &Sources, counters: Option<&Counters>, wanted: &Wanted) -> Firewall {
    let mut page = Firewall {
        intro: match config {
            Some(_) => "The policy that runs, and what its rules have counted since it was installed.".to_owned(),
            None => "Nothing runs yet, so nothing is forwarded.".to_owned(),
        },
        tabs: tabs(tab),
        tab,
        pairs: Vec::new(),
        filter: Vec::new(),
        filtered: !wanted.from.is_empty() || !wanted.to.is_empty(),
        more: None,
        posture: Vec::new(),
        nat: Vec::new(),
        sets: Vec::new(),
        services: Vec::new(),
        kernel: None,
        kernel_text: String::new(),
        nothing: "The policy that runs says nothing of this.".to_owned(),
    };
    let Some(config) = config else {
        page.nothing = "No policy runs. The gate is shut.".to_owned();
        return page;
    };
    match tab {
        "rules" => {
            page.filter = filter(config, wanted);
            (page.pairs, page.more) = pairs(config, sources, counters, wanted);
            page.posture = posture(counters);
            if page.pairs.is_empty() {
                page.nothing = if page.filtered {
                    "No rule holds between these zones, so everything between them is dropped."
                } else {
                    "The policy has no firewall rules, so everything is dropped."
                }
                .to_owned();
            }
        }
        "nat" => page.nat = nat::nat(config, sources),
        "sets" => {
            page.sets = sets::sets(config, sources);
            page.services = sets::services(config, sources);
        }
        _ => {}
    }
    page
}

fn filter(config: &Config, wanted: &Wanted) -> Vec<Field> {
    let zones = || {
        let all = std::iter::once(Choice::new("", "every zone"));
        all.chain(config.zones.keys().map(|zone| Choice::new(zone.as_str(), zone.as_str())))
            .chain([Choice::new("box", "box (the gateway)")])
            .collect()
    };
    vec![Field::select("from", "From", wanted.from.clone(), zones()), Field::select("to", "To", wanted.to.clone(), zones())]
}

/// Every pair that some rule is about. `any` is every zone but never the box (see `ZoneTerm`).
fn pairs(config: &Config, sources: &Sources, counters: Option<&Counters>, wanted: &Wanted) -> (Vec<Pair>, Option<String>) {
    let rules = effective(config);
    let zones: Vec<ZoneTerm> = config.zones.keys().cloned().map(ZoneTerm::Zone).chain([ZoneTerm::Box]).collect();
    let mut shown = Vec::new();
    let (mut rows, mut hidden) = (0, 0);
    for from in zones.iter().filter(|zone| wanted.from.is_empty() || say_zone(zone) == wanted.from) {
        for to in zones.iter().filter(|zone| wanted.to.is_empty() || say_zone(zone) == wanted.to) {
            if *from == ZoneTerm::Box && *to == ZoneTerm::Box {
                continue;
            }
            let matching: Vec<_> = rules.iter().filter(|rule| covers(&rule.rule.from, from) && covers(&rule.rule.to, to)).collect();
            let room = MOST_ROWS.saturating_sub(rows);
            hidden += matching.len().saturating_sub(room);
            rows += matching.len().min(room);
            let text = format::plural(matching.len(), "rule", "rules");
            let rules: Vec<RuleRow> =
                matching.iter().take(room).enumerate().map(|(at, rule)| row(at + 1, rule, sources, counters)).collect();
            if !rules.is_empty() {
                shown.push(Pair { from: say_zone(from), to: say_zone(to), text, rules });
            }
        }
    }
    let more =
        (hidden > 0).then(|| format!("{} more are not shown. Choose a pair of zones above.", format::plural(hidden, "rule", "rules")));
    (shown, more)
}

/// A rule with the resource that it belongs to.
struct Effective<'a> {
    id: String,
    origin: Origin,
    rule: &'a FirewallRule,
}

/// Every firewall rule in the order in which it takes effect: by the policies' order, then their names.
fn effective(config: &Config) -> Vec<Effective<'_>> {
    let mut policies: Vec<_> = config.firewall_policies.iter().collect();
    policies.sort_by_key(|(name, resource)| (resource.spec.order, *name));
    let rules = policies.into_iter().flat_map(|(name, resource)| {
        resource.spec.rules.iter().map(move |rule| Effective {
            id: format!("{name}/{}", rule.value.name),
            origin: Origin { file: resource.origin.file.clone(), line: rule.line },
            rule: &rule.value,
        })
    });
    rules.collect()
}

fn covers(terms: &[ZoneTerm], zone: &ZoneTerm) -> bool {
    terms.iter().any(|term| term == zone || (*term == ZoneTerm::Any && *zone != ZoneTerm::Box))
}

fn row(number: usize, effective: &Effective, sources: &Sources, counters: Option<&Counters>) -> RuleRow {
    let rule = effective.rule;
    let tally = counters.map(|counters| counters.rules.get(&effective.id).copied().unwrap_or_default());
    let uncounted = match (rule.enabled, rule.counter, counters) {
        (false, ..) => "switched off",
        (_, false, _) => "not counted",
        (_, _, None) => "not known",
        _ => "",
    };
    RuleRow {
        number,
        id: effective.id.clone(),
        name: effective.id.clone(),
        comment: rule.comment.clone(),
        extras: extras(rule),
        sources: words(&rule.sources),
        destinations: words(&rule.destinations),
        services: words(&rule.services),
        verdict: verdict(rule.action),
        enabled: rule.enabled,
        counted: uncounted.is_empty(),
        uncounted,
        packets: tally.map_or_else(String::new, |tally| format::count(tally.packets)),
        bytes: tally.map_or_else(String::new, |tally| format::bytes(tally.bytes)),
        origin: Place::of(&effective.origin, sources),
    }
}

fn extras(rule: &FirewallRule) -> String {
    let rate = rule.rate_limit.as_ref().map(|limit| {
        let per = match limit.per {
            policy::ruleset::Per::Second => "second",
            policy::ruleset::Per::Minute => "minute",
            policy::ruleset::Per::Hour => "hour",
        };
        format!("at most {}/{per}, burst {}", limit.rate, limit.burst)
    });
    let log = rule.log.as_ref().map(|_| "logged".to_owned());
    let schedule = rule.schedule.as_ref().map(say_schedule);
    [schedule, rate, log].into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

fn say_schedule(schedule: &RuleSchedule) -> String {
    let days = if schedule.days.is_empty() { "daily".to_owned() } else { words(&schedule.days).join(", ") };
    format!("{days} {}–{}", schedule.from, schedule.until)
}

fn posture(counters: Option<&Counters>) -> Vec<PostureRow> {
    let Some(counters) = counters else { return Vec::new() };
    let row = |(id, tally): (&String, &Tally)| {
        let name = id.strip_prefix("posture/")?.to_owned();
        Some(PostureRow { id: id.clone(), name, packets: format::count(tally.packets), bytes: format::bytes(tally.bytes) })
    };
    counters.rules.iter().filter_map(row).collect()
}

pub fn words<T: std::fmt::Display>(terms: &[T]) -> Vec<String> {
    terms.iter().map(T::to_string).collect()
}

fn say_zone(zone: &ZoneTerm) -> String {
    zone.to_string()
}

/// How many rules of each action are switched on, for the list of resources.
pub fn say_rules(rules: &[policy::model::Located<FirewallRule>]) -> String {
    let zones: BTreeSet<String> =
        rules.iter().flat_map(|rule| rule.value.from.iter().chain(&rule.value.to)).map(ZoneTerm::to_string).collect();
    let accepts = rules.iter().filter(|rule| rule.value.enabled && rule.value.action == Action::Accept).count();
    let zones: Vec<String> = zones.into_iter().collect();
    format!("{}, {accepts} of them accept; {}", format::plural(rules.len(), "rule", "rules"), zones.join(", "))
}
