use super::{FIRST, Raw, expression, sys};

/// Matches when the first register lies outside of the two bounds, both included. (A value inside is two comparisons.)
pub struct NotInRange<'a> {
    pub from: &'a [u8],
    pub to: &'a [u8],
}

expression!(NotInRange<'_>);

impl NotInRange<'_> {
    pub(super) fn build(&self) -> Raw {
        const NOT_EQUAL: u32 = 1; // NFT_RANGE_NEQ
        Raw::new(c"range")
            .u32(sys::NFTNL_EXPR_RANGE_SREG, FIRST)
            .u32(sys::NFTNL_EXPR_RANGE_OP, NOT_EQUAL)
            .data(sys::NFTNL_EXPR_RANGE_FROM_DATA, self.from)
            .data(sys::NFTNL_EXPR_RANGE_TO_DATA, self.to)
    }
}
