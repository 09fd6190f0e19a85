//! One packet's way through the base chains of a hook.

use super::matching::{element, masked, matches};
use super::packet::{TCP, UDP};
use super::{Decision, Step, View, World};
use crate::ruleset::{BasePolicy, ChainKind, Hook, NatTarget, Part, Reject, Rule, Source, Table, Target, Verdict};

/// How a packet leaves a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    Accept,
    Drop,
    Reject(Reject),
    Nat(Nat),
    /// To the caller's next rule; at the end of a base chain to its policy.
    Return,
}

impl Exit {
    pub fn refuses(self) -> bool {
        matches!(self, Exit::Drop | Exit::Reject(_))
    }
}

/// A translation that a nat chain asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nat {
    Masquerade,
    Snat(NatTarget),
    Dnat(NatTarget),
    Redirect(Option<u16>),
}

/// What the whole hook said: a verdict with the rule that gave it, and the translations on the way.
pub struct Passage {
    pub exit: Exit,
    pub decision: Option<Decision>,
}

/// Runs every base chain of the hook, lowest priority first. A drop ends it; an accept ends only its own chain.
pub fn hook(world: &World, hook: Hook, view: &mut View, trace: &mut Vec<Step>, mut nat: impl FnMut(&mut View, Nat)) -> Passage {
    let mut last = None;
    for (table, name, base) in world.base_chains(hook) {
        // Only the first packet of a tracked connection is translated (nf_nat_inet_fn).
        if base.kind == ChainKind::Nat && !view.tracked() {
            continue;
        }
        let mut walk = Walk { world, hook, table, trace, decided: None };
        let exit = walk.chain(name, view, 0);
        let decided = walk.decided.take();
        match exit {
            Exit::Nat(wanted) => nat(view, wanted),
            Exit::Drop | Exit::Reject(_) => return Passage { exit, decision: decided },
            Exit::Return if base.policy == BasePolicy::Drop => {
                let decision = Decision {
                    hook,
                    chain: name.to_owned(),
                    source: None,
                    words: format!("no rule permits it: policy drop of chain {name}"),
                };
                return Passage { exit: Exit::Drop, decision: Some(decision) };
            }
            Exit::Accept => last = decided.or(last),
            Exit::Return => {}
        }
    }
    Passage { exit: Exit::Accept, decision: last }
}

struct Walk<'a, 't> {
    world: &'a World<'a>,
    hook: Hook,
    table: &'a Table,
    trace: &'t mut Vec<Step>,
    decided: Option<Decision>,
}

/// The kernel allows 16 nested jumps (NFT_JUMP_STACK_SIZE).
const DEEPEST: usize = 16;

impl Walk<'_, '_> {
    fn chain(&mut self, name: &str, view: &mut View, depth: usize) -> Exit {
        let Some(chain) = self.table.chains.get(name).filter(|_| depth <= DEEPEST) else { return Exit::Drop };
        let mut passed = 0;
        for rule in &chain.rules {
            match self.rule(name, rule, view, depth) {
                None => passed += 1,
                Some(Exit::Return) => {
                    self.passed_over(name, passed);
                    return Exit::Return;
                }
                Some(exit) => return exit,
            }
        }
        self.passed_over(name, passed);
        Exit::Return
    }

    fn passed_over(&mut self, chain: &str, rules: usize) {
        if rules > 0 {
            let words = format!("{rules} rule{} did not decide", if rules == 1 { "" } else { "s" });
            self.trace.push(Step { hook: self.hook, chain: chain.to_owned(), source: None, words });
        }
    }

