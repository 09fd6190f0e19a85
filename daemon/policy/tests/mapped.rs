//! Mapped clients have no way out but the forwarder, in whatever policy, and the built-in proof sees it when they have.

mod random;

use std::net::IpAddr;

use policy::compile::proxy::{CAPTURED, MAPPING};
use policy::plan::Plan;
use policy::plan::proxy::Proxy;
use policy::prove::Reason;
use policy::ruleset::{Chain, Field, Part};
use policy::simulate::{Egress, Ingress, Packet, Verdict, World};
use policy::{Checked, Sources, compile, load, prove};
use random::{Random, packets, policies};

#[test]
fn no_packet_of_a_mapped_client_is_forwarded_in_any_policy() {
    let (mut plans, mut mapped, mut carried) = (0, 0, 0);
    for seed in 1000..1060 {
        let mut random = Random::seeded(seed);
        let text = policies::policy(&mut random);
        let checked = match load(&Sources::single("random.yaml", text)) {
            Ok(checked) => checked,
            Err(problems) => {
                println!("seed {seed} refused: {problems}");
                continue;
            }
        };
        let plan = compile(&checked);
        if plan.proxy.mappings.is_empty() {
            continue;
        }
        plans += 1;
        assert_eq!(prove(&checked, &plan), [], "seed {seed}");
        let mut world = World::of(&plan, Some(0));
        for round in 0..400 {
            (world.permits, world.listens) = (round % 3 != 0, round % 7 != 0);
            let packet = packets::packet(&mut random);
            if !is_mapped(&plan.proxy, &packet) {
                continue;
            }
            let outcome = world.run(&packet);
            let passed = outcome.verdict == Verdict::Accepted;
            mapped += 1;
            assert!(!passed || outcome.to == Some(Egress::Box), "seed {seed}: forwarded\n{packet:?}\n{outcome:#?}");
            let for_the_forwarder = outcome.decision.words == "accept: to the forwarder";
            assert!(world.permits || !for_the_forwarder, "seed {seed}: carried without a permit\n{packet:?}\n{outcome:#?}");
            carried += usize::from(for_the_forwarder);
        }
    }
    println!("{plans} policies, {mapped} packets of mapped clients, {carried} carried");
    assert!(plans >= 20 && mapped > 1000 && carried > 100);
}

fn is_mapped(proxy: &Proxy, packet: &Packet) -> bool {
    let mac = packet.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
    let holds = |source: IpAddr| proxy.mappings.values().any(|mapping| mapping.clients.iter().any(|net| net.contains(&source)));
    let is_named = mac.is_some_and(|mac| proxy.mappings.values().any(|mapping| mapping.macs.contains(&mac)));
    matches!(packet.from, Ingress::Interface(_)) && (is_named || holds(packet.source))
}

/// Everything may go everywhere, and two clients are mapped.
const OPEN: &str = include_str!("../cases/base.yaml");
const MAPPED: &str = r#"
---
apiVersion: portcullis/v1
kind: Zone
metadata: { name: cage }
spec: { proxied: true }
---
apiVersion: portcullis/v1
kind: Interface
metadata: { name: cage0 }
spec: { zone: cage, addresses: [192.168.9.1/24] }
---
apiVersion: portcullis/v1
kind: Route
metadata: { name: out }
spec: { destination: default, via: 203.0.113.1 }
---
apiVersion: portcullis/v1
kind: FirewallPolicy
metadata: { name: everything }
spec: { rules: [{ name: goes, from: any, to: any, action: accept }] }
---
apiVersion: portcullis/v1
kind: Upstream
metadata: { name: berlin }
spec: { type: socks5, address: 198.51.100.7, port: 1080 }
---
apiVersion: portcullis/v1
kind: ProxyMapping
metadata: { name: desk }
spec: { clients: [192.168.2.10, "fd00:2::10"], upstream: berlin }
---
apiVersion: portcullis/v1
kind: ProxyMapping
metadata: { name: phone }
spec: { clients: ["02:00:00:00:00:01"], upstream: berlin }
"#;

fn leaks_of(spoil: impl Fn(&mut Plan)) -> Vec<String> {
    let checked: Checked = load(&Sources::single("a.yaml", format!("{OPEN}{MAPPED}"))).unwrap_or_else(|problems| panic!("{problems}"));
    let mut plan = compile(&checked);
    spoil(&mut plan);
    let failures = prove(&checked, &plan);
    failures
        .iter()
        .map(|failure| {
            assert!(matches!(failure.reason, Reason::Leaks(_)), "{failure}");
            failure.about.clone()
        })
        .collect()
}

