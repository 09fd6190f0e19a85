//! One firewall rule, in the kernel's terms.

use crate::model::{Action, FirewallRule, LogSpec, Protocol, RateLimit};
use crate::ruleset::{Chain, Part, Reject, Rule, Source, Verdict};

use super::matches::{Conjunction, Terms, conjunctions};
use super::services::{Grain, protocol_part};
use super::{Context, LOG_GROUP, schedules};

/// Where the zones of the rule have been dealt with by the chain that it stands in.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    pub rules: Vec<Rule>,
    /// A rate limit holds for the rule as a whole, so however many kernel rules and zones it takes, one chain counts.
    pub chain: Option<(String, Chain)>,
}

pub fn compile(context: &Context<'_>, source: &Source, rule: &FirewallRule) -> Compiled {
    let terms = Terms { family: None, sources: &rule.sources, destinations: &rule.destinations, services: &rule.services };
    let grain = if rule.action == Action::Reject { Grain::TcpAlone } else { Grain::Shared };
    let conjunctions = conjunctions(context.config, context.addresses, terms, grain);
    let schedule = rule.schedule.as_ref().map(|schedule| schedules::part(schedule, rule.action));
    let named = Named { source, comment: comment(&source.id, rule.comment.as_deref()) };

    let limited = rule.rate_limit.filter(|_| rule.action == Action::Accept && !conjunctions.is_empty());
    let chain = limited.map(|limit| (format!("rate_{}", source.id), rate_chain(source, rule, limit)));

    let mut rules = Vec::new();
    for mut conjunction in conjunctions {
        conjunction.parts.extend(schedule.clone());
        match (&chain, rule.action) {
            (Some((chain, _)), _) => rules.push(named.rule(&conjunction, [Part::Verdict(Verdict::Goto(chain.clone()))])),
            (None, Action::Accept) => rules.push(named.rule(&conjunction, tail(source, rule, Part::Verdict(Verdict::Accept)))),
            (None, Action::Drop) => rules.push(named.rule(&conjunction, tail(source, rule, Part::Verdict(Verdict::Drop)))),
            (None, Action::Reject) => {
                rules.extend(
                    rejections(conjunction).into_iter().map(|(part, how)| named.rule(&part, tail(source, rule, Part::Reject(how)))),
                );
            }
        }
    }
    Compiled { rules, chain }
}

struct Named<'a> {
    source: &'a Source,
    comment: String,
}

impl Named<'_> {
    fn rule(&self, conjunction: &Conjunction, tail: impl IntoIterator<Item = Part>) -> Rule {
        let parts = conjunction.parts.iter().cloned().chain(tail).collect();
        Rule { parts, source: Some(self.source.clone()), comment: Some(self.comment.clone()) }
    }
}

/// What happens to a packet that matched.
fn tail(source: &Source, rule: &FirewallRule, last: Part) -> Vec<Part> {
    let log = rule.log.as_ref().map(|log| log_part(source, log));
    log.into_iter().chain(rule.counter.then_some(Part::Counter)).chain([last]).collect()
}

fn log_part(source: &Source, log: &LogSpec) -> Part {
    let prefix = match &log.prefix {
        Some(prefix) => format!("{} {prefix}", source.id),
        None => source.id.clone(),
    };
    Part::Log { prefix, group: Some(LOG_GROUP) }
}

/// Within the rate the packet is let through; what comes beyond is dropped and counted apart.
fn rate_chain(source: &Source, rule: &FirewallRule, limit: RateLimit) -> Chain {
    let mut within = vec![Part::Limit { per: limit.per, rate: limit.rate, burst: limit.burst, over: false }];
    within.extend(tail(source, rule, Part::Verdict(Verdict::Accept)));
    let beyond = Source { id: format!("{}/over-rate", source.id), origin: source.origin.clone() };
    let counter = rule.counter.then_some(Part::Counter);
    Chain {
        base: None,
        rules: vec![
            Rule { parts: within, source: Some(source.clone()), comment: Some(source.id.clone()) },
            Rule {
                parts: counter.into_iter().chain([Part::Verdict(Verdict::Drop)]).collect(),
                comment: Some(beyond.id.clone()),
                source: Some(beyond),
            },
        ],
    }
}

/// A TCP connection is refused by a reset, as a closed port would; everything else by ICMP.
fn rejections(conjunction: Conjunction) -> Vec<(Conjunction, Reject)> {
    match conjunction.protocols.as_slice() {
        [Protocol::TCP] => vec![(conjunction, Reject::TcpReset)],
        [] => {
            let mut tcp = conjunction.clone();
            tcp.parts.push(protocol_part(&[Protocol::TCP]));
            vec![(tcp, Reject::TcpReset), (conjunction, Reject::AdminProhibited)]
        }
        _ => vec![(conjunction, Reject::AdminProhibited)],
    }
}

/// The rule's id, so that `nft list ruleset` can be read, and what its author said about it; the kernel keeps 127 bytes.
pub fn comment(id: &str, said: Option<&str>) -> String {
    let mut text = said.map_or_else(|| id.to_owned(), |said| format!("{id}: {said}"));
    let end = (0..=text.len().min(127)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}
