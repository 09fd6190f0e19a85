//! What changes while a ruleset stands: elements, counters, other programs.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use kernel::nft::{Monitor, NewElement};
use kernel::{Nft, conntrack};
use policy::ruleset::*;

use crate::build::*;
use crate::encoding::everything;
use crate::space::{alone, nft_load, run};

fn ip(text: &str) -> Vec<Span> {
    vec![Span::One(v4(text))]
}

fn new(key: Vec<Span>, seconds: Option<u64>) -> NewElement {
    NewElement { key, to: None, timeout: seconds.map(Duration::from_secs) }
}

#[test]
fn elements_come_go_and_expire_by_themselves() {
    alone(|| {
        let hosts = Set { timeout: true, counters: true, ..set(&[Field::Ip4Saddr], vec![]) };
        let nets = Set { interval: true, ..set(&[Field::Ip4Saddr], vec![element(&[Span::Prefix(v4("10.0.0.0"), 8)])]) };
        let ruleset = table(vec![("hosts", hosts), ("nets", nets)], vec![]);
        let mut nft = Nft::open().unwrap();
        nft.apply(&ruleset).unwrap();

        nft.add_elements("portcullis", "hosts", &[new(ip("10.0.0.1"), Some(60)), new(ip("10.0.0.2"), None)]).unwrap();
        nft.renew_elements("portcullis", "hosts", &[new(ip("10.0.0.1"), Some(600)), new(ip("10.0.0.3"), Some(1))]).unwrap();
        let held = nft.elements("portcullis", "hosts").unwrap();
        assert_eq!(held.len(), 3);
        assert!(held[0].expires.unwrap() > Duration::from_secs(590), "{held:?}");
        assert_eq!((held[1].expires, held[1].tally), (None, Some(Default::default())));

        nft.delete_elements("portcullis", "hosts", &[ip("10.0.0.1"), ip("10.99.0.1")]).unwrap();
        std::thread::sleep(Duration::from_millis(1300));
        let keys: Vec<_> = nft.elements("portcullis", "hosts").unwrap().into_iter().map(|element| element.key).collect();
        assert_eq!(keys, [ip("10.0.0.2")]);
        assert_eq!(nft.differences(&ruleset).unwrap(), [], "elements of sets with timeout come and go");

        nft.add_elements("portcullis", "nets", &[new(vec![Span::Range(v4("11.0.0.1"), v4("11.0.0.7"))], None)]).unwrap();
        let told = nft.differences(&ruleset).unwrap();
        assert!(told[0].what.contains("set nets, element 11.0.0.1") && told[0].found == "present", "{told:?}");
        assert!(nft.add_elements("portcullis", "nobody", &[]).is_err());
    });
}

#[test]
fn a_refusal_names_the_rule_and_the_element() {
    alone(|| {
        let rule = Rule { source: source("lan-out/web"), ..Rule::of([Part::Verdict(Verdict::Jump("nowhere".into()))]) };
        let mut nft = Nft::open().unwrap();
        let error = nft.apply(&table(vec![], vec![("forward", chain(vec![Rule::of([accept()]), rule]))])).unwrap_err().to_string();
        assert!(error.contains("chain forward, rule 2 (lan-out/web, test.yaml:1)"), "{error}");

        let overlapping = vec![element(&[Span::Prefix(v4("10.0.0.0"), 8)]), element(&[Span::Range(v4("10.5.0.0"), v4("12.0.0.0"))])];
        let nets = Set { interval: true, ..set(&[Field::Ip4Saddr], overlapping) };
        let error = nft.apply(&table(vec![("nets", nets)], vec![])).unwrap_err().to_string();
        assert!(error.contains("set nets, element"), "{error}");
        assert_eq!(run("nft", &["list", "ruleset"]), "", "nothing of a refused ruleset stays");
    });
}

#[test]
fn check_asks_the_kernel_and_changes_nothing() {
    alone(|| {
        let mut nft = Nft::open().unwrap();
        nft.check(&everything()).unwrap();
        assert_eq!(run("nft", &["list", "ruleset"]), "");
        let broken = table(vec![], vec![("a", chain(vec![Rule::of([Part::Verdict(Verdict::Jump("b".into()))])]))]);
        assert!(nft.check(&broken).is_err());
    });
}

