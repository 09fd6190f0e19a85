use super::{Raw, expression, sys};

/// A token bucket of packets. Matches while tokens are left; with `over`, only when none is.
pub struct Limit {
    pub rate: u32,
    /// The rate's unit, in seconds.
    pub per: u32,
    pub burst: u32,
    pub over: bool,
}

expression!(Limit);

impl Limit {
    pub(super) fn build(&self) -> Raw {
        const PACKETS: u32 = 0; // NFT_LIMIT_PKTS
        const INVERT: u32 = 1; // NFT_LIMIT_F_INV
        Raw::new(c"limit")
            .u64(sys::NFTNL_EXPR_LIMIT_RATE, self.rate.into())
            .u64(sys::NFTNL_EXPR_LIMIT_UNIT, self.per.into())
            .u32(sys::NFTNL_EXPR_LIMIT_BURST, self.burst)
            .u32(sys::NFTNL_EXPR_LIMIT_TYPE, PACKETS)
            .u32(sys::NFTNL_EXPR_LIMIT_FLAGS, if self.over { INVERT } else { 0 })
    }
}
