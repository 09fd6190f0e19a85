use crate::name::Name;
use crate::shape::shape;

shape! {
    /// Several upstreams, of which those that are up carry. With none up, nothing is carried.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct UpstreamGroup {
        /// How a member is chosen. Default `priority`.
        pub strategy: GroupStrategy = GroupStrategy::Priority,
        /// Names of upstreams; for `priority` the best first.
        pub members: Vec<Name>,
        /// Failures in a row after which a member is failed. Default 2, 1 to 20.
        pub fail_after: u32 = 2,
        /// Good probes in a row after which a failed member is healthy again. Default 2, 1 to 20.
        pub recover_after: u32 = 2,
    }
}

shape! {
    /// How a group chooses.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum GroupStrategy {
        /// The first member that is up.
        Priority,
        /// Each new flow takes the next member that is up.
        RoundRobin,
        /// The member with the shortest probe.
        Latency,
    }
}
