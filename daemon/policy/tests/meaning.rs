//! What the compiled plan does to a packet is what the policy says, read plainly: rules in order, the first that matches
//! decides. The reader here knows nothing of chains, sets and maps.

mod random;

use std::net::IpAddr;

use policy::check::Checked;
use policy::model::{Action, Address, AddressTerm, Config, FirewallRule, RuleSchedule, Service, ServiceTerm, ZoneTerm};
use policy::name::Name;
use policy::ruleset::Hook;
use policy::simulate::packet::{ICMP, ICMPV6, SCTP, TCP, UDP};
use policy::simulate::{Egress, Ingress, Packet, Verdict, World};
use policy::{Sources, compile, load};
use random::{Random, packets, policies};

#[test]
fn the_first_matching_rule_of_the_policy_decides() {
    let (mut forwarded, mut decided) = (0, 0);
    for seed in 0..120 {
        let mut random = Random::seeded(seed);
        let text = without_nat(&policies::policy(&mut random));
        let text = other_times(&mut random, &text);
        let Ok(checked) = load(&Sources::single("random.yaml", text)) else { continue };
        let plan = compile(&checked);
        // None is a box whose timetables nobody keeps: what they permit is closed.
        let minute = random.chance(70).then(|| random.below(7 * 24 * 60) as u16);
        let world = World::of(&plan, minute);
        for _ in 0..300 {
            let mut packet = packets::packet(&mut random);
            if random.chance(15) {
                packet.from = Ingress::Box;
            }
            let outcome = world.run(&packet);
            let Some(to) = &outcome.to else { continue };
            let expected = first_match(&checked, &packet, to, minute);
            // Who is mapped, or behind a proxied zone, is not decided by rules.
            if outcome.decision.source.as_ref().is_some_and(|source| source.id.starts_with("proxy/")) {
                continue;
            }
            let by = outcome.decision.source.as_ref().map(|source| source.id.as_str()).filter(|id| !id.starts_with("posture/"));
            let told = format!("seed {seed}, minute {minute:?}\n{packet:?}\nexpected {expected:?}\n{outcome:#?}");
            match outcome.decision.hook {
                // Anti-spoofing and hygiene come before every rule.
                Hook::Prerouting => continue,
                Hook::Forward => assert_eq!(expected.as_ref().map(|(id, _)| id.as_str()), by, "{told}"),
                // The posture has its own say about the box; a rule that decides must still be the first.
                _ => assert!(by.is_none() || by == expected.as_ref().map(|(id, _)| id.as_str()), "{told}"),
            }
            forwarded += usize::from(outcome.decision.hook == Hook::Forward);
            if let (Some((_, action)), Some(_)) = (expected, by) {
                let found = match outcome.verdict {
                    Verdict::Accepted => Action::Accept,
                    Verdict::Dropped => Action::Drop,
                    Verdict::Rejected(_) => Action::Reject,
                };
                assert_eq!(action, found, "{told}");
                decided += 1;
            }
        }
    }
    println!("{forwarded} packets met the forward rules, rules decided {decided}");
    assert!(forwarded > 5_000 && decided > 2_000, "too little was tested: {forwarded} forwarded, {decided} decided by a rule");
}

/// Translations change what the rules see; they have their own tests.
fn without_nat(text: &str) -> String {
    text.split("---\n").filter(|document| !document.contains("kind: NatPolicy")).collect::<Vec<_>>().join("---\n")
}

/// Timetables past midnight, around the end of the week, and of whole days.
fn other_times(random: &mut Random, text: &str) -> String {
    let days = *random.one(&["mon, wed", "sun", "fri, sat, sun", "tue"]);
    let (from, until) = *random.one(&[("08:00", "18:00"), ("22:00", "06:00"), ("18:30", "24:00"), ("00:00", "24:00")]);
    text.replace("days: [mon, wed], from: \"08:00\", until: \"18:00\"", &format!("days: [{days}], from: \"{from}\", until: \"{until}\""))
}

