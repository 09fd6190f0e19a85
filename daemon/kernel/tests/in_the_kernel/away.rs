//! A port that is down: what the box sends to its neighbours there leaves by no other way.

use std::net::{SocketAddr, UdpSocket};

use policy::plan::{Plan, Route, RouteKind};

use crate::far::Far;
use crate::space::{alone, nft_load, run};

const NEIGHBOURS: [&str; 2] = ["192.168.2.10:7", "[fd00:2::10]:7"];

fn plan() -> Plan {
    const ROUTES: &str = r#"
apiVersion: portcullis/v1
kind: Route
metadata: { name: internet }
spec: { destination: default, via: 203.0.113.1, interface: wan0 }
---
apiVersion: portcullis/v1
kind: Route
metadata: { name: internet6 }
spec: { destination: "::/0", via: "fe80::1", interface: wan0 }
"#;
    let base = include_str!("../../../policy/cases/base.yaml");
    let sources = policy::Sources([("base.yaml", base), ("routes.yaml", ROUTES)].map(|(name, text)| (name.into(), text.into())).into());
    policy::compile(&policy::load(&sources).unwrap_or_else(|problems| panic!("{problems:?}")))
}

fn is_last(route: &Route) -> bool {
    route.kind == RouteKind::Unreachable
}

/// Whether the box's own datagrams to its neighbours on lan0 were seen leaving by wan0, by family.
fn seen_at_wan() -> [bool; 2] {
    for to in NEIGHBOURS {
        let to: SocketAddr = to.parse().unwrap();
        let _ = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap().send_to(b"answer", to);
    }
    let listed = run("nft", &["list", "table", "inet", "witness"]);
    ["ip", "ip6"].map(|family| {
        let line = listed.lines().find(|line| line.contains(&format!(" {family} daddr"))).unwrap_or_else(|| panic!("{listed}"));
        !line.contains("packets 0 ")
    })
}

fn box_with(plan: &Plan) -> Vec<Far> {
    std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
    let ports = plan.links.keys().enumerate();
    let far = ports.map(|(place, port)| Far::plug(port.as_str(), &format!("02:00:00:00:00:{place:02}"))).collect();
    kernel::links::reconcile(&plan.links).unwrap();
    kernel::routes::reconcile(&plan.routes).unwrap();
    assert_eq!(kernel::routes::differences(&plan.routes).unwrap(), []);
    nft_load(
        "table inet witness {
            chain c {
                type filter hook postrouting priority 500;
                oifname wan0 ip daddr 192.168.2.0/24 counter
                oifname wan0 ip6 daddr fd00:2::/64 counter
            }
        }",
    )
    .unwrap();
    far
}

#[test]
fn what_is_meant_for_a_network_of_the_boxs_own_never_leaves_by_the_default_route() {
    alone(|| {
        let plan = plan();
        assert!(plan.routes.iter().filter(|route| is_last(route)).count() >= 2);
        let _far = box_with(&plan);
        assert!(run("ip", &["route", "get", "192.168.2.10"]).contains("dev lan0"), "while it is up its own route stands before");
        assert!(run("ip", &["route", "get", "fd00:2::10"]).contains("dev lan0"));
        assert_eq!(seen_at_wan(), [false, false]);
        run("ip", &["link", "set", "lan0", "down"]);
        assert_eq!(seen_at_wan(), [false, false]);
        run("ip", &["link", "del", "lan0"]);
        assert_eq!(seen_at_wan(), [false, false]);
    });
}

#[test]
fn without_the_routes_behind_its_networks_it_would() {
    alone(|| {
        let mut plan = plan();
        plan.routes.retain(|route| !is_last(route));
        let _far = box_with(&plan);
        assert_eq!(seen_at_wan(), [false, false]);
        run("ip", &["link", "set", "lan0", "down"]);
        // The kernel resolves the gateway first; who asks for it is who would be sent to.
        for (family, gateway) in [("-4", "203.0.113.1"), ("-6", "fe80::1")] {
            run("ip", &[family, "neigh", "replace", gateway, "lladdr", "02:00:00:00:00:99", "dev", "wan0"]);
        }
        assert_eq!(seen_at_wan(), [true, true]);
    });
}
