//! Packets as bytes, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::simulate::Packet;
use policy::simulate::packet::{ICMP, ICMPV6, TCP, UDP};

const OSPF: u8 = 89;

pub type Mac = [u8; 6];

/// What came out of the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub number: u16,
    pub kind: Kind,
    /// None where the socket does not tell (IPv6 raw sockets get no IP header).
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
    /// None for protocols without ports.
    pub port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The packet itself.
    Packet,
    Reset,
    /// ICMP "administratively prohibited".
    Prohibited,
    /// Any other ICMP error about it.
    OtherError,
}

/// The Ethernet frame of a packet that carries `number` where an answer will repeat it.
pub fn frame(packet: &Packet, number: u16, from: Mac, to: Mac) -> Vec<u8> {
    let kind: u16 = if packet.ipv6() { 0x86dd } else { 0x0800 };
    [&to[..], &from, &kind.to_be_bytes(), &ip(packet, &transport(packet, number))].concat()
}

fn transport(packet: &Packet, number: u16) -> Vec<u8> {
    let header = packet.transport;
    let mut bytes = match header.protocol {
        TCP => {
            let mut tcp = [header.source_port.to_be_bytes(), header.port.to_be_bytes()].concat();
            tcp.extend(1000u32.to_be_bytes());
            tcp.extend(if header.tcp_flags & 16 != 0 { 2000u32 } else { 0 }.to_be_bytes());
            tcp.extend([0x50, header.tcp_flags, 0xff, 0xff, 0, 0, 0, 0]);
            tcp
        }
        UDP => {
            let mut udp = [header.source_port.to_be_bytes(), header.port.to_be_bytes()].concat();
            udp.extend([0, 16, 0, 0]);
            udp.extend(mark(number));
            udp
        }
        ICMP | ICMPV6 => {
            let mut icmp = vec![header.port as u8, 0, 0, 0];
            icmp.extend(number.to_be_bytes());
            icmp.extend([0, 1]);
            icmp.extend(mark(number));
            icmp
        }
        _ => mark(number).to_vec(),
    };
    // The kernel refuses to answer packets whose checksum is wrong, and expects one like OSPF's in every protocol that it does not know
    // (nf_reject_verify_csum); our mark leaves its first two bytes for it.
    let at = match header.protocol {
        TCP => 16,
        UDP => 6,
        ICMP | ICMPV6 => 2,
        OSPF => 0,
        _ => return bytes,
    };
    let without_pseudo = header.protocol == ICMP || header.protocol == OSPF && !packet.ipv6();
    let pseudo = if without_pseudo { Vec::new() } else { pseudo_header(packet, bytes.len()) };
    let sum = checksum(&[pseudo, bytes.clone()].concat());
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// Eight bytes that begin like no GRE of version 1 and no IP header.
pub fn mark(number: u16) -> [u8; 8] {
    let [high, low] = number.to_be_bytes();
    [0, 0, 0, 0, b'P', b'C', high, low]
}

fn ip(packet: &Packet, payload: &[u8]) -> Vec<u8> {
    let protocol = packet.transport.protocol;
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = (20 + payload.len()) as u16;
            let mut header = vec![0x45, 0];
            header.extend(length.to_be_bytes());
            header.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [&header, payload].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend((payload.len() as u16).to_be_bytes());
            header.extend([protocol, 64]);
            header.extend(source.octets());
            header.extend(destination.octets());
            [&header, payload].concat()
        }
        _ => panic!("one packet, one family"),
    }
}

fn pseudo_header(packet: &Packet, length: usize) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let mut bytes = [octets(packet.source), octets(packet.destination)].concat();
    // The same sum whether length and protocol take two bytes or four.
    bytes.extend((length as u16).to_be_bytes());
    bytes.extend([0, packet.transport.protocol]);
    bytes
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A frame as captured: the sender's MAC and what it carries. `ours` tells which numbers are in use.
pub fn captured(bytes: &[u8], ours: &dyn Fn(u16) -> bool) -> Option<(Mac, Arrival)> {
    let from: Mac = bytes.get(6..12)?.try_into().ok()?;
    let arrival = match (bytes.get(12)?, bytes.get(13)?) {
        (0x08, 0x00) => packet4(bytes.get(14..)?, ours),
        (0x86, 0xdd) => {
            let bytes = bytes.get(14..)?;
            let [source, destination] = [8, 24].map(|at| bytes.get(at..at + 16).and_then(|b| <[u8; 16]>::try_from(b).ok()));
            transport_of(*bytes.get(6)?, bytes.get(40..)?, true, ours).map(|arrival| Arrival {
                source: source.map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
                destination: destination.map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
                ..arrival
            })
        }
        _ => None,
    };
    Some((from, arrival?))
}

/// An IPv4 packet, as raw sockets deliver it too.
pub fn packet4(bytes: &[u8], ours: &dyn Fn(u16) -> bool) -> Option<Arrival> {
    let length = usize::from(bytes.first()? & 15) * 4;
    let address = |at: usize| bytes.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(|b| IpAddr::V4(Ipv4Addr::from(b)));
    let arrival = transport_of(*bytes.get(9)?, bytes.get(length..)?, false, ours)?;
    Some(Arrival { source: address(12), destination: address(16), ..arrival })
}

/// The transport header and what follows.
pub fn transport_of(protocol: u8, bytes: &[u8], ipv6: bool, ours: &dyn Fn(u16) -> bool) -> Option<Arrival> {
    let word = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let seen = |number: u16, kind: Kind, port: Option<u16>| {
        ours(number).then_some(Arrival { number, kind, source: None, destination: None, port })
    };
    match protocol {
        TCP => {
            let reset = bytes.get(13)? & 4 != 0;
            seen(word(0)?, Kind::Packet, word(2)).or_else(|| seen(word(2)?, Kind::Reset, None).filter(|_| reset))
        }
        UDP => seen(word(0)?, Kind::Packet, word(2)),
        ICMP | ICMPV6 => {
            if let Some(about) = error_about(bytes, ipv6, ours) {
                return Some(about);
            }
            let kind = *bytes.first()?;
            // The box's answers to requests (echo, timestamp) are no packets of ours.
            if matches!((ipv6, kind), (false, 0 | 14) | (true, 129 | 140)) {
                return None;
            }
            seen(word(4)?, Kind::Packet, Some(u16::from(kind)))
        }
        _ => (bytes.get(2..6)? == &mark(0)[2..6]).then(|| seen(word(6)?, Kind::Packet, None)).flatten(),
    }
}

/// An ICMP error repeats the packet that it is about.
fn error_about(bytes: &[u8], ipv6: bool, ours: &dyn Fn(u16) -> bool) -> Option<Arrival> {
    let (kind, code) = (*bytes.first()?, *bytes.get(1)?);
    let inner = bytes.get(8..)?;
    let about = match (ipv6, inner.first()? >> 4) {
        (false, 4) => packet4(inner, ours)?,
        (true, 6) => transport_of(*inner.get(6)?, inner.get(40..)?, true, ours)?,
        _ => return None,
    };
    let prohibited = matches!((ipv6, kind, code), (false, 3, 13) | (true, 1, 1));
    Some(Arrival { kind: if prohibited { Kind::Prohibited } else { Kind::OtherError }, ..about })
}
