//! Answers as they go to the client: IP and UDP headers around a payload, from any address that the client asked. No I/O.
//!
//! The kernel refuses raw packets that are larger than the way's MTU, so a large answer is made as fragments ([`fragments`]): conntrack
//! puts them together on the way out, judges the whole, and the kernel cuts it again for the link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const HOPS: u8 = 64;
const UDP_HEADER: usize = 8;
const IP4_HEADER: usize = 20;
const IP6_HEADER: usize = 40;
/// Each link carries so much of IPv6 (RFC 8200 section 5), and practically each of IPv4.
pub const FRAGMENT_SIZE: usize = 1280;
/// What fits behind the headers in the largest IP packet.
pub const PAYLOAD_MAX: usize = 65_535 - IP4_HEADER - UDP_HEADER;

/// One packet. None: the families differ, or it does not fit.
pub fn whole(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let datagram = datagram(from, to, payload)?;
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Some(ip4(from, to, 0, DONT_FRAGMENT, &datagram)),
        (IpAddr::V6(from), IpAddr::V6(to)) => Some(ip6(from, to, UDP, &[], &datagram)),
        _ => None,
    }
}

/// The same as packets of at most [`FRAGMENT_SIZE`] bytes. `id` tells them from those of other answers.
pub fn fragments(from: SocketAddr, to: SocketAddr, payload: &[u8], id: u32) -> Option<Vec<Vec<u8>>> {
    let datagram = datagram(from, to, payload)?;
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let packet = |offset: usize, more: bool, piece: &[u8]| {
                let place = (offset / 8) as u16 | if more { MORE_FRAGMENTS } else { 0 };
                // 0 asks the kernel for an id of its own for every packet, which would tear the fragments apart.
                ip4(from, to, (id as u16).max(1), place, piece)
            };
            Some(cut(&datagram, FRAGMENT_SIZE - IP4_HEADER, packet))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let packet = |offset: usize, more: bool, piece: &[u8]| {
                // RFC 8200 section 4.5: offset in units of 8 bytes, in the upper 13 bits.
                let place = (offset as u16 & 0xfff8) | u16::from(more);
                let mut header = [0; 8];
                header[0] = UDP;
                header[2..4].copy_from_slice(&place.to_be_bytes());
                header[4..8].copy_from_slice(&id.to_be_bytes());
                ip6(from, to, FRAGMENT, &header, piece)
            };
            Some(cut(&datagram, FRAGMENT_SIZE - IP6_HEADER - 8, packet))
        }
        _ => None,
    }
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;

