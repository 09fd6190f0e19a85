use super::{FIRST, Raw, expression, sys};

/// Turns the first register's word into network order: ranges are compared byte by byte.
pub struct ToNetworkOrder;

expression!(ToNetworkOrder);

impl ToNetworkOrder {
    pub(super) fn build(&self) -> Raw {
        const HTON: u32 = 1; // NFT_BYTEORDER_HTON
        Raw::new(c"byteorder")
            .u32(sys::NFTNL_EXPR_BYTEORDER_SREG, FIRST)
            .u32(sys::NFTNL_EXPR_BYTEORDER_DREG, FIRST)
            .u32(sys::NFTNL_EXPR_BYTEORDER_OP, HTON)
            .u32(sys::NFTNL_EXPR_BYTEORDER_LEN, 4)
            .u32(sys::NFTNL_EXPR_BYTEORDER_SIZE, 4)
    }
}
