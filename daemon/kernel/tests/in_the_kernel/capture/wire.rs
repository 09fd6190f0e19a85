//! What arrives at the forwarder's sockets, and packets as its raw sockets send them.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, getsockopt, recvmsg, sockopt};
use policy::messages::forwarder::SocketKind;

use super::Accepted;

pub fn seen(kind: SocketKind, stream: TcpStream, client: SocketAddr) -> Accepted {
    let destination = match kind {
        SocketKind::Redirected4 => {
            let address = getsockopt(&stream, sockopt::OriginalDst).unwrap();
            SocketAddr::new(u32::from_be(address.sin_addr.s_addr).to_be_bytes().into(), u16::from_be(address.sin_port))
        }
        SocketKind::Redirected6 => {
            let address = getsockopt(&stream, sockopt::Ip6tOriginalDst).unwrap();
            SocketAddr::new(address.sin6_addr.s6_addr.into(), u16::from_be(address.sin6_port))
        }
        _ => stream.local_addr().unwrap(),
    };
    let mark = getsockopt(&stream, sockopt::Mark).unwrap();
    Accepted { stream, client, destination, mark }
}

pub fn take_datagram(socket: &OwnedFd) -> Option<(Vec<u8>, SocketAddr, SocketAddr, u32)> {
    let mut bytes = [0; 2048];
    let mut space = cmsg_space!([u8; 256]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT).ok()?;
    let source = message.address.as_ref().unwrap();
    let source = match (source.as_sockaddr_in(), source.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::new(v4.ip().into(), v4.port()),
        (_, Some(v6)) => SocketAddr::new(v6.ip().into(), v6.port()),
        _ => panic!("from nowhere"),
    };
    let (mut destination, mut mark) = (None, None);
    for control in message.cmsgs().unwrap() {
        match control {
            ControlMessageOwned::Ipv4OrigDstAddr(to) => {
                destination = Some(SocketAddr::new(to.sin_addr.s_addr.to_ne_bytes().into(), u16::from_be(to.sin_port)));
            }
            ControlMessageOwned::Ipv6OrigDstAddr(to) => {
                destination = Some(SocketAddr::new(to.sin6_addr.s6_addr.into(), u16::from_be(to.sin6_port)));
            }
            ControlMessageOwned::Unknown(other) if other.cmsg_header.cmsg_type == nix::libc::SO_MARK => {
                mark = other.data_bytes.get(..4).map(|bytes| u32::from_ne_bytes(bytes.try_into().unwrap()));
            }
            _ => {}
        }
    }
    let count = message.bytes;
    Some((bytes[..count].to_vec(), source, destination.expect("an original destination"), mark.expect("a mark")))
}

/// IP and UDP headers (RFC 791, RFC 8200, RFC 768). The kernel fills in IPv4's length and checksum.
pub fn datagram_packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut udp = Vec::new();
    for number in [from.port(), to.port(), length, 0] {
        udp.extend_from_slice(&number.to_be_bytes());
    }
    udp.extend_from_slice(payload);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
            packet.extend_from_slice(&from.octets());
            packet.extend_from_slice(&to.octets());
            [packet, udp].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            let sum = checksum(&[&addresses[..], &[0, 0], &length.to_be_bytes(), &[0, 0, 0, 17], &udp[..]].concat());
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
            let [high, low] = length.to_be_bytes();
            [&[0x60, 0, 0, 0, high, low, 17, 64], &addresses[..], &udp[..]].concat()
        }
        _ => panic!("of two families"),
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if sum == 0xffff { 0xffff } else { !sum as u16 }
}
