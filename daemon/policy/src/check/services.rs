//! What a list of services stands for, and the services that need no definition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use super::ranges::{Family, Interval, merge};
use crate::model::{Config, IcmpType, Icmpv6Type, PortRange, Protocol, Service, ServiceTerm};

/// Everything that some service terms name, taken together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Destination ports of TCP, UDP and SCTP: sorted, merged, never empty.
    pub ports: BTreeMap<Protocol, Vec<Interval>>,
    /// Protocols as a whole; they are in none of the other fields.
    pub whole: BTreeSet<Protocol>,
    pub icmp: BTreeSet<IcmpType>,
    pub icmpv6: BTreeSet<Icmpv6Type>,
}

impl Traffic {
    /// None: no terms stand for every packet.
    pub fn of(config: &Config, terms: &[ServiceTerm]) -> Option<Traffic> {
        if terms.is_empty() {
            return None;
        }
        let mut traffic = Traffic::default();
        for term in terms {
            match term {
                ServiceTerm::Literal { protocol, ports: Some(ports) } => traffic.add(*protocol, &[*ports]),
                ServiceTerm::Literal { protocol, ports: None } => _ = traffic.whole.insert(*protocol),
                ServiceTerm::Named(name) => {
                    if let Some(service) = service(config, name.as_str()) {
                        traffic.add_service(service);
                    }
                }
            }
        }
        Some(traffic.tidy())
    }

    fn add(&mut self, protocol: Protocol, ports: &[PortRange]) {
        if !ports.is_empty() {
            self.ports.entry(protocol).or_default().extend(ports.iter().map(|range| (u128::from(range.first), u128::from(range.last))));
        }
    }

    fn add_service(&mut self, service: &Service) {
        self.add(Protocol::TCP, &service.tcp);
        self.add(Protocol::UDP, &service.udp);
        self.add(Protocol::SCTP, &service.sctp);
        self.whole.extend(&service.protocols);
        self.icmp.extend(&service.icmp);
        self.icmpv6.extend(&service.icmpv6);
    }

    /// A whole protocol leaves nothing for its ports and types to add.
    fn tidy(mut self) -> Self {
        let whole = &self.whole;
        self.ports.retain(|protocol, _| !whole.contains(protocol));
        if whole.contains(&Protocol::ICMP) {
            self.icmp.clear();
        }
        if whole.contains(&Protocol::ICMPV6) {
            self.icmpv6.clear();
        }
        self.ports.values_mut().for_each(|ports| *ports = merge(std::mem::take(ports)));
        self
    }

    /// Whether packets of this family can belong to it: ICMP types exist in one family only.
    pub fn has_any(&self, family: Family) -> bool {
        let own = match family {
            Family::V4 => !self.icmp.is_empty(),
            Family::V6 => !self.icmpv6.is_empty(),
        };
        let other = match family {
            Family::V4 => Protocol::ICMPV6,
            Family::V6 => Protocol::ICMP,
        };
        own || !self.ports.is_empty() || self.whole.iter().any(|protocol| *protocol != other)
    }

    /// Whether every packet in it has ports.
    pub fn has_only_ports(&self) -> bool {
        self.icmp.is_empty() && self.icmpv6.is_empty() && self.whole.iter().all(|protocol| protocol.has_ports())
    }

    pub fn holds_port(&self, protocol: Protocol, port: u16) -> bool {
        let port = u128::from(port);
        self.whole.contains(&protocol)
            || self.ports.get(&protocol).is_some_and(|ports| ports.iter().any(|(first, last)| (*first..=*last).contains(&port)))
    }
}

/// The policy's own service of this name, or the predefined one.
pub fn service<'c>(config: &'c Config, name: &str) -> Option<&'c Service> {
    let own = crate::name::Name::try_from(name).ok().and_then(|name| config.services.get(&name)).map(|resource| &resource.spec);
    own.or_else(|| predefined().get(name))
}

/// Services that can be used without being defined; a resource of the same name replaces one. Port numbers are IANA's ("Service
/// Name and Transport Protocol Port Number Registry").
pub fn predefined() -> &'static BTreeMap<&'static str, Service> {
    static SERVICES: LazyLock<BTreeMap<&'static str, Service>> = LazyLock::new(|| {
        let tcp: [(&str, &[u16]); 24] = [
            ("dot", &[853]),
            ("ftp", &[21]),
            ("git", &[9418]),
            ("http", &[80]),
            ("imap", &[143]),
            ("imaps", &[993]),
            ("ipp", &[631]),
            ("ldaps", &[636]),
            ("mqtts", &[8883]),
            ("mysql", &[3306]),
            ("pop3s", &[995]),
            ("postgresql", &[5432]),
            ("rdp", &[3389]),
            ("rtsp", &[554]),
            ("sips", &[5061]),
            ("smb", &[445]),
            ("smtp", &[25]),
            ("smtps", &[465]),
            ("socks", &[1080]),
            ("ssh", &[22]),
            ("submission", &[587]),
            ("telnet", &[23]),
            ("vnc", &[5900]),
            ("xmpp", &[5222]),
        ];
        let udp: [(&str, &[u16]); 9] = [
            ("dhcp", &[67, 68]),
            ("dhcpv6", &[546, 547]),
            ("ike", &[500, 4500]),
            ("mdns", &[5353]),
            ("ntp", &[123]),
            ("snmp", &[161]),
            ("stun", &[3478]),
            ("syslog", &[514]),
            ("wireguard", &[51820]),
        ];
        // QUIC is HTTP/3 here; DNS falls back to TCP for long answers (RFC 7766).
        let both: [(&str, &[u16], &[u16]); 6] = [
            ("dns", &[53], &[53]),
            ("https", &[443], &[]),
            ("kerberos", &[88], &[88]),
            ("ldap", &[389], &[389]),
            ("quic", &[], &[443]),
            ("sip", &[5060], &[5060]),
        ];
        let ports = |ports: &[u16]| ports.iter().map(|port| PortRange { first: *port, last: *port }).collect::<Vec<_>>();
        let of = |tcp: &[u16], udp: &[u16]| Service { tcp: ports(tcp), udp: ports(udp), ..Service::default() };
        let mut services: BTreeMap<&str, Service> = BTreeMap::new();
        services.extend(tcp.map(|(name, tcp)| (name, of(tcp, &[]))));
        services.extend(udp.map(|(name, udp)| (name, of(&[], udp))));
        services.extend(both.map(|(name, tcp, udp)| (name, of(tcp, udp))));
        let ping = Service { icmp: vec![IcmpType(8)], icmpv6: vec![Icmpv6Type(128)], ..Service::default() };
        services.insert("ping", ping);
        // Classic traceroute: UDP from 33434 upwards, one port a probe.
        services.insert("traceroute", Service { udp: vec![PortRange { first: 33434, last: 33534 }], ..Service::default() });
        services
    });
    &SERVICES
}
