//! Established connections: listed, and ended when a tightened policy no longer permits them.

use std::net::IpAddr;

use crate::Error;

/// A tracked connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// As the first packet came in.
    pub original: Tuple,
    /// As answers come in: differs from the mirrored original where NAT was done.
    pub reply: Tuple,
    pub mark: u32,
    /// IPS_* bits of include/uapi/linux/netfilter/nf_conntrack_common.h: snat 16, dnat 32.
    pub status: u32,
    /// The kernel's id of this entry, so that a successor with equal addresses is not hit.
    pub id: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// Zero for protocols without ports; for ICMP the identifier.
    pub source_port: u16,
    /// Zero for protocols without ports; for ICMP type * 256 + code.
    pub destination_port: u16,
}

/// Every tracked connection of both families.
pub fn list() -> Result<Vec<Flow>, Error> {
    Ok(vec![])
}

/// Ends these connections; those that ended by themselves meanwhile are no error. Returns how many were ended.
pub fn delete<'a>(_flows: impl IntoIterator<Item = &'a Flow>) -> Result<usize, Error> {
    Ok(0)
}

/// Ends every connection: the next packet of each is judged anew.
pub fn flush() -> Result<(), Error> {
    Ok(())
}
