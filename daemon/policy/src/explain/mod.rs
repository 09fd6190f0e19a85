//! What the box does with one packet, and which line of the policy is the reason.

mod place;
mod query;
mod words;

use std::collections::BTreeSet;

use serde::Serialize;

pub use place::{SOMEWHERE4, SOMEWHERE6, USUAL_SOURCE_PORT, usual_host};
pub use query::{BadQuery, Query, protocol_words, service_words, week_time};

use crate::check::Checked;
use crate::model::Mac;
use crate::name::Name;
use crate::plan::Plan;
use crate::plan::proxy_text::via;
use crate::simulate::{Decision, Egress, Ingress, Outcome, Packet, Step, World};
use crate::source::Origin;

/// The answer. It speaks of the plan, and so of what is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `accepted`, `dropped`, `rejected`, or `depends`: on the time, or on a mapping's permit.
    pub verdict: &'static str,
    /// `tcp/443 from 192.168.2.10:40000 to 1.1.1.1`
    pub packet: String,
    /// `lan0 (zone lan)` or `the box`
    pub enters: String,
    /// Where it leaves or is delivered, or would have been; None where it never got so far.
    pub leaves: Option<String>,
    pub translations: Vec<Translated>,
    pub decided: Decided,
    pub way: Vec<Waymark>,
    /// The mapping whose client sends it.
    pub client: Option<Client>,
    /// Only with `depends`: each time of the week that makes a difference.
    pub times: Vec<AtTime>,
}

/// A client that is carried, or goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    pub mapping: Name,
    pub origin: Origin,
    /// `upstream berlin`, `group any-of-them`
    pub via: String,
    /// Without that there is never a permit.
    pub enabled: bool,
}

/// One translation on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Translated {
    /// `source` or `destination`
    pub what: &'static str,
    pub before: String,
    pub after: String,
    pub by: Decided,
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// `accept`, `no rule permits it: policy drop of chain forward`
    pub words: String,
    /// `lan-out/web`; None where no line of the policy is the reason.
    pub rule: Option<String>,
    pub origin: Option<Origin>,
}

/// One step on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waymark {
    pub hook: &'static str,
    pub chain: String,
    pub words: String,
    pub rule: Option<String>,
    pub origin: Option<Origin>,
}

/// What happens at a time of the week, and at all others at which the same schedules are open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AtTime {
    /// `mon 08:00`
    pub at: String,
    pub verdict: &'static str,
    pub decided: Decided,
}

/// Follows one packet through the plan.
pub fn explain(checked: &Checked, plan: &Plan, query: &Query) -> Result<Explanation, BadQuery> {
    // Without a time the story is told for the beginning of the week; `times` says whether another would end differently.
    let mut world = World::of(plan, Some(query.at.unwrap_or(0)));
    let packet = place::packet(&world, query)?;
    let client = client(checked, plan, &packet);
    world.permits = client.as_ref().is_none_or(|client| client.enabled);
    let outcome = world.run(&packet);
    let blocked = World { permits: false, ..world }.run(&packet);
    let mut answer = told(plan, &packet, &outcome);
    if let Some(Client { mapping, origin, via, .. }) = client.as_ref().filter(|_| blocked.verdict != outcome.verdict) {
        let words = format!("carried by mapping {mapping} to {via} if it is let in (a permit), else dropped");
        answer.verdict = "depends";
        answer.leaves = Some("the forwarder".to_owned());
        answer.decided = Decided { words, rule: None, origin: Some(origin.clone()) };
    } else if query.at.is_none() {
        let times = times(plan, &packet);
        if times.iter().any(|time| time.verdict != times[0].verdict) {
            answer.verdict = "depends";
            answer.times = times;
        }
    }
    answer.client = client;
    Ok(answer)
}

/// Whose client the sender is; a hardware address counts before addresses.
fn client(checked: &Checked, plan: &Plan, packet: &Packet) -> Option<Client> {
    let mac = packet.mac.map(|mac| Mac(mac).to_string());
    let received = matches!(packet.from, Ingress::Interface(_));
    let mappings = || plan.proxy.mappings.iter().filter(|_| received);
    let by_mac = mappings().find(|(_, mapping)| mac.as_ref().is_some_and(|mac| mapping.macs.contains(mac)));
    let by_address = || mappings().find(|(_, mapping)| mapping.clients.iter().any(|net| net.contains(&packet.source)));
    let (name, mapping) = by_mac.or_else(by_address)?;
    let origin = checked.config().proxy_mappings.get(name)?.origin.clone();
    Some(Client { mapping: name.clone(), origin, via: via(&mapping.via), enabled: mapping.enabled })
}

/// One answer for each combination of schedules that the week brings, at the first minute at which it is so.
fn times(plan: &Plan, packet: &Packet) -> Vec<AtTime> {
    const WEEK: u16 = 7 * 24 * 60;
    let windows = plan.schedules.values().flat_map(|schedule| &schedule.open);
    let edges: BTreeSet<u16> = windows.flat_map(|window| [window.from, window.to % WEEK]).chain([0]).collect();
    let mut seen = BTreeSet::new();
    let mut found: Vec<AtTime> = Vec::new();
    for minute in edges {
        let world = World::of(plan, Some(minute));
        if !seen.insert(world.schedules.clone()) {
            continue;
        }
        let outcome = world.run(packet);
        let (verdict, decided) = (words::verdict(outcome.verdict), decided(&outcome.decision));
        if !found.iter().any(|time| time.verdict == verdict && time.decided == decided) {
            found.push(AtTime { at: week_time(minute), verdict, decided });
        }
    }
    found
}

/// The story of a packet that was followed.
pub fn told(plan: &Plan, packet: &Packet, outcome: &Outcome) -> Explanation {
    Explanation {
        verdict: words::verdict(outcome.verdict),
        packet: words::packet(packet),
        enters: match &packet.from {
            Ingress::Interface(port) => words::port(plan, port),
            Ingress::Box => "the box".to_owned(),
        },
        leaves: outcome.to.as_ref().map(|to| match to {
            Egress::Interface(port) => words::port(plan, port),
            Egress::Box => "the box".to_owned(),
        }),
        translations: words::translations(packet, outcome),
        decided: decided(&outcome.decision),
        way: outcome.trace.iter().map(waymark).collect(),
        client: None,
        times: Vec::new(),
    }
}

fn decided(decision: &Decision) -> Decided {
    let bare = decision.source.is_none() && !decision.words.contains(':') && !decision.chain.is_empty();
    Decided {
        words: if bare { format!("{}, chain {}", decision.words, decision.chain) } else { decision.words.clone() },
        rule: decision.source.as_ref().map(|source| source.id.clone()),
        origin: decision.source.as_ref().map(|source| source.origin.clone()),
    }
}

fn waymark(step: &Step) -> Waymark {
    Waymark {
        hook: words::hook(step.hook),
        chain: step.chain.clone(),
        words: step.words.clone(),
        rule: step.source.as_ref().map(|source| source.id.clone()),
        origin: step.source.as_ref().map(|source| source.origin.clone()),
    }
}
