//! The kernel made equal to a plan, step by step and timed; and the plan compared with the kernel.
//!
//! The order of an installation keeps the box shut in between: what refuses unmarked packets first, then the whole filter
//! in one batch, then addresses and routes, forwarding last, and nothing counts before it was read back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kernel::nft::{Monitor, NewElement};
use kernel::{Difference, Nft, links, routes, rules, stats, sysctl, tc};
use policy::Plan;
use policy::compile::proxy::{MAPPING_SHIFT, PERMITS};
use policy::messages::{Counters, DriftFinding};
use policy::name::IfName;
use policy::ruleset::{Datum, Span};

use crate::clock::Now;
use crate::flows;
use crate::lockdown;
use crate::mapped::{Door, rates};
use crate::schedule::{self, Told, Turn};
use crate::services::Services;

pub struct Gate {
    nft: Nft,
    monitor: Option<Monitor>,
    services: Services,
    told: Told,
    /// Who last changed the tables, us excepted.
    stranger: Option<String>,
    /// The standing tables were put in anew, without permits.
    emptied: bool,
}

/// How an installation treats what it cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// A change: anything that does not work sends it back.
    Strict,
    /// What was confirmed comes back as far as this machine lets it: a port that is not plugged in and a service that does not
    /// start are told, and neither keeps the filter from standing.
    Lenient,
}

#[derive(Debug, Default)]
pub struct Done {
    /// Microseconds.
    pub phases: BTreeMap<String, u64>,
    pub remarks: Vec<String>,
}

impl Gate {
    pub fn open(services: Services) -> Result<Gate, kernel::Error> {
        let nft = Nft::open()?;
        // Without it strangers are found by the next round of comparing, only later.
        let monitor = Monitor::open().map_err(|error| tracing::warn!(error = %told(&error), "changes of the tables cannot be heard")).ok();
        Ok(Gate { nft, monitor, services, told: Told::default(), stranger: None, emptied: false })
    }

    pub fn monitor(&self) -> Option<&Monitor> {
        self.monitor.as_ref()
    }

    pub fn features(&self) -> Vec<String> {
        let features = self.nft.features();
        let known = [(features.owner, "table-owner"), (features.persist, "table-persist")];
        known.iter().filter(|(has, _)| *has).map(|(_, name)| (*name).to_owned()).collect()
    }

    /// Locks down unless a table of ours stands: that one is replaced in a single batch by whatever comes next.
    pub fn guard(&mut self) -> Result<(), String> {
        match self.nft.text(&[lockdown::TABLE]) {
            Ok(text) if !text.trim().is_empty() => Ok(()),
            Ok(_) | Err(_) => self.lock_down(),
        }
    }

    /// Everything is tried, whatever fails before.
    pub fn lock_down(&mut self) -> Result<(), String> {
        let plan = lockdown::plan();
        let filter = self.nft.apply(&plan.ruleset);
        self.told.forget();
        let steps = [sysctl::stop_forwarding(), rules::reconcile(&plan.route_rules), filter];
        let failures: Vec<String> = steps.into_iter().filter_map(Result::err).map(|error| told(&error)).collect();
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }

    pub fn install(&mut self, plan: &Plan, before: Option<&Plan>, manner: Manner, now: Now) -> Result<Done, String> {
        let mut done = Done::default();
        let mut clock = Instant::now();
        let (present, missing) = what_is_there(plan)?;
        match (missing, manner) {
            (Some(missing), Manner::Strict) => return Err(format!("{missing}; plug it in, or take it out of the policy")),
            (missing, _) => done.remarks.extend(missing),
        }
        let staged = self.services.stage(&plan.files);
        done.attempt(manner, staged)?;
        done.phase("stage", &mut clock);
        rules::reconcile(&plan.route_rules).map_err(|error| told(&error))?;
        self.nft.apply(&plan.ruleset).map_err(|error| told(&error))?;
        self.told.forget();
        done.phase("nft", &mut clock);
        links::reconcile(&present.links).map_err(|error| told(&error))?;
        done.phase("links", &mut clock);
        routes::reconcile(&present.routes).map_err(|error| told(&error))?;
        done.phase("routes", &mut clock);
        let shaped = tc::reconcile(&rates(&plan.proxy)).map_err(|error| told(&error));
        done.attempt(manner, shaped)?;
        done.phase("rates", &mut clock);
        sysctl::write(&present.sysctls).map_err(|error| told(&error))?;
        done.phase("sysctls", &mut clock);
        self.keep_time(plan, now)?;
        done.phase("schedules", &mut clock);
        let published = self.services.publish(&plan.files);
        done.attempt(manner, published)?;
        done.phase("services", &mut clock);
        let ended = flows::end_forbidden(plan, before, |name| self.told.is_open(name, now.boot));
        match ended {
            Ok(0) => {}
            Ok(count) => done.remarks.push(format!("{count} connections that are no longer permitted were ended")),
            Err(error) => done.attempt(manner, Err(told(&error)))?,
        }
        done.phase("flows", &mut clock);
        let differences = self.differences(&present)?;
        if !differences.is_empty() {
            let shown: Vec<String> = differences
                .iter()
                .take(3)
                .map(|difference| format!("{} is {} and not {}", difference.what, difference.found, difference.expected))
                .collect();
            return Err(format!("read back, the kernel differs: {}", shown.join("; ")));
        }
        done.phase("read-back", &mut clock);
        Ok(done)
    }

