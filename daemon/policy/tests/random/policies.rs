//! A random policy, as text.

use super::{FAR4, FAR6, HOSTS, MACS, PORTS, Random, SERVICES, ZONES};

pub fn policy(random: &mut Random) -> String {
    let mut text = String::new();
    let mut document = |kind: &str, name: &str, spec: &str| {
        text.push_str(&format!("apiVersion: portcullis/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {spec}\n---\n"));
    };
    let strict = if random.chance(40) { "strict" } else { "accept" };
    document("System", "gate", &format!("{{ hostname: gate, admin: {{ zones: dmz, port: 4443, ssh: true }}, output: {strict} }}"));
    for zone in ZONES {
        let proxied = if zone != "wan" && random.chance(6) { ", proxied: true" } else { "" };
        document("Zone", zone, &format!("{{ antiSpoofing: {}{proxied} }}", random.chance(75)));
    }
    for port in &PORTS {
        let (four, six) = (port.host4(port.own), port.host6(port.own));
        document("Interface", port.name, &format!("{{ zone: {}, addresses: [{four}/24, \"{six}/64\"] }}", port.zone));
    }
    document("Route", "default4", "{ destination: default, via: 203.0.113.1 }");
    document("Route", "default6", "{ destination: default, via: \"2001:db8:113::1\" }");
    document("Route", "inner4", "{ destination: 10.20.0.0/16, via: 192.168.2.254 }");
    document("Route", "inner6", "{ destination: \"fd00:20::/32\", via: \"fd00:2::fe\" }");
    let kind = random.one(&["blackhole", "unreachable"]);
    document("Route", "nowhere", &format!("{{ destination: 10.0.0.0/8, type: {kind} }}"));
    for name in ["set-a", "set-b", "set-c"] {
        let addresses: Vec<String> = (0..2 + random.below(5)).map(|at| address(random, at % 2 == 1)).collect();
        let include = if name == "set-c" && random.chance(50) { ", include: [set-a]" } else { "" };
        document("AddressSet", name, &format!("{{ addresses: [{}]{include} }}", addresses.join(", ")));
    }
    document("Service", "mixed", "{ tcp: [80, \"1000-1005\"], udp: [53, 1001], icmp: [echo-request], icmpv6: [echo-request] }");
    for (name, order) in [("first", 10), ("second", 20)] {
        let rules: Vec<String> = (0..2 + random.below(14)).map(|at| firewall_rule(random, &format!("r{at}"))).collect();
        let run = if random.chance(50) { run_of_simple_rules(random) } else { String::new() };
        document("FirewallPolicy", name, &format!("\n  order: {order}\n  rules:\n{}{run}", rules.concat()));
    }
    let rules: Vec<String> = (0..2 + random.below(7)).map(|at| nat_rule(random, &format!("n{at}"))).collect();
    document("NatPolicy", "nat", &format!("\n  rules:\n{}", rules.concat()));
    if random.chance(60) {
        mappings(random, &mut document);
    }
    text
}

/// Two upstreams, and some of the hosts mapped to them.
fn mappings(random: &mut Random, document: &mut impl FnMut(&str, &str, &str)) {
    document("Upstream", "near", "{ type: socks5, address: 198.51.100.10, port: 3128 }");
    document("Upstream", "far", "{ type: httpConnect, address: \"2001:db8:51::10\", port: 8080 }");
    document("UpstreamGroup", "both", "{ members: [near, far] }");
    for (at, port) in PORTS.iter().skip(1).enumerate() {
        let mut clients: Vec<String> = Vec::new();
        for number in random.some(&HOSTS, 3) {
            clients.extend([port.host4(*number), format!("\"{}\"", port.host6(*number))]);
        }
        if let Some(mac) = MACS.get(at).filter(|_| random.chance(60)) {
            clients.push(format!("\"{}\"", mac.map(|byte| format!("{byte:02x}")).join(":")));
        }
        let via = random.one(&["upstream: near", "upstream: far", "group: both"]);
        let tcp = random.one(&["redirect", "tproxy"]);
        let dns = random.one(&["drop", "proxied", "dohStub"]);
        let (udp, enabled) = (random.chance(70), random.chance(85));
        if random.chance(60) {
            let spec = format!("{{ clients: [{}], {via}, tcp: {tcp}, udp: {udp}, dns: {dns}, enabled: {enabled} }}", clients.join(", "));
            document("ProxyMapping", &format!("mapped-{}", port.name), &spec);
        }
    }
}

fn firewall_rule(random: &mut Random, name: &str) -> String {
    let from = zones(random, true);
    let to = if from.contains("box") { zones(random, false) } else { zones(random, true) };
    let mut rule = format!("    - {{ name: {name}, from: [{from}], to: [{to}]");
    // Sources and destinations of different families are refused by `check`.
    let six = random.chance(35);
    if random.chance(45) {
        rule.push_str(&format!(", sources: [{}]", addresses(random, six)));
    }
    if random.chance(45) {
        rule.push_str(&format!(", destinations: [{}]", addresses(random, six)));
    }
    if random.chance(70) {
        rule.push_str(&format!(", services: [{}]", services(random, six)));
    }
    let action = *random.one(&["accept", "accept", "accept", "drop", "reject"]);
    rule.push_str(&format!(", action: {action}"));
    if random.chance(15) {
        rule.push_str(", log: true");
    }
    if action == "accept" && random.chance(10) {
        rule.push_str(", rateLimit: 5000/second burst 5000");
    }
    if random.chance(10) {
        rule.push_str(", schedule: { days: [mon, wed, fri, sun], from: \"06:00\", until: \"20:00\" }");
    }
    if random.chance(10) {
        rule.push_str(", counter: false");
    }
    rule + " }\n"
}

