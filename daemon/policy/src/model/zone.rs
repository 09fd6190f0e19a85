use crate::shape::shape;

shape! {
    /// Ports that are trusted alike. Nothing passes between zones, nor inside one, unless a rule permits it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Zone {
        /// Drop packets whose source cannot live behind the port that they arrived on. Default true.
        pub anti_spoofing: bool = true,
        /// Nothing that arrives from this zone is forwarded, whatever rules say: its clients leave through the upstreams that they are mapped to, or not at all. Default false.
        pub proxied: bool = false,
    }
}