    /// Puts right what differs, and leaves alone what does not: counters go on counting where the tables are as meant.
    pub fn repair(&mut self, plan: &Plan, now: Now) -> Result<(), String> {
        rules::reconcile(&plan.route_rules).map_err(|error| told(&error))?;
        if !self.nft.differences(&plan.ruleset).map_err(|error| told(&error))?.is_empty() {
            self.nft.apply(&plan.ruleset).map_err(|error| told(&error))?;
            self.told.forget();
            self.emptied = true;
            self.keep_time(plan, now)?;
        }
        let (present, missing) = what_is_there(plan)?;
        links::reconcile(&present.links).map_err(|error| told(&error))?;
        routes::reconcile(&present.routes).map_err(|error| told(&error))?;
        tc::reconcile(&rates(&plan.proxy)).map_err(|error| told(&error))?;
        sysctl::write(&present.sysctls).map_err(|error| told(&error))?;
        missing.map_or(Ok(()), Err)
    }

    /// Whether a repair took the permits along; asked once.
    pub fn was_emptied(&mut self) -> bool {
        std::mem::take(&mut self.emptied)
    }

    pub fn differences(&mut self, plan: &Plan) -> Result<Vec<Difference>, String> {
        let mut all = self.nft.differences(&plan.ruleset).map_err(|error| told(&error))?;
        all.extend(rules::differences(&plan.route_rules).map_err(|error| told(&error))?);
        all.extend(links::differences(&plan.links).map_err(|error| told(&error))?);
        all.extend(routes::differences(&plan.routes).map_err(|error| told(&error))?);
        all.extend(tc::differences(&rates(&plan.proxy)).map_err(|error| told(&error))?);
        all.extend(sysctl::differences(&plan.sysctls));
        Ok(all)
    }

    /// The same as findings, with whom the kernel named.
    pub fn drift(&mut self, plan: &Plan) -> Result<Vec<DriftFinding>, String> {
        let differences = self.differences(plan)?;
        let who = self.stranger.take();
        let finding = |difference: Difference| DriftFinding {
            who: who.clone().filter(|_| difference.what.starts_with("table")),
            what: difference.what,
            expected: difference.expected,
            found: difference.found,
            at: 0,
            repaired: false,
        };
        Ok(differences.into_iter().map(finding).collect())
    }

    /// Opens and closes what the time of day opens and closes.
    pub fn keep_time(&mut self, plan: &Plan, now: Now) -> Result<(), String> {
        let wanted = schedule::elements(&plan.schedules, now.wall);
        for turn in self.told.turns(&wanted, now.boot) {
            let (name, left) = match &turn {
                Turn::Open(name, left) => (name, Some(*left)),
                Turn::Close(name) => (name, None),
            };
            let Some(schedule) = plan.schedules.get(name) else { continue };
            let keys = FAMILIES.map(|family| vec![Span::One(Datum::Byte(family))]);
            let told_kernel = match left {
                Some(timeout) => {
                    let elements = keys.map(|key| NewElement { key, to: None, timeout: Some(timeout) });
                    self.nft.renew_elements(lockdown::TABLE, &schedule.set, &elements)
                }
                None => self.nft.delete_elements(lockdown::TABLE, &schedule.set, &keys),
            };
            if let Err(error) = told_kernel {
                // Told again with the next tick, from the beginning.
                self.told.forget();
                return Err(format!("schedule {name}: {}", told(&error)));
            }
            if left.is_none() {
                flows::end_forbidden(plan, None, |name| self.told.is_open(name, now.boot)).map_err(|error| told(&error))?;
            }
        }
        Ok(())
    }

