use super::{FIRST, Raw, expression, sys};

/// Gives the packet, of either family, to the transparent socket at the port in the first register. Without one the rule ends.
pub struct Tproxy;

expression!(Tproxy);

impl Tproxy {
    pub(super) fn build(&self) -> Raw {
        Raw::new(c"tproxy").u32(sys::NFTNL_EXPR_TPROXY_FAMILY, libc::NFPROTO_UNSPEC as u32).u32(sys::NFTNL_EXPR_TPROXY_REG_PORT, FIRST)
    }
}
