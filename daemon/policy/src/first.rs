//! The first policy of a box, from what a person said of each of its ports.

use std::collections::BTreeSet;

use crate::Sources;

/// One port, as the set-up page asks for it. Everything is text that the reader of policies judges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortChoice {
    pub name: String,
    /// None leaves the port out of the policy: it carries nothing.
    pub zone: Option<String>,
    /// Empty asks a DHCP server.
    pub addresses: Vec<String>,
}

/// The zone that leads out.
pub const OUTSIDE: &str = "wan";

pub const FILE: &str = "first.yaml";

/// Whoever is inside may go out, nobody comes in, and `admin` is the zone from which the box is administered.
pub fn policy(hostname: &str, admin: &str, ports: &[PortChoice]) -> Sources {
    let zones: BTreeSet<&str> = ports.iter().filter_map(|port| port.zone.as_deref()).chain([admin]).collect();
    let inside = zones.iter().filter(|zone| **zone != OUTSIDE);
    let mut documents = vec![resource("System", "box", &format!("{{ hostname: {}, admin: {{ zones: [{admin}] }} }}", quoted(hostname)))];
    documents.extend(zones.iter().map(|zone| resource("Zone", zone, "{}")));
    documents.extend(ports.iter().filter_map(interface));
    if zones.contains(OUTSIDE) {
        documents.extend(
            inside
                .flat_map(|zone| {
                    [
                        resource(
                            "FirewallPolicy",
                            zone,
                            &format!("{{ rules: [{{ name: out, from: {zone}, to: {OUTSIDE}, action: accept }}] }}"),
                        ),
                        resource("NatPolicy", zone, &format!("{{ rules: [{{ name: out, type: masquerade, to: {OUTSIDE} }}] }}")),
                    ]
                })
                .collect::<BTreeSet<_>>(),
        );
    }
    Sources::single(FILE, documents.join("---\n"))
}

fn interface(port: &PortChoice) -> Option<String> {
    let zone = port.zone.as_deref()?;
    let how = match &port.addresses[..] {
        [] => "dhcp: [ipv4, ipv6]".to_owned(),
        addresses => format!("addresses: [{}]", addresses.iter().map(|address| quoted(address)).collect::<Vec<_>>().join(", ")),
    };
    Some(resource("Interface", &port.name, &format!("{{ zone: {zone}, {how} }}")))
}

fn resource(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: portcullis/v1\nkind: {kind}\nmetadata: {{ name: {} }}\nspec: {spec}\n", quoted(name))
}

/// Whatever was typed is one value and nothing else.
fn quoted(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("'{}'", plain.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge;

    fn port(name: &str, zone: &str, address: &str) -> PortChoice {
        let addresses = if address.is_empty() { vec![] } else { vec![address.to_owned()] };
        PortChoice { name: name.into(), zone: Some(zone.into()), addresses }
    }

    #[test]
    fn what_a_person_says_of_ports_is_a_policy() {
        let ports = [port("enp1s0", "wan", ""), port("enp2s0", "lan", "192.168.1.1/24"), port("enp3s0", "guest", "192.168.2.1/24")];
        let judged = judge(&policy("gate", "lan", &ports)).map_err(|problems| problems.to_string()).unwrap();
        assert_eq!(judged.checked.config().interfaces.len(), 3);
        assert_eq!(judged.checked.config().firewall_policies.len(), 2);
    }

    #[test]
    fn a_box_with_one_port_is_administered_over_it() {
        judge(&policy("gate", "wan", &[port("eth0", "wan", "")])).map_err(|problems| problems.to_string()).unwrap();
    }

    #[test]
    fn nothing_that_is_typed_becomes_more_than_one_value() {
        let ports = [port("eth0", "wan", "10.0.0.1/24], zone: lan, mtu: [1")];
        let problems = judge(&policy("a', admin: { zones: [any] }, x: '", "wan", &ports)).unwrap_err().to_string();
        assert!(problems.contains("hostname") && problems.contains("addresses"), "{problems}");
    }
}
