//! Established connections: listed, and ended when a tightened policy no longer permits them.

use std::net::IpAddr;

use crate::Error;
use crate::netlink::{Attributes, Messages, Talk};

/// A tracked connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// As the first packet came in.
    pub original: Tuple,
    /// As answers come in: differs from the mirrored original where NAT was done.
    pub reply: Tuple,
    pub mark: u32,
    /// IPS_* bits of include/uapi/linux/netfilter/nf_conntrack_common.h: snat 16, dnat 32.
    pub status: u32,
    /// The kernel's id of this entry, so that a successor with equal addresses is not hit.
    pub id: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// Zero for protocols without ports; for ICMP the identifier.
    pub source_port: u16,
    /// Zero for protocols without ports; for ICMP type * 256 + code.
    pub destination_port: u16,
}

/// Attribute numbers of include/uapi/linux/netfilter/nfnetlink_conntrack.h.
mod cta {
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const STATUS: u16 = 3;
    pub const MARK: u16 = 8;
    pub const ID: u16 = 12;
    pub const MARK_MASK: u16 = 21;
    pub const TUPLE_IP: u16 = 1;
    pub const TUPLE_PROTO: u16 = 2;
    pub const IP_V4_SRC: u16 = 1;
    pub const IP_V4_DST: u16 = 2;
    pub const IP_V6_SRC: u16 = 3;
    pub const IP_V6_DST: u16 = 4;
    pub const PROTO_NUM: u16 = 1;
    pub const PROTO_SRC_PORT: u16 = 2;
    pub const PROTO_DST_PORT: u16 = 3;
    pub const PROTO_ICMP_ID: u16 = 4;
    pub const PROTO_ICMP_TYPE: u16 = 5;
    pub const PROTO_ICMP_CODE: u16 = 6;
    pub const PROTO_ICMPV6_ID: u16 = 7;
    pub const PROTO_ICMPV6_TYPE: u16 = 8;
    pub const PROTO_ICMPV6_CODE: u16 = 9;
}

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8;
const GET: u16 = SUBSYSTEM | 1; // IPCTNL_MSG_CT_GET
const DELETE: u16 = SUBSYSTEM | 2; // IPCTNL_MSG_CT_DELETE
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Every tracked connection of both families.
pub fn list() -> Result<Vec<Flow>, Error> {
    list_where(|_| {})
}

/// Those whose mark, masked, is this one; the kernel sorts them out.
pub fn list_marked(mark: u32, mask: u32) -> Result<Vec<Flow>, Error> {
    list_where(|request| marked(request, mark, mask))
}

fn marked(request: &mut Messages, mark: u32, mask: u32) {
    request.be32(cta::MARK, mark);
    request.be32(cta::MARK_MASK, mask);
}

fn list_where(filter: impl Fn(&mut Messages)) -> Result<Vec<Flow>, Error> {
    let mut talk = Talk::open(libc::NETLINK_NETFILTER)?;
    let seq = talk.sequence(1);
    let mut request = Messages::default();
    request.begin(GET, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16, seq, &[libc::AF_UNSPEC as u8, 0, 0, 0]);
    filter(&mut request);
    request.end();
    let mut flows = Vec::new();
    let outcome = talk.dump(request.bytes(), seq, |_, body| flows.extend(flow(Attributes(body.get(4..).unwrap_or(&[])))));
    match outcome {
        // Entries came and went meanwhile; the list is of a moment in any case.
        Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
        other => other.map_err(Error::io("list the tracked connections"))?,
    }
    Ok(flows)
}

