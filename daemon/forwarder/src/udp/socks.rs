//! The header around each datagram to and from a SOCKS5 relay (RFC 1928 section 7). No I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Reserved, fragment, kind of address, the longest address that we read, port.
pub const HEADER_MAX: usize = 2 + 1 + 1 + 16 + 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    Short,
    /// Fragments are optional in the RFC, and nobody sends them.
    Fragment,
    /// A name instead of an address: no answer that a client waits for comes from a name.
    Name,
    Malformed,
}

pub fn write(header: &mut Vec<u8>, to: SocketAddr) {
    header.extend_from_slice(&[0, 0, 0]);
    match to.ip() {
        IpAddr::V4(address) => {
            header.push(1);
            header.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            header.push(4);
            header.extend_from_slice(&address.octets());
        }
    }
    header.extend_from_slice(&to.port().to_be_bytes());
}

/// Whom the datagram is from, and what it says.
pub fn read(datagram: &[u8]) -> Result<(SocketAddr, &[u8]), Unreadable> {
    let ([reserved @ .., fragment, kind], rest) = datagram.split_first_chunk::<4>().ok_or(Unreadable::Short)?;
    if reserved != &[0, 0] {
        return Err(Unreadable::Malformed);
    }
    if *fragment != 0 {
        return Err(Unreadable::Fragment);
    }
    let (address, rest) = match kind {
        1 => rest.split_first_chunk::<4>().map(|(octets, rest)| (IpAddr::from(Ipv4Addr::from(*octets)), rest)).ok_or(Unreadable::Short)?,
        4 => {
            rest.split_first_chunk::<16>().map(|(octets, rest)| (Ipv6Addr::from(*octets).to_canonical(), rest)).ok_or(Unreadable::Short)?
        }
        3 => return Err(Unreadable::Name),
        _ => return Err(Unreadable::Malformed),
    };
    let (port, payload) = rest.split_first_chunk::<2>().ok_or(Unreadable::Short)?;
    Ok((SocketAddr::new(address, u16::from_be_bytes(*port)), payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_header_is_that_of_the_rfc() {
        let mut header = Vec::new();
        write(&mut header, "192.0.2.1:53".parse().unwrap());
        assert_eq!(header, [0, 0, 0, 1, 192, 0, 2, 1, 0, 53]);
        header.extend_from_slice(b"payload");
        assert_eq!(read(&header), Ok(("192.0.2.1:53".parse().unwrap(), &b"payload"[..])));
    }

    #[test]
    fn fragments_names_and_other_things_are_told_apart() {
        assert_eq!(read(&[0, 0, 1, 1, 192, 0, 2, 1, 0, 53]), Err(Unreadable::Fragment));
        assert_eq!(read(&[0, 0, 0, 3, 1, b'a', 0, 53]), Err(Unreadable::Name));
        assert_eq!(read(&[0, 0, 0, 2, 192, 0, 2, 1, 0, 53]), Err(Unreadable::Malformed));
        assert_eq!(read(&[5, 0, 0, 1, 192, 0, 2, 1, 0, 53]), Err(Unreadable::Malformed));
        assert_eq!(read(&[0, 0, 0, 1, 192, 0, 2, 1, 0]), Err(Unreadable::Short));
        assert_eq!(read(&[]), Err(Unreadable::Short));
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address() {
        let mut header = Vec::new();
        write(&mut header, "[::ffff:192.0.2.1]:53".parse().unwrap());
        assert_eq!(read(&header).unwrap().0, "192.0.2.1:53".parse().unwrap());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(datagram in prop::collection::vec(any::<u8>(), 0..64)) {
            _ = read(&datagram);
        }

        #[test]
        fn what_is_written_is_read(octets: [u8; 16], four: bool, port: u16, payload in prop::collection::vec(any::<u8>(), 0..64)) {
            let address = if four { IpAddr::from(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])) } else { IpAddr::from(octets).to_canonical() };
            let address = SocketAddr::new(address, port);
            let mut datagram = Vec::new();
            write(&mut datagram, address);
            prop_assert!(datagram.len() <= HEADER_MAX);
            datagram.extend_from_slice(&payload);
            prop_assert_eq!(read(&datagram), Ok((address, &payload[..])));
        }
    }
}
