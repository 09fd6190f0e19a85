//! The expressions that nftnl lacks, one to a file, and a safe hand for building them.
//!
//! A rule is a row of expressions that hand data to each other in registers. Loads fill them, comparisons and look-ups
//! read them, and the first that does not match ends the rule.

mod byteorder;
mod limit;
mod load;
mod log;
mod lookup;
mod nat;
mod range;
mod redirect;
mod tproxy;

pub use byteorder::ToNetworkOrder;
pub use limit::Limit;
pub use load::{Load, LoadBytes, LoadLinkType};
pub use log::Log;
pub use lookup::{Lookup, SetName, Yields};
pub use nat::{Nat, NatDirection};
pub use range::NotInRange;
pub use redirect::Redirect;
pub use tproxy::Tproxy;

use std::ffi::CStr;
use std::ptr::NonNull;

use nftnl::nftnl_sys as sys;

/// The register in which every single-field load, comparison and look-up of ours works.
pub const FIRST: u32 = libc::NFT_REG_1 as u32;
/// Writing a verdict here ends the rule.
pub const VERDICT: u32 = libc::NFT_REG_VERDICT as u32;

/// The register that begins `word` 4-byte words after the first. The kernel prints 16-byte registers by their old number
/// where it can (nft_dump_register), and so do we, so that what is read back is what was sent.
pub fn register(word: u32) -> u32 {
    if word.is_multiple_of(4) { FIRST + word / 4 } else { libc::NFT_REG32_00 as u32 + word }
}

/// A libnftnl expression that nobody else holds yet.
struct Raw(NonNull<sys::nftnl_expr>);

impl Raw {
    fn new(kind: &CStr) -> Raw {
        // SAFETY: the name is a C string, which libnftnl only reads.
        let expr = unsafe { sys::nftnl_expr_alloc(kind.as_ptr()) };
        Raw(NonNull::new(expr).unwrap_or_else(|| panic!("libnftnl does not know the expression {kind:?}, or memory is exhausted")))
    }

    fn u16(self, attribute: u32, value: u16) -> Raw {
        // SAFETY: as above.
        unsafe { sys::nftnl_expr_set_u16(self.0.as_ptr(), attribute as u16, value) };
        self
    }

    fn u32(self, attribute: u32, value: u32) -> Raw {
        // SAFETY: as above.
        unsafe { sys::nftnl_expr_set_u32(self.0.as_ptr(), attribute as u16, value) };
        self
    }

    fn u64(self, attribute: u32, value: u64) -> Raw {
        // SAFETY: as above.
        unsafe { sys::nftnl_expr_set_u64(self.0.as_ptr(), attribute as u16, value) };
        self
    }

    /// libnftnl copies the bytes.
    fn data(self, attribute: u32, value: &[u8]) -> Raw {
        // SAFETY: the expression is ours, and pointer and length describe one slice.
        let outcome = unsafe { sys::nftnl_expr_set(self.0.as_ptr(), attribute as u16, value.as_ptr().cast(), value.len() as u32) };
        assert!(outcome == 0, "memory is exhausted");
        self
    }

    fn text(self, attribute: u32, value: &CStr) -> Raw {
        // SAFETY: the expression is ours; libnftnl copies the C string.
        let outcome = unsafe { sys::nftnl_expr_set_str(self.0.as_ptr(), attribute as u16, value.as_ptr()) };
        assert!(outcome == 0, "memory is exhausted");
        self
    }

    /// The rule that takes it frees it.
    fn hand_over(self) -> NonNull<sys::nftnl_expr> {
        self.0
    }
}

/// Implements nftnl's trait for an expression whose `build` gives a [`Raw`].
macro_rules! expression {
    ($type:ty) => {
        impl nftnl::expr::Expression for $type {
            fn to_expr(&self, _rule: &nftnl::Rule) -> std::ptr::NonNull<nftnl::nftnl_sys::nftnl_expr> {
                self.build().hand_over()
            }
        }
    };
}
use expression;
