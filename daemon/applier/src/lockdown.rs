//! What stands when nothing else may: compiled in, so that it needs no file, no policy and no disk.

use std::collections::{BTreeMap, BTreeSet};

use policy::Plan;
use policy::plan::{RouteAction, RouteRule, RouteSelector};
use policy::ruleset::{
    Base, BasePolicy, Chain, ChainKind, Datum, Field, FixedName, Hook, Op, Operand, Part, Rule, Ruleset, Span, Table, Verdict,
};

/// Loopback and nothing else, in any direction; no forwarding.
///
/// The same table as every policy's, so that each replaces the other in one batch, without a moment in between.
pub fn plan() -> Plan {
    let chains = BTreeMap::from([
        ("input".to_owned(), chain(Hook::Input, vec![loopback(Field::IifName)])),
        ("forward".to_owned(), chain(Hook::Forward, vec![])),
        ("output".to_owned(), chain(Hook::Output, vec![loopback(Field::OifName)])),
    ]);
    let table = Table { name: TABLE.into(), owned: true, sets: BTreeMap::new(), chains };
    Plan {
        ruleset: Ruleset { tables: vec![table] },
        route_rules: route_rules(),
        sysctls: FORWARDING.iter().map(|key| ((*key).to_owned(), "0".to_owned())).collect(),
        ..Plan::default()
    }
}

pub const TABLE: &str = "portcullis";
const FORWARDING: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];

/// Ends in a rule that drops: a policy alone takes effect a moment too late when a ruleset is replaced (see kernel::nft).
fn chain(hook: Hook, mut rules: Vec<Rule>) -> Chain {
    rules.push(Rule::of([Part::Verdict(Verdict::Drop)]).because("lockdown"));
    Chain { base: Some(Base { kind: ChainKind::Filter, hook, priority: 0, policy: BasePolicy::Drop }), rules }
}

fn loopback(field: Field) -> Rule {
    let mut name = [0; 16];
    name[..2].copy_from_slice(b"lo");
    let to = Operand::One(Span::One(Datum::Interface(FixedName(name))));
    Rule::of([Part::Match { field, op: Op::Eq, to }, Part::Verdict(Verdict::Accept)]).because("lockdown")
}

/// Nothing sets the mark, so nothing is forwarded even without the table.
fn route_rules() -> BTreeSet<RouteRule> {
    BTreeSet::from([
        RouteRule { preference: 50, selector: RouteSelector::FromBox, action: RouteAction::Main },
        RouteRule { preference: 100, selector: RouteSelector::WithoutMark { mask: 1, value: 1 }, action: RouteAction::Unreachable },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The image loads lockdown with nft before any process of ours runs. `UPDATE=1` writes the file anew.
    #[test]
    fn the_image_carries_the_same_lockdown_as_text() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rootfs-overlay/usr/lib/portcullis/lockdown.nft");
        let head = "# Loopback and nothing else. Written by `UPDATE=1 cargo test -p applier lockdown`; the applier carries the same, compiled in.\n";
        let text = format!("{head}{}", plan().ruleset.script());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    }
}