    /// Whether anybody but us changed the tables since the last call.
    pub fn heard_a_stranger(&mut self) -> bool {
        let own = std::process::id();
        match self.monitor.as_mut().map(Monitor::changes) {
            None => false,
            Some(Ok(changes)) => {
                let others = changes.into_iter().filter(|change| change.who.as_ref().is_none_or(|who| who.pid != own));
                others.fold(false, |_, change| {
                    self.stranger = change.who.map(|who| format!("{} ({})", who.name, who.pid));
                    true
                })
            }
            // Changes were missed: somebody's, for all we know.
            Some(Err(_)) => true,
        }
    }

    pub fn counters(&mut self, plan: &Plan, now: Now) -> Result<Counters, String> {
        let connections = stats::connections();
        Ok(Counters {
            at: now.wall,
            rules: self.nft.counters(&plan.ruleset).map_err(|error| told(&error))?,
            links: stats::links().map_err(|error| told(&error))?,
            connections: connections.count,
            connections_max: connections.max,
        })
    }

    pub fn ruleset_text(&mut self) -> Result<String, String> {
        self.nft.text(&[lockdown::TABLE]).map_err(|error| told(&error))
    }
}

impl Done {
    fn phase(&mut self, name: &str, since: &mut Instant) {
        let now = Instant::now();
        self.phases.insert(name.into(), now.duration_since(*since).as_micros() as u64);
        *since = now;
    }

    fn attempt(&mut self, manner: Manner, result: Result<(), String>) -> Result<(), String> {
        match (result, manner) {
            (Err(why), Manner::Lenient) => {
                self.remarks.push(why);
                Ok(())
            }
            (result, _) => result,
        }
    }
}

impl Door for Gate {
    fn grant(&mut self, permits: &[(u16, Duration)]) -> Result<(), String> {
        let element = |(id, lasts): &(u16, Duration)| NewElement { key: permit(*id), to: None, timeout: Some(*lasts) };
        let elements: Vec<NewElement> = permits.iter().map(element).collect();
        self.nft.renew_elements(lockdown::TABLE, PERMITS, &elements).map_err(|error| told(&error))
    }

    fn withdraw(&mut self, ids: &[u16]) -> Result<(), String> {
        let keys: Vec<Vec<Span>> = ids.iter().map(|id| permit(*id)).collect();
        self.nft.delete_elements(lockdown::TABLE, PERMITS, &keys).map_err(|error| told(&error))
    }

    fn end_flows(&mut self, ids: &[u16]) -> Result<(), String> {
        flows::end_mapped(ids).map_err(|error| told(&error))
    }
}

fn permit(id: u16) -> Vec<Span> {
    vec![Span::One(Datum::Word(u32::from(id) << MAPPING_SHIFT))]
}

/// `meta nfproto`: IPv4 and IPv6.
const FAMILIES: [u8; 2] = [2, 10];

/// The part of a plan that this machine has the ports for, and words about the ports that it has not.
fn what_is_there(plan: &Plan) -> Result<(Plan, Option<String>), String> {
    let there = stats::links().map_err(|error| told(&error))?;
    let missing: BTreeSet<IfName> = plan.links.keys().filter(|name| !there.contains_key(name.as_str())).cloned().collect();
    let mut present = plan.clone();
    if missing.is_empty() {
        return Ok((present, None));
    }
    present.links.retain(|name, _| !missing.contains(name));
    present.routes.retain(|route| !missing.iter().any(|name| leads_through(route, name)));
    present.sysctls = without_missing(&plan.sysctls, &missing);
    let names: Vec<&str> = missing.iter().map(IfName::as_str).collect();
    Ok((present, Some(format!("this machine has no interface {}", names.join(", ")))))
}

fn leads_through(route: &policy::plan::Route, name: &IfName) -> bool {
    use policy::plan::RouteKind::{Blackhole, Direct, Unreachable, Via};
    match &route.kind {
        Via { interface, .. } | Direct { interface } => interface == name,
        Blackhole | Unreachable => false,
    }
}

/// `net/ipv4/conf/NAME/rp_filter` does not exist without its interface.
fn without_missing(settings: &BTreeMap<String, String>, missing: &BTreeSet<IfName>) -> BTreeMap<String, String> {
    let is_there = |key: &str| !missing.iter().any(|name| key.contains(&format!("/conf/{name}/")));
    settings.iter().filter(|(key, _)| is_there(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// An error with everything that led to it.
pub fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
