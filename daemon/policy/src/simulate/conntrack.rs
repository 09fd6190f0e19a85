//! What connection tracking thinks of the first packet of a connection.

use super::packet::{ICMP, ICMPV6, TCP, Transport};

/// `ct state` bits as nftables numbers them (net/netfilter/nft_ct.c, NF_CT_STATE_*).
pub const INVALID: u32 = 1;
pub const ESTABLISHED: u32 = 2;
pub const RELATED: u32 = 4;
pub const NEW: u32 = 8;
pub const UNTRACKED: u32 = 64;

/// `ct status` bit that a changed destination sets (IPS_DST_NAT).
pub const STATUS_DNAT: u32 = 32;
/// `ct status` bit that a changed source sets (IPS_SRC_NAT).
pub const STATUS_SNAT: u32 = 16;

/// The state of a packet that belongs to no connection yet, by address family and transport header.
pub fn state(ipv6: bool, transport: &Transport) -> u32 {
    match *transport {
        Transport { protocol: TCP, tcp_flags, .. } => tcp(tcp_flags),
        Transport { protocol: ICMP, port, .. } if !ipv6 => icmp(port as u8),
        Transport { protocol: ICMPV6, port, .. } if ipv6 => icmpv6(port as u8),
        // The ICMP of the other family is nobody's (nf_conntrack_icmp_packet checks state->pf).
        Transport { protocol: ICMP | ICMPV6, .. } => INVALID,
        _ => NEW,
    }
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const URG: u8 = 32;

/// nf_conntrack_proto_tcp.c: first `tcp_valid_flags`, then the row "sNO" of `tcp_conntracks`. A bare ACK opens a connection
/// because `nf_conntrack_tcp_loose` is 1 by default.
fn tcp(flags: u8) -> u32 {
    // ECE and CWR (64, 128) and PSH do not count.
    let flags = flags & (FIN | SYN | RST | ACK | URG) & !PSH;
    const SYN_URG: u8 = SYN | URG;
    const ACK_URG: u8 = ACK | URG;
    match flags {
        SYN | SYN_URG | ACK | ACK_URG => NEW,
        _ => INVALID,
    }
}

/// Only requests open a connection; answers and errors without one are invalid (nf_conntrack_proto_icmp.c, `valid_new`):
/// echo, timestamp, information and address mask.
fn icmp(kind: u8) -> u32 {
    if matches!(kind, 8 | 13 | 15 | 17) { NEW } else { INVALID }
}

/// Neighbour discovery and multicast listening are not tracked (nf_conntrack_proto_icmpv6.c, `noct_valid_new`); echo and node information
/// requests open a connection.
fn icmpv6(kind: u8) -> u32 {
    match kind {
        128 | 139 => NEW,
        130..=136 | 143 => UNTRACKED,
        _ => INVALID,
    }
}