/// What the compiler turns into one verdict map.
fn run_of_simple_rules(random: &mut Random) -> String {
    let (from, to) = (*random.one(&ZONES), *random.one(&ZONES));
    let rule = |at: usize, random: &mut Random| {
        let (host, port, action) = (host(random, false), *random.one(&SERVICES), *random.one(&["accept", "drop"]));
        let protocol = *random.one(&["tcp", "udp"]);
        format!("    - {{ name: s{at}, from: {from}, to: {to}, destinations: {host}, services: {protocol}/{port}, action: {action} }}\n")
    };
    (0..4 + random.below(8)).map(|at| rule(at, random)).collect()
}

fn nat_rule(random: &mut Random, name: &str) -> String {
    let zone = |random: &mut Random| *random.one(&ZONES);
    let service = |random: &mut Random| format!("{}/{}", random.one(&["tcp", "udp"]), random.one(&SERVICES));
    let mut rule = format!("    - {{ name: {name}, ");
    match random.below(4) {
        0 => {
            rule.push_str(&format!("type: masquerade, to: {}", zone(random)));
            if random.chance(60) {
                rule.push_str(&format!(", from: [{}]", zones(random, true)));
            }
        }
        1 => {
            let address = random.one(&["203.0.113.2", "203.0.113.50", "2001:db8:113::50"]);
            rule.push_str(&format!("type: snat, to: wan, toAddress: \"{address}\", from: {}", random.one(&["lan", "guest", "dmz"])));
        }
        2 => {
            let six = random.chance(30);
            let host = host(random, six);
            rule.push_str(&format!("type: portForward, toAddress: {host}, services: {}, from: {}", service(random), zone(random)));
            if random.chance(60) {
                rule.push_str(&format!(", toPort: {}", random.one(&SERVICES)));
            }
            if random.chance(30) {
                let outside = if six { "\"2001:db8:51::10\"" } else { "198.51.100.77" };
                rule.push_str(&format!(", destinations: {outside}"));
            }
            if random.chance(25) {
                rule.push_str(", permit: false");
            }
            if random.chance(25) {
                rule.push_str(", hairpin: false");
            }
        }
        _ => {
            rule.push_str(&format!(
                "type: redirect, toPort: {}, services: {}, from: {}",
                random.one(&SERVICES),
                service(random),
                zone(random)
            ));
            if random.chance(30) {
                rule.push_str(", destinations: 198.51.100.0/24");
            }
        }
    }
    if random.chance(20) && !rule.contains("::") {
        rule.push_str(", sources: [192.168.0.0/16]");
    }
    rule + " }\n"
}

fn zones(random: &mut Random, with_box: bool) -> String {
    if random.chance(25) {
        return "any".to_owned();
    }
    if with_box && random.chance(20) {
        return "box".to_owned();
    }
    random.some(&ZONES, 2).into_iter().copied().collect::<Vec<_>>().join(", ")
}

fn addresses(random: &mut Random, six: bool) -> String {
    let one = |random: &mut Random| match random.chance(35) {
        true => (*random.one(&["set-a", "set-b", "set-c"])).to_owned(),
        false => address(random, six),
    };
    (0..1 + random.below(2)).map(|_| one(random)).collect::<Vec<_>>().join(", ")
}

/// A host, a prefix, or a range.
fn address(random: &mut Random, six: bool) -> String {
    let port = random.one(&PORTS);
    match (random.below(6), six) {
        (0..=2, _) => host(random, six),
        (3, false) => format!("{}.0/24", port.net4),
        (3, true) => format!("\"{}:/64\"", port.net6),
        (4, false) => format!("{}-{}", port.host4(9), port.host4(11)),
        (4, true) => format!("\"{}-{}\"", port.host6(9), port.host6(11)),
        (_, false) => (*random.one(&["198.51.100.0/24", "10.20.0.0/16", "192.168.0.0/16", "0.0.0.0/0"])).to_owned(),
        (_, true) => (*random.one(&["\"2001:db8::/32\"", "\"fd00::/8\"", "\"::/0\""])).to_owned(),
    }
}

fn host(random: &mut Random, six: bool) -> String {
    let (port, number) = (random.one(&PORTS), *random.one(&HOSTS));
    match (six, random.chance(30)) {
        (false, false) => port.host4(number),
        (false, true) => (*random.one(&FAR4)).to_owned(),
        (true, false) => format!("\"{}\"", port.host6(number)),
        (true, true) => format!("\"{}\"", random.one(&FAR6)),
    }
}

fn services(random: &mut Random, six: bool) -> String {
    let one = |random: &mut Random| match random.below(12) {
        0..=3 => format!("tcp/{}", random.one(&SERVICES)),
        4..=5 => format!("udp/{}", random.one(&SERVICES)),
        6 => "tcp/1000-1004".to_owned(),
        7 => "tcp".to_owned(),
        8 => "udp".to_owned(),
        9 => "mixed".to_owned(),
        10 => "ping".to_owned(),
        _ => (*random.one(&["gre", if six { "icmpv6" } else { "icmp" }, "https", "proto/89", "sctp/80"])).to_owned(),
    };
    let mut chosen: Vec<String> = Vec::new();
    for _ in 0..1 + random.below(3) {
        let service = one(random);
        if !chosen.contains(&service) {
            chosen.push(service);
        }
    }
    chosen.join(", ")
}
