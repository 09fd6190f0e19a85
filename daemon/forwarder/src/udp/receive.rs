//! A client's datagram, with what the kernel says about it: where it was going, and the mark that says whose it is.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

use nix::libc::{SO_MARK, SOL_SOCKET, sockaddr_in, sockaddr_in6};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use policy::compile::proxy::{MAPPING, MAPPING_SHIFT};

#[derive(Debug, PartialEq, Eq)]
pub struct Arrived {
    pub length: usize,
    pub client: SocketAddr,
    /// Whom the client asked.
    pub asked: SocketAddr,
    /// Of the mapping.
    pub id: u16,
}

/// None: the kernel did not say what it must, or the datagram is larger than `buffer`. It is dropped.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Option<Arrived>> {
    let mut pieces = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(socket.as_fd().as_raw_fd(), &mut pieces, Some(control), MsgFlags::MSG_DONTWAIT)?;
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Ok(None);
    }
    let client = message.address.as_ref().and_then(address);
    let (mut asked, mut mark) = (None, None);
    for said in message.cmsgs()? {
        match said {
            ControlMessageOwned::Ipv4OrigDstAddr(address) => asked = Some(ip4(&address)),
            ControlMessageOwned::Ipv6OrigDstAddr(address) => asked = Some(ip6(&address)),
            ControlMessageOwned::Unknown(other) if other.cmsg_header.cmsg_level == SOL_SOCKET && other.cmsg_header.cmsg_type == SO_MARK => {
                mark = other.data_bytes.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
            }
            _ => {}
        }
    }
    let (Some(client), Some(asked), Some(mark)) = (client, asked, mark) else { return Ok(None) };
    Ok(Some(Arrived { length: message.bytes, client, asked, id: ((mark & MAPPING) >> MAPPING_SHIFT) as u16 }))
}

/// Room for the control messages of one datagram.
pub fn control() -> Vec<u8> {
    nix::cmsg_space!(sockaddr_in, sockaddr_in6, u32)
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let four = storage.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    four.or_else(|| storage.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
}

fn ip4(address: &sockaddr_in) -> SocketAddr {
    let octets = address.sin_addr.s_addr.to_ne_bytes();
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(octets), u16::from_be(address.sin_port)))
}

fn ip6(address: &sockaddr_in6) -> SocketAddr {
    SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(address.sin6_addr.s6_addr), u16::from_be(address.sin6_port), 0, 0))
}
