use std::ffi::CString;

use super::{Raw, expression, sys};

/// To whoever listens on the NFLOG group, or else to the kernel's own log.
pub struct Log {
    pub prefix: CString,
    pub group: Option<u16>,
}

expression!(Log);

impl Log {
    pub(super) fn build(&self) -> Raw {
        const WARNING: u32 = 4; // LOGLEVEL_WARNING, the kernel's default, said so that it reads back equal
        let log = if self.prefix.is_empty() { Raw::new(c"log") } else { Raw::new(c"log").text(sys::NFTNL_EXPR_LOG_PREFIX, &self.prefix) };
        match self.group {
            Some(group) => log.u16(sys::NFTNL_EXPR_LOG_GROUP, group),
            None => log.u32(sys::NFTNL_EXPR_LOG_LEVEL, WARNING),
        }
    }
}