fn first_match(checked: &Checked, packet: &Packet, to: &Egress, minute: Option<u16>) -> Option<(String, Action)> {
    let config = checked.config();
    let zone = |name: &policy::name::IfName| config.interfaces.get(name).map(|interface| &interface.spec.zone);
    let from = match &packet.from {
        Ingress::Interface(name) => zone(name),
        Ingress::Box => None,
    };
    let to = match to {
        Egress::Interface(name) => zone(name),
        Egress::Box => None,
    };
    let mut policies: Vec<_> = config.firewall_policies.iter().collect();
    policies.sort_by_key(|(name, policy)| (policy.spec.order, *name));
    for (policy, resource) in policies {
        for rule in resource.spec.rules.iter().map(|rule| &rule.value) {
            let zones = between(&rule.from, from) && between(&rule.to, to);
            if rule.enabled && zones && matches(checked, rule, packet) && holds(rule, minute) {
                return Some((format!("{policy}/{}", rule.name), rule.action));
            }
        }
    }
    None
}

fn between(terms: &[ZoneTerm], zone: Option<&Name>) -> bool {
    terms.iter().any(|term| match (term, zone) {
        (ZoneTerm::Any, zone) => zone.is_some(),
        (ZoneTerm::Box, zone) => zone.is_none(),
        (ZoneTerm::Zone(name), zone) => zone == Some(name),
    })
}

fn matches(checked: &Checked, rule: &FirewallRule, packet: &Packet) -> bool {
    let address = |terms: &[AddressTerm], address| terms.is_empty() || terms.iter().any(|term| among(checked.config(), term, address));
    address(&rule.sources, packet.source)
        && address(&rule.destinations, packet.destination)
        && (rule.services.is_empty() || rule.services.iter().any(|term| serves(checked, term, packet)))
}

fn among(config: &Config, term: &AddressTerm, address: IpAddr) -> bool {
    let holds = |one: &Address| match one {
        Address::Prefix(net) => net.contains(&address),
        Address::Range(first, last) => first.is_ipv4() == address.is_ipv4() && (*first..=*last).contains(&address),
    };
    match term {
        AddressTerm::Literal(one) => holds(one),
        AddressTerm::Set(name) => {
            let set = &config.address_sets[name].spec;
            set.addresses.iter().any(holds) || set.include.iter().any(|name| among(config, &AddressTerm::Set(name.clone()), address))
        }
    }
}

fn serves(checked: &Checked, term: &ServiceTerm, packet: &Packet) -> bool {
    let (protocol, port) = (packet.transport.protocol, packet.transport.port);
    match term {
        ServiceTerm::Literal { protocol: wanted, ports } => {
            wanted.0 == protocol && ports.is_none_or(|ports| (ports.first..=ports.last).contains(&port))
        }
        ServiceTerm::Named(name) => {
            let Service { tcp, udp, sctp, icmp, icmpv6, protocols } = checked.service(name).unwrap();
            let ports = [(TCP, tcp), (UDP, udp), (SCTP, sctp)];
            ports.iter().any(|(of, ports)| *of == protocol && ports.iter().any(|range| (range.first..=range.last).contains(&port)))
                || protocol == ICMP && !packet.ipv6() && icmp.iter().any(|kind| u16::from(kind.0) == port)
                || protocol == ICMPV6 && packet.ipv6() && icmpv6.iter().any(|kind| u16::from(kind.0) == port)
                || protocols.iter().any(|of| of.0 == protocol)
        }
    }
}

fn holds(rule: &FirewallRule, minute: Option<u16>) -> bool {
    match (&rule.schedule, minute) {
        (None, _) => true,
        (Some(schedule), Some(minute)) => is_open(schedule, minute),
        (Some(_), None) => rule.action != Action::Accept,
    }
}

/// Minute by minute: is it one of the days between the times, or the morning after one of the days?
fn is_open(schedule: &RuleSchedule, minute: u16) -> bool {
    let (day, time) = (minute / 1440, minute % 1440);
    let named = |day: u16| schedule.days.is_empty() || schedule.days.iter().any(|weekday| *weekday as u16 == day % 7);
    let (from, until) = (schedule.from.0, schedule.until.0);
    if from < until { named(day) && (from..until).contains(&time) } else { named(day) && time >= from || named(day + 6) && time < until }
}