/// Ends these connections; those that ended by themselves meanwhile are no error. Returns how many were ended.
pub fn delete<'a>(flows: impl IntoIterator<Item = &'a Flow>) -> Result<usize, Error> {
    let mut talk = Talk::open(libc::NETLINK_NETFILTER)?;
    let mut ended = 0;
    let mut request = Messages::default();
    for flow in flows {
        let family = if flow.original.source.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let seq = talk.sequence(1);
        request.clear();
        request.begin(DELETE, (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16, seq, &[family as u8, 0, 0, 0]);
        request.nest(cta::TUPLE_ORIG, |tuple| put_tuple(tuple, &flow.original));
        request.be32(cta::ID, flow.id);
        request.end();
        let what = || format!("end the connection from {} to {}", flow.original.source, flow.original.destination);
        let (_, fault) = talk.ask(request.bytes(), seq).map_err(|source| Error::Io { what: what(), source })?;
        match fault.errno {
            0 => ended += 1,
            libc::ENOENT => {}
            _ => return Err(fault.refused(what())),
        }
    }
    Ok(ended)
}

/// Ends every connection: the next packet of each is judged anew.
pub fn flush() -> Result<(), Error> {
    flush_where("end all connections", |_| {})
}

/// Ends every connection whose mark, masked, is this one: one message, however many there are. A mask of 0 is refused, for it
/// would end them all.
pub fn flush_marked(mark: u32, mask: u32) -> Result<(), Error> {
    let what = format!("end the connections marked {mark:#x}/{mask:#x}");
    if mask == 0 {
        return Err(Error::Inexpressible { what, why: "the mask is empty".into() });
    }
    flush_where(&what, |request| marked(request, mark, mask))
}

fn flush_where(what: &str, filter: impl Fn(&mut Messages)) -> Result<(), Error> {
    let mut talk = Talk::open(libc::NETLINK_NETFILTER)?;
    let seq = talk.sequence(1);
    let mut request = Messages::default();
    request.begin(DELETE, (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16, seq, &[libc::AF_UNSPEC as u8, 0, 0, 0]);
    filter(&mut request);
    request.end();
    let (_, fault) = talk.ask(request.bytes(), seq).map_err(Error::io(what))?;
    if fault.errno == 0 { Ok(()) } else { Err(fault.refused(what)) }
}

fn flow(entry: Attributes) -> Option<Flow> {
    Some(Flow {
        original: tuple(entry.inside(cta::TUPLE_ORIG))?,
        reply: tuple(entry.inside(cta::TUPLE_REPLY))?,
        mark: entry.be32(cta::MARK).unwrap_or(0),
        status: entry.be32(cta::STATUS).unwrap_or(0),
        id: entry.be32(cta::ID)?,
    })
}

fn tuple(tuple: Attributes) -> Option<Tuple> {
    let ip = tuple.inside(cta::TUPLE_IP);
    let address = |v4: u16, v6: u16| -> Option<IpAddr> {
        match ip.get(v4) {
            Some(bytes) => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
            None => Some(<[u8; 16]>::try_from(ip.get(v6)?).ok()?.into()),
        }
    };
    let proto = tuple.inside(cta::TUPLE_PROTO);
    let number = |kind: u16| proto.get(kind).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_be_bytes);
    let byte = |kind: u16| proto.get(kind).and_then(|bytes| bytes.first()).map_or(0, |byte| u16::from(*byte));
    let protocol = proto.get(cta::PROTO_NUM)?.first().copied()?;
    let (source_port, destination_port) = match protocol {
        ICMP => (number(cta::PROTO_ICMP_ID), byte(cta::PROTO_ICMP_TYPE) << 8 | byte(cta::PROTO_ICMP_CODE)),
        ICMPV6 => (number(cta::PROTO_ICMPV6_ID), byte(cta::PROTO_ICMPV6_TYPE) << 8 | byte(cta::PROTO_ICMPV6_CODE)),
        _ => (number(cta::PROTO_SRC_PORT), number(cta::PROTO_DST_PORT)),
    };
    Some(Tuple {
        source: address(cta::IP_V4_SRC, cta::IP_V6_SRC)?,
        destination: address(cta::IP_V4_DST, cta::IP_V6_DST)?,
        protocol,
        source_port,
        destination_port,
    })
}

fn put_tuple(message: &mut Messages, tuple: &Tuple) {
    message.nest(cta::TUPLE_IP, |ip| {
        for (address, v4, v6) in [(tuple.source, cta::IP_V4_SRC, cta::IP_V6_SRC), (tuple.destination, cta::IP_V4_DST, cta::IP_V6_DST)] {
            match address {
                IpAddr::V4(address) => ip.put(v4, &address.octets()),
                IpAddr::V6(address) => ip.put(v6, &address.octets()),
            }
        }
    });
    message.nest(cta::TUPLE_PROTO, |proto| {
        proto.put(cta::PROTO_NUM, &[tuple.protocol]);
        let [kind, code] = tuple.destination_port.to_be_bytes();
        match tuple.protocol {
            ICMP => {
                proto.put(cta::PROTO_ICMP_ID, &tuple.source_port.to_be_bytes());
                proto.put(cta::PROTO_ICMP_TYPE, &[kind]);
                proto.put(cta::PROTO_ICMP_CODE, &[code]);
            }
            ICMPV6 => {
                proto.put(cta::PROTO_ICMPV6_ID, &tuple.source_port.to_be_bytes());
                proto.put(cta::PROTO_ICMPV6_TYPE, &[kind]);
                proto.put(cta::PROTO_ICMPV6_CODE, &[code]);
            }
            _ => {
                proto.put(cta::PROTO_SRC_PORT, &tuple.source_port.to_be_bytes());
                proto.put(cta::PROTO_DST_PORT, &tuple.destination_port.to_be_bytes());
            }
        }
    });
}
