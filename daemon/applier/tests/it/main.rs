//! The applier as a real process on the real kernel, in network namespaces. Needs root, and fails without it.

mod applier;
mod namespace;
mod office;

mod commit;
mod crash;
mod leak;
mod lease;
mod socket;
mod watch;