    /// None: go on with the next rule.
    fn rule(&mut self, chain: &str, rule: &Rule, view: &mut View, depth: usize) -> Option<Exit> {
        for part in &rule.parts {
            match part {
                Part::Match { field, op, to } if !matches(view, *field, *op, to) => return None,
                Part::Masked { field, mask, op, value } if !masked(view, *field, *mask, *op, *value) => return None,
                Part::InSet { fields, negate, set } => {
                    let present = match self.world.schedules.get(set.as_str()) {
                        Some(open) => {
                            view.asked.insert(set.clone());
                            *open
                        }
                        None if self.table.sets.get(set)?.timeout => self.world.permits,
                        None => element(view, fields, &self.table.sets.get(set)?.elements)?.is_some(),
                    };
                    if present == *negate {
                        return None;
                    }
                }
                Part::VerdictMap { fields, map } => {
                    let found = element(view, fields, &self.table.sets.get(map)?.elements)??;
                    let Some(Target::Verdict(verdict)) = &found.to else { return None };
                    return self.verdict(chain, verdict, found.source.as_ref(), rule, view, depth);
                }
                // Explained and proved within the rate; `over` is the other side of it.
                Part::Limit { over: true, .. } => return None,
                Part::SetMark { mask, value } => view.mark = view.mark & !mask | value,
                Part::SetCtMark { mask, value } if view.tracked() => view.ct_mark = view.ct_mark & !mask | value,
                Part::MarkFromMap { fields, map } => {
                    let Some(Target::Mark(mark)) = element(view, fields, &self.table.sets.get(map)?.elements)??.to else { return None };
                    view.mark = mark;
                }
                Part::CtMarkFromMark { mask } if view.tracked() => view.ct_mark = view.mark & mask,
                Part::Tproxy { .. } if !self.world.listens || !matches!(view.transport.protocol, TCP | UDP) => return None,
                Part::Masquerade => return self.nat(chain, rule, Nat::Masquerade),
                Part::Snat { to } => return self.nat(chain, rule, Nat::Snat(*to)),
                Part::Dnat { to } => return self.nat(chain, rule, Nat::Dnat(*to)),
                Part::Redirect { port } => return self.nat(chain, rule, Nat::Redirect(*port)),
                Part::Reject(kind) => {
                    self.decide(chain, rule.source.as_ref(), rule, "reject");
                    return Some(Exit::Reject(*kind));
                }
                Part::Verdict(verdict) => return self.verdict(chain, verdict, rule.source.as_ref(), rule, view, depth),
                Part::Match { .. }
                | Part::Masked { .. }
                | Part::Limit { .. }
                | Part::Counter
                | Part::Log { .. }
                | Part::CtMarkFromMark { .. }
                | Part::Tproxy { .. }
                | Part::SetCtMark { .. } => {}
            }
        }
        None
    }

    fn verdict(
        &mut self,
        chain: &str,
        verdict: &Verdict,
        source: Option<&Source>,
        rule: &Rule,
        view: &mut View,
        depth: usize,
    ) -> Option<Exit> {
        match verdict {
            Verdict::Accept => {
                self.decide(chain, source, rule, "accept");
                Some(Exit::Accept)
            }
            Verdict::Drop => {
                self.decide(chain, source, rule, "drop");
                Some(Exit::Drop)
            }
            Verdict::Return => Some(Exit::Return),
            Verdict::Jump(to) => {
                self.step(chain, source, format!("jump {to}"));
                Some(self.chain(to, view, depth + 1)).filter(|exit| *exit != Exit::Return)
            }
            Verdict::Goto(to) => {
                self.step(chain, source, format!("goto {to}"));
                Some(self.chain(to, view, depth + 1))
            }
        }
    }

    fn nat(&mut self, chain: &str, rule: &Rule, nat: Nat) -> Option<Exit> {
        self.decide(chain, rule.source.as_ref(), rule, nat.verb());
        Some(Exit::Nat(nat))
    }

    fn decide(&mut self, chain: &str, source: Option<&Source>, rule: &Rule, verb: &str) {
        let words = match (&rule.comment, source) {
            (Some(comment), None) => format!("{verb}: {comment}"),
            _ => verb.to_owned(),
        };
        self.step(chain, source, words.clone());
        self.decided = Some(Decision { hook: self.hook, chain: chain.to_owned(), source: source.cloned(), words });
    }

    fn step(&mut self, chain: &str, source: Option<&Source>, words: String) {
        self.trace.push(Step { hook: self.hook, chain: chain.to_owned(), source: source.cloned(), words });
    }
}

impl Nat {
    pub fn verb(self) -> &'static str {
        match self {
            Nat::Masquerade => "masquerade",
            Nat::Snat(_) => "snat",
            Nat::Dnat(_) => "dnat",
            Nat::Redirect(_) => "redirect",
        }
    }
}
