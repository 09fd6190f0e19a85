//! Mapped clients: the only way out that they have is the forwarder.

use crate::plan::proxy::Proxy;

use super::Context;

/// Packet mark: on its way to the forwarder; the routing rules deliver it here whatever its destination.
pub const CAPTURED: u32 = 0x2;
/// Packet mark of the forwarder's raw sockets ([`crate::messages::forwarder::SocketKind::Answers4`]).
pub const ANSWER: u32 = 0x4;
/// Packet mark: to be redirected to the port of the forwarder's listener.
pub const REDIRECTED: u32 = 0x8;
/// Bits of packet mark and connection mark that hold the mapping's id; 0 is nobody's.
pub const MAPPING: u32 = 0x00ff_ff00;
pub const MAPPING_SHIFT: u32 = 8;
/// The set of mapping marks that are let in: an element is a permit, held and renewed by the applier.
pub const PERMITS: &str = "proxy_permits";

pub(super) fn plan(_context: &Context<'_>) -> Proxy {
    Proxy::default()
}
