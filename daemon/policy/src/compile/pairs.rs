//! The firewall's rules, sorted into one chain for each pair of zones.
//!
//! A packet is compared only with rules between its own two zones. Pairs that have exactly the same rules share a
//! chain; a run of rules that several chains have in common stands once and is called by each, so that the whole
//! grows with the number of rules and not with rules times zones.

use std::collections::{BTreeMap, BTreeSet};

use crate::ruleset::{Chain, Part, Rule, Verdict};

use super::zones::End;
use super::{Context, Fragment, collapse, rules};

/// From where to where.
pub type Pair<'a> = (End<'a>, End<'a>);

pub struct Pairs<'a> {
    /// The chain that decides; a pair without one has no rules, so nothing passes.
    pub chain_of: BTreeMap<Pair<'a>, String>,
    pub fragment: Fragment,
}

/// Consecutive rules between the same zones.
struct Segment {
    combination: usize,
    first_id: String,
    rules: Vec<Rule>,
    policy_rules: usize,
}

/// A run this long is worth a chain of its own when several pairs have it.
const WORTH_SHARING: usize = 4;

/// Bytes of a chain's name that lists zones. One pair of zones takes up to 85.
const READABLE: usize = 60;

pub fn chains<'a>(context: &Context<'a>) -> Pairs<'a> {
    let mut fragment = Fragment::default();
    let combinations = combinations(context);
    let classes = classes(&combinations.pairs);

    let mut segments: Vec<Segment> = Vec::new();
    let mut order: Vec<Vec<usize>> = vec![Vec::new(); classes.len()];
    let members = members(&classes, combinations.pairs.len());
    for ((source, rule), combination) in context.firewall_rules().zip(combinations.of_rule) {
        let touched = &members[combination];
        let Some(first) = touched.first() else { continue };
        let compiled = rules::compile(context, &source, &rule.value);
        fragment.chains.extend(compiled.chain);
        // The rule may join a segment only if none of its pairs has seen another rule since.
        let open = order[*first]
            .last()
            .copied()
            .filter(|last| segments[*last].combination == combination && touched.iter().all(|class| order[*class].last() == Some(last)));
        match open {
            Some(segment) => {
                segments[segment].rules.extend(compiled.rules);
                segments[segment].policy_rules += 1;
            }
            None => {
                touched.iter().for_each(|class| order[*class].push(segments.len()));
                segments.push(Segment { combination, first_id: source.id, rules: compiled.rules, policy_rules: 1 });
            }
        }
    }

    let mut stands_in: Vec<Vec<Rule>> = Vec::new();
    for segment in segments {
        let shared = members[segment.combination].len() > 1 && segment.rules.len() >= WORTH_SHARING;
        stands_in.push(if shared {
            let name = format!("shared_{}", segment.first_id);
            let call = Rule::of([Part::Verdict(Verdict::Jump(name.clone()))]).because(count(segment.policy_rules));
            add_chain(&mut fragment, name, segment.rules);
            vec![call]
        } else {
            segment.rules
        });
    }

    let mut chain_of = BTreeMap::new();
    for (class, order) in classes.iter().zip(order) {
        let name = class_name(context, &class.pairs);
        let rules = order.iter().flat_map(|segment| stands_in[*segment].iter().cloned()).collect();
        add_chain(&mut fragment, name.clone(), rules);
        chain_of.extend(class.pairs.iter().map(|pair| (*pair, name.clone())));
    }
    Pairs { chain_of, fragment }
}

/// For the comment of a rule that stands for others.
pub fn count(rules: usize) -> String {
    if rules == 1 { "1 rule".to_owned() } else { format!("{rules} rules") }
}

fn add_chain(fragment: &mut Fragment, name: String, rules: Vec<Rule>) {
    let rules = collapse::collapse(&name, rules, &mut fragment.sets);
    fragment.chains.insert(name, Chain { base: None, rules });
}

/// The different `from` and `to` lists that rules have, each with its pairs. There are few, however many rules there are.
struct Combinations<'a> {
    pairs: Vec<BTreeSet<Pair<'a>>>,
    /// Of each enabled rule in turn.
    of_rule: Vec<usize>,
}

