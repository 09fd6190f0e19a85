//! Assertions, proved over the whole packet space of the compiled plan.
//!
//! *never*: no new connection that matches the assertion, as sent or as translated, ends in one of its `to` zones.
//! *always*: every honest new connection (a SYN, an echo request; from an address that may live behind its port) that matches as sent,
//! and that is addressed to or headed for a `to` zone, gets there while it keeps to rate limits.
//! Both hold at every time of the week. What the forwarder carries is not what they speak of.
//!
//! Built in, for every plan: no packet of a mapped client, and none out of a proxied zone, can be forwarded ([`mapped`]).

mod example;
mod mapped;
mod terms;
mod week;

use std::fmt;

use serde::Serialize;

use crate::check::Checked;
use crate::explain::Explanation;
use crate::model::{Assertion, Expectation, Resource};
use crate::plan::Plan;
use crate::simulate::World;
use crate::simulate::conntrack::NEW;
use crate::source::Origin;
use crate::space::flow::{Flow, within_limits};
use crate::space::{IIF, OIF, Set, Space, openers};

/// An assertion that does not hold, or that nothing can be said about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// `Assertion/shut`, or the resource that a built-in one is about: `ProxyMapping/desk`.
    pub about: String,
    pub origin: Origin,
    pub reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// `never`, and here is one that gets through.
    GetsThrough(Box<Counterexample>),
    /// `always`, and here is one that does not.
    IsStopped(Box<Counterexample>),
    /// No packet matches the assertion at all, so that it would be true of anything.
    SaysNothing(String),
    /// Its clients have another way out.
    Leaks(mapped::Leak),
    /// The proof would need more memory than a gateway should spend on it.
    TooLarge,
}

/// One packet, and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counterexample {
    pub explanation: Explanation,
    /// `mon 22:00`: a time at which it is so, when not always.
    pub at: Option<String>,
}

pub fn prove(checked: &Checked, plan: &Plan) -> Vec<Failure> {
    prove_in(Space::of(&[plan]), checked, plan)
}

fn prove_in(mut space: Space, checked: &Checked, plan: &Plan) -> Vec<Failure> {
    let leaks = mapped::leaks(&mut space, checked, plan);
    if !leaks.is_empty() {
        return leaks;
    }
    let assertions = &checked.config().assertions;
    if assertions.is_empty() {
        return Vec::new();
    }
    let world = World::of(plan, None);
    let flow = Flow::of(&mut space, &world);
    let mut prover = Prover { checked, plan, space, flow };
    let failures = assertions.iter().filter_map(|(name, resource)| {
        let reason = prover.reason(resource)?;
        Some(Failure { about: format!("Assertion/{name}"), origin: resource.origin.clone(), reason })
    });
    failures.collect()
}

struct Prover<'a> {
    checked: &'a Checked,
    plan: &'a Plan,
    space: Space,
    flow: Flow,
}

impl Prover<'_> {
    fn reason(&mut self, resource: &Resource<Assertion>) -> Option<Reason> {
        let assertion = &resource.spec;
        let subject = self.subject(assertion);
        if let Some(words) = self.nobody(assertion, subject.from, subject.matching) {
            return Some(Reason::SaysNothing(words));
        }
        let reason = match assertion.expect {
            Expectation::Never => self.never(assertion, subject),
            Expectation::Always => self.always(assertion, subject),
        };
        if self.space.bdd.exhausted() { Some(Reason::TooLarge) } else { reason }
    }

    fn never(&mut self, assertion: &Assertion, subject: Subject) -> Option<Reason> {
        let (space, flow) = (&mut self.space, &self.flow);
        let some_time = week::possible(space, self.plan, week::Elements::MayBeMissing);
        let mut bad = Vec::new();
        for stream in flow.permitted.iter().filter(|stream| !stream.carried()) {
            let translated = stream.as_sent(space, subject.matching);
            let either = space.bdd.or(subject.matching, translated);
            bad.push(space.and(&[stream.set, subject.from, subject.to, flow.facts.state(NEW), some_time, either]));
        }
        let bad = space.bdd.any(&bad);
        let found = example::of(&mut self.space, self.plan, assertion, bad)?;
        Some(Reason::GetsThrough(Box::new(found)))
    }

    fn always(&mut self, assertion: &Assertion, subject: Subject) -> Option<Reason> {
        let (space, flow) = (&mut self.space, &self.flow);
        let some_time = week::possible(space, self.plan, week::Elements::ArePresent);
        let honest = terms::honest(space, self.plan, &flow.facts);
        let openers = openers(space, &flow.facts);
        let matching = space.and(&[subject.matching, subject.from, openers, honest, flow.facts.possible, flow.admitted, some_time]);
        let matching = space.bdd.minus(matching, flow.odd);
        let matching = within_limits(space, matching);

        // What is translated has two egresses: the one it was addressed to, and the one it ends at. It counts with either.
        let (mut translated, mut arrived, mut headed) = (Vec::new(), Vec::new(), Vec::new());
        let mut plain = Vec::new();
        for stream in flow.headed.iter().filter(|stream| stream.translated()) {
            let there = space.bdd.and(stream.set, subject.to);
            headed.push(space.forget(there, OIF, crate::space::IPV6));
            translated.push(space.forget(stream.set, OIF, crate::space::IPV6));
        }
        for stream in &flow.permitted {
            let there = space.bdd.and(stream.set, subject.to);
            let there = within_limits(space, there);
            if stream.translated() { arrived.push(space.forget(there, OIF, crate::space::IPV6)) } else { plain.push(there) }
        }
        let [translated, arrived, headed, plain] = [translated, arrived, headed, plain].map(|sets| space.bdd.any(&sets));
        let addressed = space.and(&[matching, flow.routes_as_sent, subject.to]);
        let direct = space.bdd.minus(addressed, translated);
        let anyhow = space.forget(addressed, OIF, crate::space::IPV6);
        let anyhow = space.bdd.or(anyhow, headed);
        let redirected = space.and(&[matching, translated, anyhow]);
        if direct.is_empty() && redirected.is_empty() && !space.bdd.exhausted() {
            let words =
                "no such connection exists: the sources do not live behind these zones, or no route leads to the destinations there";
            return Some(Reason::SaysNothing(words.to_owned()));
        }
        let direct = space.bdd.minus(direct, plain);
        let redirected = space.bdd.minus(redirected, arrived);
        let bad = space.bdd.or(direct, redirected);
        let found = example::of(&mut self.space, self.plan, assertion, bad)?;
        Some(Reason::IsStopped(Box::new(found)))
    }

    /// Why the assertion would be true of any plan.
    fn nobody(&mut self, assertion: &Assertion, from: Set, matching: Set) -> Option<String> {
        for (field, terms) in [("from", &assertion.from), ("to", &assertion.to)] {
            if terms::ports(self.plan, terms).is_empty() && !terms::holds_box(terms) {
                return Some(format!("the zones in `{field}` have no interface; give one of them an interface, or remove the assertion"));
            }
        }
        let (space, facts) = (&mut self.space, &self.flow.facts);
        let all = space.and(&[from, matching, facts.possible, facts.state(NEW)]);
        let nothing = all.is_empty() && !space.bdd.exhausted();
        nothing.then(|| "no new connection matches its sources, destinations and services together".to_owned())
    }
}

