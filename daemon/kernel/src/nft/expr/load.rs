use policy::ruleset::Field;

use super::{FIRST, Raw, expression, sys};

/// Puts a field of the packet, or of what the kernel knows about it, into a register.
pub struct Load {
    pub field: Field,
    pub register: u32,
}

expression!(Load);

/// NFT_FIB_RESULT_ADDRTYPE and NFTA_FIB_F_DADDR (include/uapi/linux/netfilter/nf_tables.h).
const ADDRESS_TYPE: u32 = 3;
const OF_DESTINATION: u32 = 2;

/// The kind of link that a packet came from, in the first register.
pub struct LoadLinkType;

expression!(LoadLinkType);

impl LoadLinkType {
    pub(super) fn build(&self) -> Raw {
        Raw::new(c"meta").u32(sys::NFTNL_EXPR_META_KEY, libc::NFT_META_IIFTYPE as u32).u32(sys::NFTNL_EXPR_META_DREG, FIRST)
    }
}

impl Load {
    pub(super) fn build(&self) -> Raw {
        let meta = |key: i32| Raw::new(c"meta").u32(sys::NFTNL_EXPR_META_KEY, key as u32).u32(sys::NFTNL_EXPR_META_DREG, self.register);
        let ct = |key: i32| Raw::new(c"ct").u32(sys::NFTNL_EXPR_CT_KEY, key as u32).u32(sys::NFTNL_EXPR_CT_DREG, self.register);
        match self.field {
            Field::IifName => meta(libc::NFT_META_IIFNAME),
            Field::OifName => meta(libc::NFT_META_OIFNAME),
            Field::NfProto => meta(libc::NFT_META_NFPROTO),
            Field::L4Proto => meta(libc::NFT_META_L4PROTO),
            Field::Mark => meta(libc::NFT_META_MARK),
            Field::SkUid => meta(libc::NFT_META_SKUID),
            Field::PktType => meta(libc::NFT_META_PKTTYPE),
            Field::CtState => ct(libc::NFT_CT_STATE),
            Field::CtStatus => ct(libc::NFT_CT_STATUS),
            Field::CtMark => ct(libc::NFT_CT_MARK),
            Field::FibDaddrType => Raw::new(c"fib")
                .u32(sys::NFTNL_EXPR_FIB_RESULT, ADDRESS_TYPE)
                .u32(sys::NFTNL_EXPR_FIB_FLAGS, OF_DESTINATION)
                .u32(sys::NFTNL_EXPR_FIB_DREG, self.register),
            header => {
                let (_, _, length) = place(header).expect("every field that is no meta, ct or fib field lies in a header");
                LoadBytes { field: header, register: self.register, length }.build()
            }
        }
    }
}

/// The first bytes of a header field; fewer than all of them compare a prefix that ends on a byte.
pub struct LoadBytes {
    pub field: Field,
    pub register: u32,
    pub length: u32,
}

expression!(LoadBytes);

impl LoadBytes {
    pub(super) fn build(&self) -> Raw {
        let (base, offset, _) = place(self.field).expect("only header fields are loaded by the byte");
        Raw::new(c"payload")
            .u32(sys::NFTNL_EXPR_PAYLOAD_DREG, self.register)
            .u32(sys::NFTNL_EXPR_PAYLOAD_BASE, base as u32)
            .u32(sys::NFTNL_EXPR_PAYLOAD_OFFSET, offset)
            .u32(sys::NFTNL_EXPR_PAYLOAD_LEN, self.length)
    }
}

/// Header, offset and length in bytes (RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 792, RFC 4443).
fn place(field: Field) -> Option<(i32, u32, u32)> {
    const NETWORK: i32 = libc::NFT_PAYLOAD_NETWORK_HEADER;
    const TRANSPORT: i32 = libc::NFT_PAYLOAD_TRANSPORT_HEADER;
    Some(match field {
        Field::EtherSaddr => (libc::NFT_PAYLOAD_LL_HEADER, 6, 6),
        Field::Ip4Saddr => (NETWORK, 12, 4),
        Field::Ip4Daddr => (NETWORK, 16, 4),
        Field::Ip6Saddr => (NETWORK, 8, 16),
        Field::Ip6Daddr => (NETWORK, 24, 16),
        Field::Sport => (TRANSPORT, 0, 2),
        Field::Dport => (TRANSPORT, 2, 2),
        Field::TcpFlags => (TRANSPORT, 13, 1),
        Field::Icmp4Type | Field::Icmp6Type => (TRANSPORT, 0, 1),
        _ => return None,
    })
}
