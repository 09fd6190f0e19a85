use std::net::IpAddr;

use super::{ClientTerm, Pem, RuleSchedule};
use crate::name::Name;
use crate::shape::shape;

shape! {
    /// Clients and the upstream that carries them. What cannot be carried is dropped: a mapped client has no other way out.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ProxyMapping {
        /// Addresses, prefixes and hardware addresses. A client that has addresses of both families is named by both, or by its hardware address.
        pub clients: Vec<ClientTerm>,
        /// Name of an Upstream; this or `group`.
        pub upstream: Option<Name> = None,
        /// Name of an UpstreamGroup; this or `upstream`.
        pub group: Option<Name> = None,
        /// How TCP is captured. Default `redirect`.
        pub tcp: CaptureMode = CaptureMode::Redirect,
        /// Whether UDP is carried, by upstreams that can. Default true.
        pub udp: bool = true,
        /// What happens to the client's name resolution.
        pub dns: DnsMode = DnsMode::Drop {},
        /// To the client, megabits a second. Left out: not limited.
        pub down_mbit: Option<u32> = None,
        /// From the client, megabits a second. Left out: not limited.
        pub up_mbit: Option<u32> = None,
        /// Megabytes a day, both directions; then the mapping is blocked until the next. Left out: not limited.
        pub daily_mb: Option<u64> = None,
        /// Megabytes a month, both directions; then the mapping is blocked until the next. Left out: not limited.
        pub monthly_mb: Option<u64> = None,
        /// When the mapping is effective. Left out: always.
        pub schedule: Option<RuleSchedule> = None,
        /// Default true. A mapping that is not enabled still keeps its clients from any other way out.
        pub enabled: bool = true,
    }
}

shape! {
    /// How TCP reaches the forwarder.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum CaptureMode {
        /// By destination NAT to the box.
        Redirect,
        /// By a transparent socket, without NAT.
        Tproxy,
    }
}

shape! {
    #[tag = "dns"]
    /// `dns:` in the text, with the fields that belong to it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum DnsMode {
        /// Port 53 and 853 of the client are dropped.
        Drop {},
        /// Questions are asked over TCP, through the upstream, of the server that the client asked.
        Proxied {},
        /// Questions are asked by DNS over HTTPS (RFC 8484) through the upstream.
        DohStub {
            /// `https://name[:port]/path`.
            doh_url: String = "https://cloudflare-dns.com/dns-query".to_owned(),
            /// Where that name is. Left out: the upstream resolves it.
            doh_server: Option<IpAddr> = None,
            /// PEM of the authority that signed its certificate. Left out: the machine's own authorities.
            doh_authority: Option<Pem> = None,
        },
    }
}
