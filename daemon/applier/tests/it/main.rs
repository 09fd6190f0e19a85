//! The applier as a real process on the real kernel, in network namespaces. Needs root, and fails without it.

mod applier;
mod forwarder;
mod namespace;
mod office;

mod commit;
mod crash;
mod leak;
mod lease;
mod mapped;
mod socket;
mod watch;
