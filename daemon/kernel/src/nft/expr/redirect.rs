use super::nat::MAP_PORTS;
use super::{FIRST, Raw, expression, sys};

/// DNAT to the box itself; with `port`, to the port in the first register.
pub struct Redirect {
    pub port: bool,
}

expression!(Redirect);

impl Redirect {
    pub(super) fn build(&self) -> Raw {
        let redirect = Raw::new(c"redir");
        if !self.port {
            return redirect;
        }
        redirect
            .u32(sys::NFTNL_EXPR_REDIR_REG_PROTO_MIN, FIRST)
            .u32(sys::NFTNL_EXPR_REDIR_REG_PROTO_MAX, FIRST)
            .u32(sys::NFTNL_EXPR_REDIR_FLAGS, MAP_PORTS)
    }
}
