use std::time::Duration;

use super::{AddressTerm, ZoneTerm};

/// The box itself. A policy has exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    pub hostname: String,
    /// IANA name, `Europe/Berlin`; schedules and pages use it. Default `UTC`.
    pub timezone: String,
    pub admin: Admin,
    /// What the box itself may send. Default `accept`.
    pub output: OutputPosture,
    /// How long a change stays on trial before it goes back by itself. Default 60 s, 10 s to 1 h.
    pub confirm_within: Duration,
    /// What happens when the kernel no longer equals the plan. Default `repair`.
    pub drift: Drift,
    /// What happens when a file in the policy folder changes. Default `wait`.
    pub hot_reload: HotReload,
    /// Requests a minute and client address that pages and API answer. Default 100.
    pub requests_per_minute: u32,
}

/// From where the pages, the API and ssh can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// At least one; `any` is refused.
    pub zones: Vec<ZoneTerm>,
    /// Empty means every address of those zones.
    pub sources: Vec<AddressTerm>,
    /// TCP port of the pages and the API. Default 443.
    pub port: u16,
    /// Whether ssh (TCP 22) is open to the same people. Default false.
    pub ssh: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputPosture {
    /// The box may send anything.
    Accept,
    /// Only answers, DHCP, DNS, NTP, ICMP, neighbour discovery and what rules `from: [box]` name.
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    Repair,
    Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HotReload {
    /// The candidate waits on the page.
    Wait,
    /// The candidate is applied on trial and goes back unless someone confirms it.
    Apply,
}