fn combinations<'a>(context: &Context<'a>) -> Combinations<'a> {
    let mut known: BTreeMap<(Vec<End<'a>>, Vec<End<'a>>), usize> = BTreeMap::new();
    let (mut pairs, mut of_rule) = (Vec::new(), Vec::new());
    for (_, rule) in context.firewall_rules() {
        let ends = (context.zones.ends(&rule.value.from), context.zones.ends(&rule.value.to));
        let index = *known.entry(ends).or_insert_with_key(|(from, to)| {
            let product = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
            pairs.push(product.filter(|pair| *pair != (End::Box, End::Box)).collect());
            pairs.len() - 1
        });
        of_rule.push(index);
    }
    Combinations { pairs, of_rule }
}

/// Pairs of one hook to which the same combinations apply, and so exactly the same rules.
struct Class<'a> {
    combinations: Vec<usize>,
    pairs: Vec<Pair<'a>>,
}

fn classes<'a>(combinations: &[BTreeSet<Pair<'a>>]) -> Vec<Class<'a>> {
    let mut of_pair: BTreeMap<Pair<'a>, Vec<usize>> = BTreeMap::new();
    for (index, pairs) in combinations.iter().enumerate() {
        pairs.iter().for_each(|pair| of_pair.entry(*pair).or_default().push(index));
    }
    let mut classes: BTreeMap<(&str, Vec<usize>), Vec<Pair<'a>>> = BTreeMap::new();
    for (pair, combinations) in of_pair {
        classes.entry((prefix(pair), combinations)).or_default().push(pair);
    }
    classes
        .into_iter()
        .flat_map(|((_, combinations), pairs)| products(pairs).map(move |pairs| Class { combinations: combinations.clone(), pairs }))
        .collect()
}

/// A chain is named for where its packets come from and where they go to. Pairs for which that cannot be said in one
/// sentence are told apart by where they come from.
fn products(pairs: Vec<Pair<'_>>) -> impl Iterator<Item = Vec<Pair<'_>>> {
    let (from, to) = ends_of(&pairs);
    let groups = if from.len() * to.len() == pairs.len() {
        vec![pairs]
    } else {
        from.into_iter().map(|from| pairs.iter().filter(|pair| pair.0 == from).copied().collect()).collect()
    };
    groups.into_iter()
}

fn ends_of<'a>(pairs: &[Pair<'a>]) -> (BTreeSet<End<'a>>, BTreeSet<End<'a>>) {
    (pairs.iter().map(|pair| pair.0).collect(), pairs.iter().map(|pair| pair.1).collect())
}

/// The classes to which each combination applies.
fn members(classes: &[Class<'_>], combinations: usize) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); combinations];
    for (index, class) in classes.iter().enumerate() {
        class.combinations.iter().for_each(|combination| members[*combination].push(index));
    }
    members
}

fn prefix(pair: Pair<'_>) -> &'static str {
    match pair {
        (End::Box, _) => "out",
        (_, End::Box) => "in",
        _ => "fwd",
    }
}

/// `fwd_lan_wan`, `in_guest`, `out_wan`; where pairs share it `fwd_guest.lan_wan`, `fwd_any_wan`. Names of zones hold
/// neither dots nor underscores.
fn class_name(context: &Context<'_>, pairs: &[Pair<'_>]) -> String {
    let named = |pairs: &[Pair<'_>]| {
        let (from, to) = ends_of(pairs);
        let ends: Vec<String> = [from, to].iter().filter(|ends| !ends.contains(&End::Box)).map(|ends| ends_name(context, ends)).collect();
        format!("{}_{}", prefix(pairs[0]), ends.join("_"))
    };
    let name = named(pairs);
    // Where the list gets too long to read (and for the kernel, which takes 127 bytes), the first pair stands for all; no
    // other chain has it.
    if pairs.len() == 1 || name.len() <= READABLE { name } else { format!("{}_and_more", named(&pairs[..1])) }
}

fn ends_name(context: &Context<'_>, ends: &BTreeSet<End<'_>>) -> String {
    if ends.len() > 1 && ends.len() == context.zones.ports.len() {
        return "any".to_owned();
    }
    let names = ends.iter().map(|end| match end {
        End::Box => "box",
        End::Zone(name) => name.as_str(),
    });
    names.collect::<Vec<_>>().join(".")
}