/// Packets to the box itself over loopback, counted by rule and by element.
#[test]
fn counters_are_summed_by_the_rule_of_the_policy() {
    alone(|| {
        let counted = |id: &str, port: u16| Rule {
            source: source(id),
            ..Rule::of([udp(), is(Field::Dport, Datum::Port(port)), Part::Counter, drop()])
        };
        let posture = Rule::of([udp(), is(Field::Dport, Datum::Port(5)), Part::Counter, drop()]).because("posture/five");
        let map = Set {
            maps_to: Some(Maps::Verdict),
            counters: true,
            ..set(&[Field::Dport], vec![Element { source: source("lan-out/run"), ..verdict(&[Span::One(Datum::Port(3))], Verdict::Drop) }])
        };
        let input = Chain {
            base: base(ChainKind::Filter, Hook::Input, 0, BasePolicy::Accept),
            rules: vec![
                counted("lan-out/web", 1),
                counted("lan-out/web", 2),
                posture,
                Rule::of([udp(), Part::VerdictMap { fields: vec![Field::Dport], map: "run".into() }]),
            ],
        };
        let ruleset = table(vec![("run", map)], vec![("input", input)]);
        let mut nft = Nft::open().unwrap();
        nft.apply(&ruleset).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (port, times) in [(1, 2), (2, 3), (3, 4), (5, 1)] {
            for _ in 0..times {
                socket.send_to(&[0; 100], ("127.0.0.1", port)).unwrap();
            }
        }
        let counters = nft.counters(&ruleset).unwrap();
        let told: Vec<(&str, u64, u64)> = counters.iter().map(|(id, tally)| (id.as_str(), tally.packets, tally.bytes)).collect();
        assert_eq!(told, [("lan-out/run", 4, 512), ("lan-out/web", 5, 640), ("posture/five", 1, 128)]);
        let text = nft.text(&["portcullis"]).unwrap();
        assert!(text.contains("udp dport 2 counter packets 3 bytes 384 drop"), "{text}");
        assert!(text.contains("3 counter packets 4 bytes 512 comment \"lan-out/run\" : drop"), "{text}");
        assert_eq!(nft.differences(&ruleset).unwrap(), [], "counting is no difference");
    });
}

