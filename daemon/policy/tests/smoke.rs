use policy::{Sources, load};

#[test]
fn a_small_policy_loads() {
    let text = r#"
apiVersion: portcullis/v1
kind: System
metadata: { name: box }
spec: { hostname: gate, admin: { zones: [lan], ssh: true }, confirmWithin: 2m, output: strict }
---
apiVersion: portcullis/v1
kind: FirewallPolicy
metadata: { name: lan-out, description: optional }
spec:
  order: 100
  rules:
    - { name: web, from: [lan], to: [wan], services: [https, tcp/8443, udp/5000-5010], action: accept, log: true, rateLimit: 20/second burst 50, schedule: {days: [mon, tue], from: "08:00", until: "18:00"}, comment: text }
    - { name: more, from: lan, to: wan, sources: 192.168.2.0/24, destinations: [servers, 1.1.1.1-1.1.1.5], action: drop, log: false, enabled: false }
---
apiVersion: portcullis/v1
kind: NatPolicy
metadata: { name: nat }
spec:
  rules:
    - { name: out, type: masquerade, to: wan }
    - { name: in, type: portForward, from: wan, services: tcp/8080, toAddress: 192.168.2.10, toPort: 80 }
---
apiVersion: portcullis/v1
kind: Route
metadata: { name: default }
spec: { destination: default, via: 203.0.113.1 }
---
apiVersion: portcullis/v1
kind: Service
metadata: { name: app }
spec: { tcp: [80, "8000-8100"], icmp: [echo-request], protocols: [gre, 47] }
"#;
    let (config, problems) = policy::read::read(&Sources::single("a.yaml", text));
    println!("{config:#?}\n{problems}");
    assert!(problems.is_empty());
    let bad = text
        .replace("services: [https", "servces: [https")
        .replace("hostname: gate, ", "")
        .replace("type: masquerade, to: wan", "type: masquerade, toPort: 80")
        .replace("action: accept", "action: acept")
        .replace("kind: Route", "kind: Rute")
        .replace("gre, 47", "gree, 470");
    let (_, problems) = policy::read::read(&Sources::single("a.yaml", bad));
    println!("{problems}");
    assert!(problems.0.len() >= 6);
    let _ = load(&Sources::default());
}
