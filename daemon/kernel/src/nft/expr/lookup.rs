use std::ffi::CString;

use super::{FIRST, Raw, VERDICT, expression, sys};

/// Looks the registers from the first on up in a set.
pub struct Lookup {
    pub set: SetName,
    /// Matches when the key is absent.
    pub negate: bool,
    pub yields: Yields,
}

pub enum Yields {
    /// A set: being in it is all that there is to know.
    Nothing,
    /// A verdict map: what is found is done.
    Verdict,
    /// What is found takes the key's place in the first register.
    Value,
}

pub enum SetName {
    Named(CString),
    /// An anonymous set of the same batch, by the id that it was sent with.
    Anonymous(u32),
}

expression!(Lookup);

impl Lookup {
    pub(super) fn build(&self) -> Raw {
        const INVERT: u32 = 1; // NFT_LOOKUP_F_INV
        let lookup = Raw::new(c"lookup").u32(sys::NFTNL_EXPR_LOOKUP_SREG, FIRST);
        let lookup = match &self.set {
            SetName::Named(name) => lookup.text(sys::NFTNL_EXPR_LOOKUP_SET, name),
            SetName::Anonymous(id) => lookup.text(sys::NFTNL_EXPR_LOOKUP_SET, c"__set%d").u32(sys::NFTNL_EXPR_LOOKUP_SET_ID, *id),
        };
        let lookup = match self.yields {
            Yields::Nothing => lookup,
            Yields::Verdict => lookup.u32(sys::NFTNL_EXPR_LOOKUP_DREG, VERDICT),
            Yields::Value => lookup.u32(sys::NFTNL_EXPR_LOOKUP_DREG, FIRST),
        };
        if self.negate { lookup.u32(sys::NFTNL_EXPR_LOOKUP_FLAGS, INVERT) } else { lookup }
    }
}
