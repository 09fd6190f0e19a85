//! What the kernel is told and what it answers, over netlink. The only crate with unsafe code.
