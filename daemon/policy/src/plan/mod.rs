//! Everything the box should be, compiled from one policy.

pub mod proxy;
pub mod proxy_text;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::name::{IfName, Name};
use crate::ruleset::Ruleset;

/// Everything the box should be. Equal policies give equal plans, and equal plans print as equal text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub hostname: String,
    /// Which ports are trusted alike; a zone may have none. Nothing is installed from it: it lets the plan be told in the words of the policy.
    pub zones: BTreeMap<Name, BTreeSet<IfName>>,
    pub links: BTreeMap<IfName, Link>,
    pub routes: BTreeSet<Route>,
    /// Policy routing rules, in order of preference.
    pub route_rules: BTreeSet<RouteRule>,
    /// `net/ipv4/ip_forward` → `1`. Written in order, but forwarding always last.
    pub sysctls: BTreeMap<String, String>,
    pub ruleset: Ruleset,
    /// Sets whose elements come and go with the time of day.
    pub schedules: BTreeMap<Name, Schedule>,
    /// Clients that are carried to upstreams, and by nothing else.
    pub proxy: proxy::Proxy,
    /// Zones out of which nothing is forwarded: their clients are mapped, or go nowhere.
    pub proxied: BTreeSet<Name>,
    pub files: BTreeMap<String, File>,
    pub units: BTreeMap<String, UnitState>,
}

impl Plan {
    /// Equal digests mean equal text, and therefore the same box.
    pub fn digest(&self) -> Digest {
        use sha2::Digest as _;
        let hash = sha2::Sha256::digest(self.to_string().as_bytes());
        Digest(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The identity of a plan: SHA-256 over its text form, as 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub String);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Bytes; None leaves the driver's value.
    pub mtu: Option<u32>,
    pub addresses: BTreeSet<IpNet>,
    pub dhcp4: bool,
    /// Stateless configuration and DHCPv6 of a leased uplink.
    pub dhcp6: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub destination: IpNet,
    pub kind: RouteKind,
    pub metric: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteKind {
    Via { gateway: std::net::IpAddr, interface: IfName },
    Direct { interface: IfName },
    Blackhole,
    Unreachable,
}

/// One `ip rule`, in both families.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteRule {
    pub preference: u32,
    pub selector: RouteSelector,
    pub action: RouteAction,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteSelector {
    /// `iif lo`: what the box itself sends.
    FromBox,
    /// `not fwmark VALUE/MASK`: what no rule of ours has let in.
    WithoutMark { mask: u32, value: u32 },
    /// `fwmark VALUE/MASK`
    Mark { mask: u32, value: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteAction {
    /// The main table.
    Main,
    /// Table 100, in which there is one route, `local default dev lo`: delivered here, whatever the destination.
    Deliver,
    Unreachable,
}

/// A weekly timetable. While it is `open`, the applier keeps `{ ipv4, ipv6 }` in the named set (key: `NfProto`), each with a timeout
/// that ends with the window: the kernel closes it even if the applier is gone. A rule that permits looks for the element; a rule
/// that forbids looks for its absence and is given the complement, so in both cases a permit is something that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub set: String,
    /// IANA name; windows are local time there.
    pub timezone: String,
    /// Sorted, never overlapping.
    pub open: Vec<Window>,
}

/// Minutes since Monday 00:00 local time, end exclusive, at most 10,080.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Window {
    pub from: u16,
    pub to: u16,
}

/// A file of a driven service, rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub text: String,
    pub mode: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitState {
    Running,
    Stopped,
}
