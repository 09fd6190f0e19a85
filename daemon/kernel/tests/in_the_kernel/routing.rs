use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use kernel::{Error, links, routes, rules, stats, sysctl};
use policy::name::IfName;
use policy::plan::{Link, Route, RouteAction, RouteKind, RouteRule, RouteSelector};

use crate::space::{alone, run};

fn name(text: &str) -> IfName {
    IfName::try_from(text).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn link(addresses: &[&str]) -> Link {
    Link { addresses: addresses.iter().map(|text| net(text)).collect(), ..Link::default() }
}

/// lan0 and wan0, each a cable whose other end is up too.
fn two_ports() {
    for port in ["lan0", "wan0"] {
        run("ip", &["link", "add", port, "type", "veth", "peer", "name", &format!("{port}-peer")]);
        run("ip", &["link", "set", &format!("{port}-peer"), "up"]);
    }
}

fn plan(links: &[(&str, Link)]) -> BTreeMap<IfName, Link> {
    links.iter().map(|(port, link)| (name(port), link.clone())).collect()
}

#[test]
fn links_get_their_addresses_and_lose_those_no_longer_wanted() {
    alone(|| {
        two_ports();
        let first = plan(&[("lan0", Link { mtu: Some(1400), ..link(&["192.168.2.1/24", "192.168.2.3/24", "fd00:2::1/64"]) })]);
        assert!(!links::differences(&first).unwrap().is_empty());
        links::reconcile(&first).unwrap();
        assert_eq!(links::differences(&first).unwrap(), []);

        // .1 is primary: with it Linux takes .3 away, which must come back.
        let second = plan(&[("lan0", Link { mtu: Some(1400), ..link(&["192.168.2.3/24", "192.168.9.1/24"]) })]);
        links::reconcile(&second).unwrap();
        assert_eq!(links::differences(&second).unwrap(), []);
        let listed = run("ip", &["-o", "addr", "show", "lan0"]);
        assert!(listed.contains("192.168.2.3/24") && !listed.contains("192.168.2.1/24") && !listed.contains("fd00:2::1"), "{listed}");
        assert!(listed.contains("fe80::"), "the link-local address stays: {listed}");
        let figures = stats::links().unwrap();
        assert!(figures["lan0"].up && figures["lan0"].addresses.contains(&"192.168.9.1/24".to_owned()), "{figures:?}");
    });
}

#[test]
fn an_ipv6_address_answers_at_once() {
    alone(|| {
        two_ports();
        links::reconcile(&plan(&[("lan0", link(&["fd00:2::1/64"]))])).unwrap();
        let listed = run("ip", &["-6", "-o", "addr", "show", "dev", "lan0", "to", "fd00::/8"]);
        assert!(!listed.contains("tentative") && listed.contains("nodad"), "{listed}");
    });
}

#[test]
fn a_leased_port_keeps_what_the_dhcp_client_brought() {
    alone(|| {
        two_ports();
        run("ip", &["addr", "add", "203.0.113.77/24", "dev", "wan0"]);
        run("ip", &["addr", "add", "192.168.2.77/24", "dev", "lan0"]);
        let plan = plan(&[("wan0", Link { dhcp4: true, ..Link::default() }), ("lan0", link(&["192.168.2.1/24"]))]);
        let told: Vec<String> = links::differences(&plan).unwrap().into_iter().map(|difference| difference.what).collect();
        assert!(told.contains(&"link lan0, address 192.168.2.77/24".to_owned()), "{told:?}");
        links::reconcile(&plan).unwrap();
        assert_eq!(links::differences(&plan).unwrap(), []);
        let listed = run("ip", &["-4", "-o", "addr"]);
        assert!(listed.contains("203.0.113.77/24") && !listed.contains("192.168.2.77/24"), "{listed}");
    });
}

#[test]
fn a_missing_interface_is_named_and_nothing_is_touched() {
    alone(|| {
        two_ports();
        let plan = plan(&[("lan0", link(&["192.168.2.1/24"])), ("lan7", link(&[])), ("lan8", link(&[]))]);
        match links::reconcile(&plan) {
            Err(Error::NoInterface(names)) => assert_eq!(names, ["lan7", "lan8"]),
            other => panic!("{other:?}"),
        }
        assert_eq!(run("ip", &["-4", "-o", "addr", "show", "lan0"]), "");
    });
}

#[test]
fn routes_are_ours_and_those_of_others_stay() {
    alone(|| {
        two_ports();
        links::reconcile(&plan(&[("lan0", link(&["192.168.2.1/24", "fd00:2::1/64"])), ("wan0", link(&["203.0.113.2/24"]))])).unwrap();
        run("ip", &["route", "add", "198.18.0.0/15", "dev", "wan0"]);
        let via = |destination: &str, gateway: &str, interface: &str| Route {
            destination: net(destination),
            kind: RouteKind::Via { gateway: gateway.parse().unwrap(), interface: name(interface) },
            metric: 100,
        };
        let kind = |destination: &str, kind: RouteKind| Route { destination: net(destination), kind, metric: 20 };
        let first = BTreeSet::from([
            via("0.0.0.0/0", "203.0.113.1", "wan0"),
            via("10.1.0.0/16", "192.168.2.9", "lan0"),
            via("2001:db8:1::/48", "fd00:2::9", "lan0"),
            via("::/0", "fe80::1", "wan0"),
            kind("10.2.0.0/16", RouteKind::Direct { interface: name("lan0") }),
            kind("10.3.0.0/16", RouteKind::Blackhole),
            kind("2001:db8:3::/48", RouteKind::Blackhole),
            kind("10.4.0.0/16", RouteKind::Unreachable),
            kind("2001:db8:4::/48", RouteKind::Unreachable),
        ]);
        routes::reconcile(&first).unwrap();
        assert_eq!(routes::differences(&first).unwrap(), []);
        assert!(run("ip", &["route", "get", "10.1.2.3"]).contains("via 192.168.2.9"));

        let second = BTreeSet::from([via("10.1.0.0/16", "192.168.2.10", "lan0")]);
        let told = routes::differences(&second).unwrap();
        assert!(told.iter().any(|one| one.what.contains("10.1.0.0/16 via 192.168.2.10") && one.found == "absent"), "{told:?}");
        routes::reconcile(&second).unwrap();
        assert_eq!(routes::differences(&second).unwrap(), []);
        let listed = run("ip", &["route"]);
        assert!(listed.contains("198.18.0.0/15") && !listed.contains("default"), "{listed}");
    });
}

#[test]
fn a_route_that_the_kernel_refuses_is_named() {
    alone(|| {
        two_ports();
        links::reconcile(&plan(&[("lan0", link(&["192.168.2.1/24"]))])).unwrap();
        let kind = RouteKind::Via { gateway: "10.9.9.9".parse().unwrap(), interface: name("lan0") };
        let error = routes::reconcile(&BTreeSet::from([Route { destination: net("10.1.0.0/16"), kind, metric: 100 }])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("route 10.1.0.0/16 via 10.9.9.9 on lan0") && text.contains("gateway"), "{text}");
    });
}

fn guard() -> BTreeSet<RouteRule> {
    BTreeSet::from([
        RouteRule { preference: 50, selector: RouteSelector::FromBox, action: RouteAction::Main },
        RouteRule { preference: 100, selector: RouteSelector::WithoutMark { mask: 1, value: 1 }, action: RouteAction::Unreachable },
    ])
}

#[test]
fn the_guarding_rules_stand_in_both_families_and_nobody_gets_before_them() {
    alone(|| {
        rules::reconcile(&guard()).unwrap();
        assert_eq!(rules::differences(&guard()).unwrap(), []);
        for family in ["-4", "-6"] {
            let listed = run("ip", &[family, "rule"]);
            assert!(
                listed.contains("50:\tfrom all iif lo lookup main") && listed.contains("100:\tnot from all fwmark 0x1/0x1 unreachable"),
                "{listed}"
            );
        }
        run("ip", &["rule", "add", "pref", "10", "lookup", "main"]);
        run("ip", &["rule", "add", "pref", "5000", "lookup", "77"]);
        run("ip", &["-6", "rule", "del", "pref", "100"]);
        let told: Vec<String> =
            rules::differences(&guard()).unwrap().into_iter().map(|one| format!("{} {}", one.what, one.found)).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("IPv4 rule 10:"), "{told:?}");
        assert_eq!(told[1], "IPv6 rule 100: not fwmark 0x1/0x1 unreachable absent");
        rules::reconcile(&guard()).unwrap();
        assert_eq!(rules::differences(&guard()).unwrap(), []);
        assert!(run("ip", &["rule"]).contains("5000:"), "what stands behind the guard is none of our business");
        rules::reconcile(&BTreeSet::new()).unwrap();
        assert_eq!(run("ip", &["-6", "rule"]), "0:\tfrom all lookup local\n32766:\tfrom all lookup main\n");
    });
}

