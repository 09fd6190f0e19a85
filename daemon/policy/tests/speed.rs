//! How long proofs and the diff by meaning take, and how large they get. Figures only mean something when built with `--release`:
//! `cargo test -p policy --release --test speed -- --ignored --nocapture`

mod random;

use std::fmt::Write as _;
use std::time::Duration;

use policy::simulate::World;
use policy::space::Space;
use policy::space::flow::Flow;
use policy::{Plan, Sources, changes, compile, load, prove};
use random::Random;

#[test]
#[ignore = "measures; run it alone and in release"]
fn proofs_do_not_grow_out_of_hand() {
    println!("{:<44} {:>9} {:>9} {:>9} {:>9} {:>10}", "", "compile", "prove", "changes", "(flow)", "nodes");
    measured("1,000 rules, hosts and ports", &hosts(1_000, 0), &hosts(1_000, 1), Duration::from_millis(500));
    measured("1,000 rules, prefixes, ranges, mixed verdicts", &mixed(1_000, 0), &mixed(1_000, 1), Duration::from_millis(1000));
    measured("10,000 rules, hosts and ports", &hosts(10_000, 0), &hosts(10_000, 1), Duration::from_secs(4));
    measured("10,000 rules, prefixes, ranges, mixed verdicts", &mixed(10_000, 0), &mixed(10_000, 1), Duration::from_secs(30));
    measured("a set of 10,000 prefixes", &large_set(10_000, 0), &large_set(10_000, 1), Duration::from_secs(4));
}

fn measured(what: &str, old: &str, new: &str, most: Duration) {
    let load = |text: &str| load(&Sources::single("speed.yaml", text)).unwrap_or_else(|problems| panic!("{what}: {problems}"));
    let (old, new) = (load(old), load(new));
    let (compiled, compiling) = timed(|| compile(&new));
    let before: Plan = compile(&old);
    let (failures, proving) = timed(|| prove(&new, &compiled));
    let too_large = failures.iter().any(|failure| failure.reason == policy::prove::Reason::TooLarge);
    assert!(failures.is_empty() || too_large, "{what}: {}", failures[0]);
    let (difference, comparing) = timed(|| changes(&before, &compiled));
    let mut space = Space::of(&[&compiled]);
    let ((), flowing) = timed(|| drop(Flow::of(&mut space, &World::of(&compiled, None))));
    println!("{what:<44} {:>9.0?} {:>9.0?} {:>9.0?} {:>9.0?} {:>10}", compiling, proving, comparing, flowing, space.bdd.size());
    if too_large || difference.too_large {
        println!("    too large: {}", if too_large { "proof and comparison" } else { "comparison" });
    }
    assert!(proving + comparing < most, "{what}: {proving:?} + {comparing:?} is more than {most:?}");
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let on_processor = || {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts");
        Duration::from_nanos(stat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).expect("nanoseconds"))
    };
    let start = on_processor();
    let done = work();
    (done, on_processor() - start)
}

fn frame(rules: &str, rest: &str) -> String {
    let mut text = String::new();
    let mut document = |kind: &str, name: &str, spec: &str| {
        let _ = write!(text, "apiVersion: portcullis/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {spec}\n---\n");
    };
    document("System", "gate", "{ hostname: gate, admin: { zones: mgmt } }");
    for (at, zone) in ["wan", "lan", "guest", "dmz", "mgmt"].into_iter().enumerate() {
        document("Zone", zone, "{}");
        let spec = format!("{{ zone: {zone}, addresses: [10.{at}.0.1/16, \"fd00:{at}::1/64\"] }}");
        document("Interface", &format!("{zone}0"), &spec);
    }
    document("Route", "default", "{ destination: default, via: 10.0.0.254 }");
    document("Route", "default6", "{ destination: default, via: \"fd00:0::fe\" }");
    for (name, spec) in [
        ("guest-never-mgmt", "{ from: guest, to: mgmt, expect: never }"),
        ("wan-never-box", "{ from: wan, to: box, services: [tcp, udp], expect: never }"),
        ("lan-web", "{ from: lan, to: wan, sources: 10.1.250.0/24, services: https, expect: always }"),
        ("mgmt-pages", "{ from: mgmt, to: box, services: https, expect: always }"),
    ] {
        document("Assertion", name, spec);
    }
    let rules = format!(
        "\n  rules:\n    - {{ name: web, from: lan, to: wan, sources: [10.1.250.0/24, \"fd00:1::/64\"], services: https, action: accept }}\n{rules}"
    );
    document("FirewallPolicy", "all", &rules);
    text + rest
}