#[test]
fn the_kernels_text_can_be_loaded_again() {
    alone(|| {
        let mut nft = Nft::open().unwrap();
        nft.apply(&everything()).unwrap();
        let text = nft.text(&["portcullis"]).unwrap();
        run("nft", &["flush", "ruleset"]);
        nft_load(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(nft.text(&["portcullis"]).unwrap(), text);
        let told = nft.differences(&everything()).unwrap();
        assert_eq!(told, [], "what was decoded says the same as what was encoded");
    });
}

#[test]
fn drift_is_found_named_and_told_with_who_did_it() {
    alone(|| {
        let ruleset = everything();
        let mut nft = Nft::open().unwrap();
        let mut monitor = Monitor::open().unwrap();
        nft.apply(&ruleset).unwrap();
        assert_eq!(monitor.changes().unwrap().len(), 1, "our own change is heard too");
        let mut drift = |script: &str| {
            nft_load(script).unwrap();
            let told = nft.differences(&ruleset).unwrap();
            nft.apply(&ruleset).unwrap();
            assert_eq!(nft.differences(&ruleset).unwrap(), []);
            assert!(!told.is_empty(), "not found: {script}");
            format!("{} | {} | {}", told[0].what, told[0].expected, told[0].found)
        };
        let told = drift("insert rule inet portcullis checks tcp dport 23 accept");
        assert!(told.starts_with("table inet portcullis, chain checks | "), "{told}");
        let told = drift("chain inet portcullis forward { policy accept; }");
        assert_eq!(
            told,
            "table inet portcullis, chain forward | type filter hook forward priority 0; policy drop; | type filter hook forward priority 0; policy accept;"
        );
        let told = drift("delete element inet portcullis a4_hosts { 10.0.0.2 }");
        assert_eq!(told, "table inet portcullis, set a4_hosts, element 10.0.0.2 | present | absent");
        let told = drift("add element inet portcullis zones { \"lan9\" . \"wan0\" : accept }");
        assert_eq!(told, "table inet portcullis, set zones, element lan9 . wan0 | absent | present");
        let told = drift("add chain inet portcullis backdoor");
        assert_eq!(told, "table inet portcullis, chain backdoor | absent | present");
        let told = drift("flush chain inet portcullis other\nadd rule inet portcullis other accept");
        assert_eq!(told, "table inet portcullis, chain other, rule 1 | return | accept");
        let told = drift("flush chain inet portcullis other\nadd rule inet portcullis other quota over 5 bytes drop");
        assert_eq!(
            told,
            "table inet portcullis, chain other, rule 1 | return | a rule with a quota expression that Portcullis does not write"
        );
        let told = drift("delete table inet portcullis");
        assert_eq!(told, "table inet portcullis | present | absent");

        let changes = monitor.changes().unwrap();
        let names: Vec<String> = changes.iter().filter_map(|change| change.who.as_ref()).map(|who| who.name.clone()).collect();
        assert_eq!(names.iter().filter(|name| *name == "nft").count(), 8, "{names:?}");
        assert_eq!(changes.last().unwrap().generation, nft.generation().unwrap());

        nft_load("table ip docker { chain FORWARD { type filter hook forward priority -5; policy accept; }\n}").unwrap();
        assert_eq!(
            nft.foreign_hooks(&ruleset).unwrap(),
            ["table ip docker, chain FORWARD: type filter hook forward priority -5; policy accept;"]
        );
    });
}

#[test]
fn connections_are_listed_and_ended() {
    alone(|| {
        let track = Rule::of([Part::Masked { field: Field::CtState, mask: 6, op: Op::Ne, value: 0 }, accept()]);
        let only_new_to_listener = Rule::of([tcp(), is(Field::Dport, Datum::Port(7777)), accept()]);
        let input = Chain {
            base: base(ChainKind::Filter, Hook::Input, 0, BasePolicy::Drop),
            rules: vec![track, only_new_to_listener, Rule::of([drop()])],
        };
        let mut nft = Nft::open().unwrap();
        nft.apply(&table(vec![], vec![("input", input)])).unwrap();
        let listener = TcpListener::bind("127.0.0.1:7777").unwrap();
        let client = TcpStream::connect("127.0.0.1:7777").unwrap();
        let (server, _) = listener.accept().unwrap();
        let flows = conntrack::list().unwrap();
        assert_eq!(flows.len(), 1, "{flows:?}");
        let original = &flows[0].original;
        assert_eq!((original.protocol, original.destination_port), (6, 7777));
        assert_eq!(original.source_port, client.local_addr().unwrap().port());
        assert_eq!(conntrack::delete(&flows).unwrap(), 1);
        assert_eq!(conntrack::list().unwrap(), []);
        assert_eq!(conntrack::delete(&flows).unwrap(), 0, "what ended by itself is no error");
        conntrack::flush().unwrap();
        std::mem::drop((client, server));
    });
}

/// The many connections of one mapping end with one message, and those of others stay.
#[test]
fn ten_thousand_connections_of_a_mark_end_at_once() {
    alone(|| {
        let by_port = |first, last, mark| {
            let to = Operand::One(Span::Range(Datum::Port(first), Datum::Port(last)));
            Rule::of([udp(), Part::Match { field: Field::Dport, op: Op::Eq, to }, Part::SetCtMark { mask: u32::MAX, value: mark }])
        };
        let rules = vec![by_port(1000, 10_999, 0x0012_3401), by_port(11_000, 11_099, 0x0012_3501)];
        let output = Chain { base: base(ChainKind::Filter, Hook::Output, 0, BasePolicy::Accept), rules };
        Nft::open().unwrap().apply(&table(vec![], vec![("output", output)])).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in 1000..11_100 {
            // A refusal of the one before is told at the next.
            let _ = socket.send_to(b"x", ("127.0.0.1", port));
        }
        let all = conntrack::list().unwrap().len();
        let began = std::time::Instant::now();
        let marked = conntrack::list_marked(0x0012_3400, 0x00ff_ff00).unwrap().len();
        let listed = began.elapsed();
        assert!(marked > 9_000 && marked < all, "{marked} of {all}");
        assert!(conntrack::flush_marked(0, 0).is_err(), "no mask is every connection");
        let began = std::time::Instant::now();
        conntrack::flush_marked(0x0012_3400, 0x00ff_ff00).unwrap();
        println!("{marked} connections: listed in {listed:?}, ended in {:?}", began.elapsed());
        assert_eq!(conntrack::list_marked(0x0012_3400, 0x00ff_ff00).unwrap(), []);
        assert!(conntrack::list_marked(0x0012_3500, 0x00ff_ff00).unwrap().len() > 90, "those of others ended too");
    });
}