fn cut(datagram: &[u8], size: usize, packet: impl Fn(usize, bool, &[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    // All but the last are multiples of 8.
    let size = size & !7;
    let piece = |(index, piece): (usize, &[u8])| packet(index * size, (index + 1) * size < datagram.len(), piece);
    datagram.chunks(size).enumerate().map(piece).collect()
}

fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() > PAYLOAD_MAX {
        return None;
    }
    let length = (UDP_HEADER + payload.len()) as u16;
    let mut datagram = Vec::with_capacity(UDP_HEADER + payload.len());
    datagram.extend_from_slice(&from.port().to_be_bytes());
    datagram.extend_from_slice(&to.port().to_be_bytes());
    datagram.extend_from_slice(&length.to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    let pseudo = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => sum(0, &from.octets()) + sum(0, &to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => sum(0, &from.octets()) + sum(0, &to.octets()),
        _ => return None,
    };
    let sum = sum(pseudo + u64::from(UDP) + u64::from(length), &datagram);
    // 0 would say that there is no checksum (RFC 768).
    let checksum = match folded(sum) {
        0 => 0xffff,
        other => other,
    };
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    Some(datagram)
}

fn ip4(from: Ipv4Addr, to: Ipv4Addr, id: u16, place: u16, rest: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(IP4_HEADER + rest.len());
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&((IP4_HEADER + rest.len()) as u16).to_be_bytes());
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&place.to_be_bytes());
    packet.extend_from_slice(&[HOPS, UDP, 0, 0]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    let checksum = folded(sum(0, &packet));
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend_from_slice(rest);
    packet
}

fn ip6(from: Ipv6Addr, to: Ipv6Addr, next: u8, extension: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(IP6_HEADER + extension.len() + rest.len());
    packet.extend_from_slice(&[0x60, 0, 0, 0]);
    packet.extend_from_slice(&((extension.len() + rest.len()) as u16).to_be_bytes());
    packet.extend_from_slice(&[next, HOPS]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(extension);
    packet.extend_from_slice(rest);
    packet
}

/// RFC 1071, not yet folded: a u64 holds the sum of more words than a packet has.
fn sum(start: u64, bytes: &[u8]) -> u64 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let words: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    start + words + last.first().map_or(0, |byte| u64::from(*byte) << 8)
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A header or pseudo-header with its checksum in place sums up to all ones.
    fn sums_up(parts: &[&[u8]]) -> bool {
        folded(parts.iter().fold(0, |so_far, part| so_far + sum(0, part))) == 0
    }

    fn judge(packet: &[u8], from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let (ip, udp) = packet.split_at(if from.is_ipv4() { IP4_HEADER } else { IP6_HEADER });
        assert_eq!(&udp[..2], from.port().to_be_bytes());
        assert_eq!(&udp[2..4], to.port().to_be_bytes());
        assert_eq!(&udp[8..], payload);
        let length = (udp.len() as u16).to_be_bytes();
        assert_eq!(udp[4..6], length);
        let addresses = if from.is_ipv4() { &ip[12..20] } else { &ip[8..40] };
        assert!(sums_up(&[addresses, &[0, UDP], &length, udp]));
        assert!(from.is_ipv6() || sums_up(&[ip]));
    }

    #[test]
    fn checksums_are_those_of_known_vectors() {
        // RFC 1071 section 3.
        assert_eq!(folded(sum(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
        // A well-known IPv4 header (checksum b861).
        let mut header = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(folded(sum(0, &header)), 0xb861);
        header[10..12].copy_from_slice(&[0xb8, 0x61]);
        assert!(sums_up(&[&header]));
    }

    #[test]
    fn an_answer_bears_the_address_that_was_asked() {
        let (from, to) = (at("192.0.2.53:53"), at("10.0.0.7:40000"));
        let packet = whole(from, to, b"hello").unwrap();
        assert_eq!((packet.len(), &packet[12..16], &packet[16..20]), (33, &[192, 0, 2, 53][..], &[10, 0, 0, 7][..]));
        judge(&packet, from, to, b"hello");
        let (from, to) = (at("[2001:db8::53]:53"), at("[fd00::7]:40000"));
        judge(&whole(from, to, b"hello!!").unwrap(), from, to, b"hello!!");
        assert_eq!(whole(from, at("10.0.0.7:1"), b""), None);
        assert_eq!(whole(from, to, &[0; PAYLOAD_MAX + 1]), None);
    }

    #[test]
    fn no_checksum_is_never_said() {
        let (from, to) = (at("192.0.2.53:53"), at("10.0.0.7:40000"));
        let would_be = datagram(from, to, &[0, 0]).unwrap();
        let missing = u16::from_be_bytes([would_be[6], would_be[7]]);
        let zero = datagram(from, to, &missing.to_be_bytes()).unwrap();
        assert_eq!(zero[6..8], [0xff, 0xff]);
    }

    proptest! {
        #[test]
        fn every_answer_is_well_formed(payload in prop::collection::vec(any::<u8>(), 0..2000), ports: (u16, u16), four: bool) {
            let (from, to) = if four { (at("192.0.2.53:1"), at("10.0.0.7:1")) } else { (at("[2001:db8::53]:1"), at("[fd00::7]:1")) };
            let (from, to) = (SocketAddr::new(from.ip(), ports.0), SocketAddr::new(to.ip(), ports.1));
            judge(&whole(from, to, &payload).unwrap(), from, to, &payload);
        }

        #[test]
        fn fragments_put_together_are_the_whole(payload in prop::collection::vec(any::<u8>(), 1000..9000), four: bool, id: u32) {
            let (from, to) = if four { (at("192.0.2.53:53"), at("10.0.0.7:9")) } else { (at("[2001:db8::53]:53"), at("[fd00::7]:9")) };
            let pieces = fragments(from, to, &payload, id).unwrap();
            let header = if four { IP4_HEADER } else { IP6_HEADER + 8 };
            let mut together = Vec::new();
            for (index, piece) in pieces.iter().enumerate() {
                prop_assert!(piece.len() <= FRAGMENT_SIZE);
                let place = if four { u16::from_be_bytes([piece[6], piece[7]]) } else { u16::from_be_bytes([piece[42], piece[43]]) };
                let (offset, more) = if four { ((place & 0x1fff) * 8, place & MORE_FRAGMENTS != 0) } else { (place & 0xfff8, place & 1 != 0) };
                prop_assert_eq!(usize::from(offset), together.len());
                prop_assert_eq!(more, index + 1 < pieces.len());
                together.extend_from_slice(&piece[header..]);
            }
            prop_assert_eq!(together, datagram(from, to, &payload).unwrap());
        }
    }
}
