use std::time::Duration;

use super::{AddressTerm, ZoneTerm};
use crate::shape::shape;

shape! {
    /// The box itself. A policy has exactly one.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct System {
        /// Letters, digits and hyphens; dots between several labels (RFC 1123, section 2.1).
        pub hostname: String,
        /// IANA name, `Europe/Berlin`; schedules and pages use it. Default `UTC`.
        pub timezone: String = "UTC".to_owned(),
        /// From where the box can be administered.
        pub admin: Admin,
        /// What the box itself may send. Default `accept`.
        pub output: OutputPosture = OutputPosture::Accept,
        /// How long a change stays on trial before it goes back by itself. Default 60 s, 10 s to 1 h.
        pub confirm_within: Duration = Duration::from_secs(60),
        /// What happens when the kernel no longer equals the plan. Default `repair`.
        pub drift: Drift = Drift::Repair,
        /// What happens when a file in the policy folder changes. Default `wait`.
        pub hot_reload: HotReload = HotReload::Wait,
        /// Requests a minute and client address that pages and API answer. Default 100.
        pub requests_per_minute: u32 = 100,
    }
}

shape! {
    /// From where the pages, the API and ssh can be reached.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Admin {
        /// At least one; `any` is refused.
        pub zones: Vec<ZoneTerm>,
        /// Empty means every address of those zones.
        pub sources: Vec<AddressTerm> = Vec::new(),
        /// TCP port of the pages and the API. Default 443.
        pub port: u16 = 443,
        /// Whether ssh (TCP 22) is open to the same people. Default false.
        pub ssh: bool = false,
    }
}

shape! {
    /// What the box itself may send.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum OutputPosture {
        /// The box may send anything.
        Accept,
        /// Only answers, DHCP, DNS, NTP, ICMP, neighbour discovery and what rules `from: [box]` name.
        Strict,
    }
}

shape! {
    /// What happens when the kernel no longer equals the plan.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Drift {
        /// The plan is installed again, and the difference is recorded.
        Repair,
        /// The difference is only recorded.
        Report,
    }
}

shape! {
    /// What happens when a file in the policy folder changes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum HotReload {
        /// The candidate waits on the page.
        Wait,
        /// The candidate is applied on trial and goes back unless someone confirms it.
        Apply,
    }
}
