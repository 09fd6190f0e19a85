use std::net::IpAddr;

use super::{Pem, Prefix};
use crate::name::Name;
use crate::shape::shape;

shape! {
    /// A proxy server that carries clients' connections.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Upstream {
        pub kind: UpstreamType,
        /// Where the proxy is. An address: a name would have to be resolved outside of the proxy.
        pub address: IpAddr,
        /// TCP port.
        pub port: u16,
        /// For SOCKS5 user name and password (RFC 1929) or HTTP Basic (RFC 7617).
        pub username: Option<String> = None,
        /// Name of the secret with the password. Its value is set on the page, by the API or by `portcullis secret set`, and never stands in a policy.
        pub password_secret: Option<Name> = None,
        /// What the probe asks for, through the upstream: an http address whose answer holds the address that asked.
        pub probe: String = "http://api.ipify.org/".to_owned(),
        /// Addresses and prefixes at which the upstream must come out. Left out: anywhere but at an address of the box.
        pub expect_exit: Vec<Prefix> = Vec::new(),
    }
}

shape! {
    #[tag = "type"]
    /// `type:` in the text, with the fields that belong to it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum UpstreamType {
        /// SOCKS version 5 (RFC 1928).
        Socks5 {
            /// Whether UDP can be carried (UDP ASSOCIATE).
            udp: bool = true,
        },
        /// SOCKS version 5 inside TLS; TCP only.
        Socks5Tls {
            /// The name that the certificate must carry. Left out: the address must be in it.
            server_name: Option<String> = None,
            /// PEM of the authority that signed the certificate. Left out: the machine's own authorities.
            authority: Option<Pem> = None,
        },
        /// HTTP CONNECT (RFC 9110 section 9.3.6); TCP only.
        HttpConnect {},
        /// HTTP CONNECT inside TLS; TCP only.
        HttpsConnect {
            /// The name that the certificate must carry. Left out: the address must be in it.
            server_name: Option<String> = None,
            /// PEM of the authority that signed the certificate. Left out: the machine's own authorities.
            authority: Option<Pem> = None,
        },
    }
}