fn chain<'p>(plan: &'p mut Plan, name: &str) -> &'p mut Chain {
    plan.ruleset.tables[0].chains.get_mut(name).unwrap()
}

fn asks_for_mapping(part: &Part) -> bool {
    matches!(part, Part::Masked { field: Field::Mark, mask: MAPPING, .. })
}

#[test]
fn as_it_is_compiled_nothing_leaks() {
    assert_eq!(leaks_of(|_| {}), Vec::<String>::new());
}

#[test]
fn without_the_first_rule_of_forward_the_proof_finds_every_client() {
    let spoiled = |plan: &mut Plan| chain(plan, "forward").rules.retain(|rule| !rule.parts.iter().any(asks_for_mapping));
    assert_eq!(leaks_of(spoiled), ["ProxyMapping/desk", "ProxyMapping/phone"]);
}

#[test]
fn a_first_rule_of_forward_that_comes_after_known_connections_is_not_enough() {
    let spoiled = |plan: &mut Plan| {
        let rules = &mut chain(plan, "forward").rules;
        let first = rules.remove(0);
        let known = rules.iter().position(|rule| rule.to_string() == "ct state established,related accept").unwrap();
        rules.insert(known + 1, first);
    };
    assert_eq!(leaks_of(spoiled), ["ProxyMapping/desk", "ProxyMapping/phone"]);
}

#[test]
fn a_client_that_the_maps_forget_is_found() {
    let spoiled = |map: &'static str| move |plan: &mut Plan| plan.ruleset.tables[0].sets.get_mut(map).unwrap().elements.clear();
    assert_eq!(leaks_of(spoiled("proxy_clients4")), ["ProxyMapping/desk"]);
    assert_eq!(leaks_of(spoiled("proxy_clients6")), ["ProxyMapping/desk"]);
    assert_eq!(leaks_of(spoiled("proxy_macs")), ["ProxyMapping/phone"]);
}

#[test]
fn a_mark_that_still_lets_in_is_found_although_forward_would_drop() {
    let spoiled = |plan: &mut Plan| {
        let rules = &mut chain(plan, "proxy_mapped").rules;
        rules[0].parts.push(Part::SetMark { mask: policy::compile::LET_IN, value: policy::compile::LET_IN });
    };
    assert_eq!(leaks_of(spoiled), ["ProxyMapping/desk", "ProxyMapping/phone"]);
}

#[test]
fn a_routing_rule_that_leads_captured_packets_on_is_found() {
    let spoiled = |plan: &mut Plan| {
        plan.route_rules.insert(policy::plan::RouteRule {
            preference: 55,
            selector: policy::plan::RouteSelector::Mark { mask: CAPTURED, value: CAPTURED },
            action: policy::plan::RouteAction::Main,
        });
    };
    assert_eq!(leaks_of(spoiled), ["ProxyMapping/desk", "ProxyMapping/phone"]);
}

#[test]
fn a_proxied_zone_that_forward_does_not_close_is_found() {
    let spoiled = |plan: &mut Plan| chain(plan, "forward").rules.retain(|rule| rule.comment.as_deref() != Some("proxy/unmapped"));
    assert_eq!(leaks_of(spoiled), ["Zone/cage"]);
}

#[test]
fn clients_and_mappings_add_elements_and_no_rules() {
    let of = |mappings: usize| {
        let mut text = OPEN.replace("192.168.2.1/24", "10.0.0.1/8") + MAPPED;
        for number in 0..mappings {
            let one = |host: usize| format!("10.1.{number}.{host}, \"fd00:2::{:x}:{host:x}\", ", number + 100);
            let clients = (2..12).map(one).collect::<String>() + &format!("\"02:00:00:00:01:{number:02x}\"");
            text += &format!(
                "---\napiVersion: portcullis/v1\nkind: ProxyMapping\nmetadata: {{ name: m{number} }}\nspec: {{ clients: [{clients}], upstream: berlin }}\n"
            );
        }
        let text = text.replace("192.168.2.10, ", "10.2.0.10, ");
        let checked = load(&Sources::single("a.yaml", text)).unwrap_or_else(|problems| panic!("{problems}"));
        let plan = compile(&checked);
        let begun = std::time::Instant::now();
        assert_eq!(prove(&checked, &plan), []);
        println!("{mappings} mappings proved in {:?}", begun.elapsed());
        plan.ruleset.tables[0].chains.values().map(|chain| chain.rules.len()).sum::<usize>()
    };
    assert_eq!(of(1), of(250));
}
