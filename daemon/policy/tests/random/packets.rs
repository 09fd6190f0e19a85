//! A random packet for the world of these policies.

use std::net::IpAddr;

use policy::name::IfName;
use policy::simulate::packet::{ICMP, ICMPV6, TCP, UDP};
use policy::simulate::{Ingress, Packet, Transport};

use super::{FAR4, FAR6, HOSTS, PORTS, Port, Random, SERVICES};

/// The first packet of a connection that arrives at one of the box's ports. Mostly honest, sometimes spoofed or malformed.
pub fn packet(random: &mut Random) -> Packet {
    let at = random.one(&PORTS);
    let six = random.chance(35);
    let source = if random.chance(75) { at_home(random, at, six) } else { anywhere(random, six) };
    let destination = anywhere(random, six);
    let transport = transport(random, six);
    Packet { from: Ingress::Interface(IfName::try_from(at.name).unwrap()), source, destination, own: false, mac: None, transport }
}

fn at_home(random: &mut Random, port: &Port, six: bool) -> IpAddr {
    let behind = match port.name {
        "wan0" if random.chance(60) => Some(if six { FAR6[random.below(2)] } else { FAR4[random.below(3)] }),
        "lan0" if random.chance(20) => Some(if six { FAR6[2] } else { FAR4[3 + random.below(2)] }),
        _ => None,
    };
    let number = *random.one(&HOSTS);
    behind.map_or_else(|| if six { port.host6(number) } else { port.host4(number) }, str::to_owned).parse().unwrap()
}

fn anywhere(random: &mut Random, six: bool) -> IpAddr {
    let port = random.one(&PORTS);
    let number = *random.one(&HOSTS);
    let text = match (random.below(10), six) {
        (0..=3, false) => port.host4(number),
        (0..=3, true) => port.host6(number),
        (4..=6, false) => (*random.one(&FAR4)).to_owned(),
        (4..=6, true) => (*random.one(&FAR6)).to_owned(),
        (_, false) => port.host4(port.own),
        (_, true) => port.host6(port.own),
    };
    text.parse().unwrap()
}

fn transport(random: &mut Random, six: bool) -> Transport {
    let source_port = 20_000 + random.below(20_000) as u16;
    let port = *random.one(&SERVICES);
    let (protocol, port, tcp_flags) = match random.below(20) {
        0..=9 => (TCP, port, 2),
        10 => (TCP, port, *random.one(&[0, 1, 3, 4, 6, 16, 18, 20, 41, 63, 32, 8, 66, 194])),
        11..=15 => (UDP, port, 0),
        16..=17 if six => (ICMPV6, 128, 0),
        16..=17 => (ICMP, 8, 0),
        18 if six => (ICMPV6, *random.one(&[129, 1, 3, 139, 200]), 0),
        18 => (ICMP, *random.one(&[0, 3, 11, 13, 5, 40]), 0),
        _ => (*random.one(&[47, 89, 50]), 0, 0),
    };
    Transport { protocol, source_port: if matches!(protocol, TCP | UDP) { source_port } else { 0 }, port, tcp_flags }
}