/// What an assertion speaks of.
#[derive(Debug, Clone, Copy)]
struct Subject {
    from: Set,
    to: Set,
    /// Sources, destinations and services.
    matching: Set,
}

impl Prover<'_> {
    fn subject(&mut self, assertion: &Assertion) -> Subject {
        let space = &mut self.space;
        let sources = terms::addresses(space, self.checked, crate::space::SOURCE, &assertion.sources);
        let destinations = terms::addresses(space, self.checked, crate::space::DESTINATION, &assertion.destinations);
        let services = terms::services(space, self.checked, &assertion.services);
        Subject {
            from: terms::zones(space, self.plan, IIF, &assertion.from),
            to: terms::zones(space, self.plan, OIF, &assertion.to),
            matching: space.and(&[sources, destinations, services]),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::GetsThrough(found) => write!(f, "says never, but {found}"),
            Reason::IsStopped(found) => write!(f, "says always, but {found}"),
            Reason::SaysNothing(words) => write!(f, "says nothing: {words}"),
            Reason::Leaks(leak) => leak.fmt(f),
            Reason::TooLarge => f.write_str(
                "cannot be proved: the policy has too many different combinations of addresses and services for the memory of a gateway; \
                 use prefixes instead of single addresses, or remove the assertion",
            ),
        }
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let explanation = &self.explanation;
        write!(f, "{} enters {} and ", explanation.packet, explanation.enters)?;
        if let Some(at) = &self.at {
            write!(f, "at {at} ")?;
        }
        for translated in explanation.translations.iter().filter(|translated| translated.what == "destination") {
            write!(f, "becomes {} by {} and ", translated.after, translated.by)?;
        }
        match (explanation.verdict, &explanation.leaves) {
            ("accepted", Some(leaves)) => write!(f, "reaches {leaves}: {}", explanation.decided),
            (verdict, Some(leaves)) => write!(f, "is {verdict} on its way to {leaves}: {}", explanation.decided),
            (verdict, None) => write!(f, "is {verdict}: {}", explanation.decided),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;

    /// A proof without enough memory must neither pass nor fail for a made-up reason.
    #[test]
    fn what_does_not_fit_is_said_to_be_too_large() {
        let base = include_str!("../../cases/base.yaml");
        let assertion =
            "apiVersion: portcullis/v1\nkind: Assertion\nmetadata: { name: shut }\nspec: { from: guest, to: lan, expect: never }\n";
        let checked = crate::load(&Sources::single("a.yaml", format!("{base}\n---\n{assertion}"))).unwrap();
        let plan = crate::compile(&checked);
        assert_eq!(prove(&checked, &plan), []);
        let ports: Vec<_> = plan.links.keys().cloned().collect();
        let mut answers = std::collections::BTreeSet::new();
        for nodes in (100..20_000).step_by(450) {
            let failures = prove_in(Space::with_limit(ports.clone(), nodes), &checked, &plan);
            answers.insert(failures.into_iter().map(|failure| format!("{:?}", failure.reason)).collect::<String>());
        }
        assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["", "TooLarge"]);
    }
}
