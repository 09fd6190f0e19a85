//! What the kernel is told and what it answers, over netlink and /proc/sys. The only crate with unsafe code.
//!
//! ```text
//! Plan ──┬─ ruleset ─▶ nft::Nft ─────── one atomic batch ──▶ nf_tables
//!        ├─ links ───▶ links ─────┐
//!        ├─ routes ──▶ routes ────┼──── by difference ─────▶ rtnetlink
//!        ├─ rules ───▶ rules ─────┘
//!        └─ sysctls ─▶ sysctl ────── forwarding last ──────▶ /proc/sys
//!
//! kernel ──▶ differences (drift), counters, links, connections, and who changed the tables (nft::Monitor)
//! ```
//!
//! It decides nothing: it makes the kernel equal to what it is given, or says what it could not do. It never reads a
//! policy, starts no process, opens no file outside /proc/sys and /sys/class/net, and works in the network namespace
//! of the calling thread.

pub mod conntrack;
mod deliver;
mod error;
pub mod links;
mod netlink;

pub mod nft;
pub mod routes;
pub mod rules;
pub mod sockets;
pub mod stats;
pub mod sysctl;
pub mod tc;

pub use error::Error;
pub use nft::Nft;

/// One place where the kernel is not what the plan says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// `table inet portcullis, chain forward, rule 3 (lan-out/web)`, `link lan0`, `sysctl net/ipv4/ip_forward`.
    pub what: String,
    pub expected: String,
    pub found: String,
}