const PAIRS: [(&str, &str, u8, u8); 4] = [("lan", "wan", 1, 0), ("lan", "dmz", 1, 3), ("guest", "wan", 2, 0), ("dmz", "wan", 3, 0)];

fn hosts(count: usize, extra: usize) -> String {
    let mut random = Random::seeded(7);
    let mut rules = String::new();
    for at in 0..count {
        let (from, to, a, b) = *random.one(&PAIRS);
        let host = |random: &mut Random, net: u8| format!("10.{net}.{}.{}", random.below(200), 2 + random.below(250));
        let (source, destination) = (host(&mut random, a), host(&mut random, b));
        let (port, action) = (1 + random.below(60_000), *random.one(&["accept", "accept", "drop"]));
        let _ = writeln!(
            rules,
            "    - {{ name: r{at}, from: {from}, to: {to}, sources: {source}, destinations: {destination}, services: tcp/{port}, action: {action} }}"
        );
    }
    frame(&(rules + &one_more(extra)), "")
}

fn one_more(extra: usize) -> String {
    if extra == 0 { String::new() } else { "    - { name: more, from: lan, to: dmz, services: tcp/22, action: accept }\n".to_owned() }
}

fn mixed(count: usize, extra: usize) -> String {
    let mut random = Random::seeded(9);
    let mut rules = String::new();
    for at in 0..count {
        let (from, to, a, b) = *random.one(&PAIRS);
        let address = |random: &mut Random, net: u8| match random.below(3) {
            0 => format!("10.{net}.{}.0/24", random.below(200)),
            1 => format!("10.{net}.{}.{}-10.{net}.{}.250", random.below(100), 2 + random.below(200), 100 + random.below(100)),
            _ => format!("10.{net}.{}.{}", random.below(200), 2 + random.below(250)),
        };
        let (source, destination) = (address(&mut random, a), address(&mut random, b));
        let first = 1 + random.below(60_000);
        let service = match random.below(4) {
            0 => format!("tcp/{first}-{}", first + random.below(5_000)),
            1 => format!("udp/{first}"),
            2 => (*random.one(&["https", "ssh", "dns", "smtp", "tcp"])).to_owned(),
            _ => format!("tcp/{first}"),
        };
        let action = *random.one(&["accept", "drop"]);
        let _ = writeln!(
            rules,
            "    - {{ name: r{at}, from: {from}, to: {to}, sources: {source}, destinations: {destination}, services: {service}, action: {action} }}"
        );
    }
    frame(&(rules + &one_more(extra)), "")
}

fn large_set(count: usize, extra: usize) -> String {
    let mut random = Random::seeded(11);
    let addresses: Vec<String> =
        (0..count).map(|_| format!("{}.{}.{}.0/24", 11 + random.below(200), random.below(256), random.below(256))).collect();
    let set = format!(
        "apiVersion: portcullis/v1\nkind: AddressSet\nmetadata: {{ name: blocked }}\nspec: {{ addresses: [{}] }}\n",
        addresses.join(", ")
    );
    let rules = "    - { name: no, from: any, to: wan, destinations: blocked, action: drop }\n    - { name: all, from: guest, to: wan, services: [https, dns], action: accept }\n    - { name: in, from: wan, to: dmz, sources: blocked, services: tcp/25, action: accept }\n";
    frame(&(rules.to_owned() + &one_more(extra)), &set)
}
