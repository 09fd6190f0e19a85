use super::{FIRST, Raw, expression, sys};

/// Rewrites an address, which lies in the first register, and with `ports` the port, which lies in the second, and the end of a
/// range of ports (`Some(true)`) in the third.
pub struct Nat {
    pub direction: NatDirection,
    /// NFPROTO_IPV4 or NFPROTO_IPV6.
    pub family: i32,
    pub ports: Option<bool>,
}

#[derive(Clone, Copy)]
pub enum NatDirection {
    Source,
    Destination,
}

expression!(Nat);

/// NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED: the kernel sets them by itself and shows them when read back.
pub(super) const MAP_ADDRESSES: u32 = 1;
pub(super) const MAP_PORTS: u32 = 2;

impl Nat {
    pub(super) fn build(&self) -> Raw {
        let kind = match self.direction {
            NatDirection::Source => libc::NFT_NAT_SNAT,
            NatDirection::Destination => libc::NFT_NAT_DNAT,
        };
        let nat = Raw::new(c"nat")
            .u32(sys::NFTNL_EXPR_NAT_TYPE, kind as u32)
            .u32(sys::NFTNL_EXPR_NAT_FAMILY, self.family as u32)
            .u32(sys::NFTNL_EXPR_NAT_REG_ADDR_MIN, FIRST)
            .u32(sys::NFTNL_EXPR_NAT_REG_ADDR_MAX, FIRST);
        let Some(range) = self.ports else {
            return nat.u32(sys::NFTNL_EXPR_NAT_FLAGS, MAP_ADDRESSES);
        };
        nat.u32(sys::NFTNL_EXPR_NAT_REG_PROTO_MIN, FIRST + 1)
            .u32(sys::NFTNL_EXPR_NAT_REG_PROTO_MAX, if range { FIRST + 2 } else { FIRST + 1 })
            .u32(sys::NFTNL_EXPR_NAT_FLAGS, MAP_ADDRESSES | MAP_PORTS)
    }
}
