//! Names, comments and prefixes stay within what the kernel keeps, however long the policy's own names are, and a plan's
//! digest speaks of the box alone.

use policy::ruleset::{Part, Ruleset, Verdict};
use policy::{Plan, Sources, compile, load};

/// NFT_NAME_MAXLEN is 256, but older tools cut chain names at 127.
const LONGEST: usize = 127;

#[test]
fn twenty_zones_with_the_longest_names_fit_the_kernel() {
    let zones: Vec<String> = (0..20).map(|at| format!("zone-{at:02}-{}", "x".repeat(32))).collect();
    let mut text = format!("{SYSTEM}\nspec: {{ hostname: gate, admin: {{ zones: {} }} }}\n", zones[0]);
    for (at, zone) in zones.iter().enumerate() {
        text += &format!("---\napiVersion: portcullis/v1\nkind: Zone\nmetadata: {{ name: {zone} }}\nspec: {{}}\n");
        let spec = format!("{{ zone: {zone}, addresses: [10.{at}.0.1/24] }}");
        text += &format!("---\napiVersion: portcullis/v1\nkind: Interface\nmetadata: {{ name: interface-{at:05} }}\nspec: {spec}\n");
    }
    let long = "r".repeat(40);
    text += &format!("---\napiVersion: portcullis/v1\nkind: FirewallPolicy\nmetadata: {{ name: {long} }}\nspec:\n  rules:\n");
    let said = "ü".repeat(200);
    for at in 0..12 {
        let (from, to) = (zones[at..at + 7].join(", "), zones[..at + 3].join(", "));
        let log = "log: { prefix: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa }, rateLimit: 5/second burst 5";
        let rule = format!("action: accept, services: [tcp/{}], {log}, comment: {said}", at + 1);
        text += &format!("    - {{ name: {}-{at:02}, from: [{from}], to: [{to}], {rule} }}\n", &long[..37]);
        text += &format!("    - {{ name: {}-{at:02}, from: any, to: any, services: tcp/{}, action: reject }}\n", "q".repeat(37), at + 100);
        text +=
            &format!("    - {{ name: {}-{at:02}, from: [{from}], to: any, services: udp/{}, action: drop }}\n", "s".repeat(37), at + 100);
    }
    let ruleset = compiled(&text).ruleset;
    let names = names(&ruleset);
    assert!(names.iter().any(|name| name.ends_with("_and_more")), "the longest names did not arise");
    for name in names {
        assert!(name.len() <= LONGEST, "{} bytes: {name}", name.len());
    }
}

/// Every name and text that the kernel is given.
fn names(ruleset: &Ruleset) -> Vec<String> {
    let mut names = Vec::new();
    for table in &ruleset.tables {
        names.extend(table.sets.keys().chain(table.chains.keys()).cloned());
        let elements = table.sets.values().flat_map(|set| &set.elements);
        names.extend(elements.filter_map(|element| element.source.as_ref()).map(|source| source.id.clone()));
        names.extend(table.sets.values().filter_map(|set| set.comment.clone()));
        for rule in table.chains.values().flat_map(|chain| &chain.rules) {
            names.extend(rule.comment.clone());
            for part in &rule.parts {
                match part {
                    Part::Log { prefix, .. } => names.push(prefix.clone()),
                    Part::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => {
                        assert!(table.chains.contains_key(chain), "no chain {chain}");
                    }
                    Part::InSet { set, .. } => assert!(table.sets.contains_key(set), "no set {set}"),
                    Part::VerdictMap { map, .. } => assert!(table.sets.contains_key(map), "no map {map}"),
                    _ => {}
                }
            }
        }
    }
    names
}

#[test]
fn moving_a_rule_in_its_file_changes_nothing() {
    let text = include_str!("../cases/base.yaml");
    let rules = r#"
---
apiVersion: portcullis/v1
kind: FirewallPolicy
metadata: { name: out }
spec:
  rules:
    - { name: web, from: lan, to: wan, services: https, action: accept }
"#;
    let plan = compiled(&format!("{text}{rules}"));
    let moved = compiled(&format!("# A comment more.\n\n{text}{}", rules.replace("rules:\n", "rules:\n    # why\n\n")));
    assert_eq!(plan.to_string(), moved.to_string());
    assert_eq!(plan.digest(), moved.digest());
    let renamed = compiled(&format!("{text}{}", rules.replace("name: web", "name: www")));
    assert_ne!(plan.digest(), renamed.digest(), "a rule's name stands in the plan");
}

const SYSTEM: &str = "apiVersion: portcullis/v1\nkind: System\nmetadata: { name: gate }";

fn compiled(text: &str) -> Plan {
    let checked = load(&Sources::single("config.yaml", text)).unwrap_or_else(|problems| panic!("{problems}"));
    compile(&checked)
}