#[test]
fn captured_packets_are_delivered_here_only_while_the_plan_says_so() {
    alone(|| {
        let mut wanted = guard();
        wanted.insert(RouteRule { preference: 60, selector: RouteSelector::Mark { mask: 2, value: 2 }, action: RouteAction::Deliver });
        assert_eq!(rules::differences(&wanted).unwrap().len(), 8, "three rules and a route in both families");
        rules::reconcile(&wanted).unwrap();
        assert_eq!(rules::differences(&wanted).unwrap(), []);
        for family in ["-4", "-6"] {
            assert!(run("ip", &[family, "rule"]).contains("60:\tfrom all fwmark 0x2/0x2 lookup 100"));
            assert!(run("ip", &[family, "route", "show", "table", "100"]).starts_with("local default dev lo"));
        }

        run("ip", &["route", "add", "unreachable", "10.0.0.0/8", "table", "100"]);
        run("ip", &["-6", "route", "flush", "table", "100"]);
        assert_eq!(rules::differences(&wanted).unwrap().len(), 2);
        rules::reconcile(&wanted).unwrap();
        assert_eq!(rules::differences(&wanted).unwrap(), []);

        assert_eq!(rules::differences(&guard()).unwrap().len(), 4);
        rules::reconcile(&guard()).unwrap();
        assert_eq!(rules::differences(&guard()).unwrap(), []);
        assert!(!run("ip", &["route", "show", "table", "all"]).contains("table 100"));
    });
}

#[test]
fn forwarding_comes_last_and_settings_survive_it() {
    alone(|| {
        two_ports();
        let plan: BTreeMap<String, String> = [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/rp_filter", "1"),
            ("net/ipv4/conf/all/accept_redirects", "0"),
            ("net/ipv4/conf/lan0/accept_redirects", "0"),
            ("net/ipv6/conf/lan0/accept_ra", "0"),
            ("net/ipv4/conf/all/send_redirects", "0"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        assert!(sysctl::differences(&plan).iter().any(|one| one.what == "sysctl net/ipv4/ip_forward"));
        sysctl::write(&plan).unwrap();
        assert_eq!(sysctl::differences(&plan), []);
        sysctl::stop_forwarding().unwrap();
        assert_eq!(sysctl::differences(&plan).len(), 2);
        let unknown = BTreeMap::from([("net/ipv4/conf/lan9/rp_filter".to_owned(), "1".to_owned())]);
        assert!(sysctl::write(&unknown).unwrap_err().to_string().contains("net/ipv4/conf/lan9/rp_filter"));
    });
}
