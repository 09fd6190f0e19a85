//! Questions of mapped clients to port 53, whomever they are sent to.
//!
//! ```text
//!   datagram ─┐               ┌─ Proxied: DNS over TCP (RFC 7766) to the server that was asked ─┐
//!             ├─▶ Resolver ───┤                                                                 ├─▶ tunnel ─▶ upstream
//!   stream ───┘               └─ DohStub: DNS over HTTPS (RFC 8484) to the policy's server ─────┘
//! ```
//!
//! Nothing is cached, and nothing is ever asked but through the upstream. What gets no answer is answered by SERVFAIL, so that a client
//! goes on at once; what is no question is dropped.

mod connection;
mod framing;
mod http;
mod message;
mod resolver;
mod stream;

pub use resolver::Resolver;

#[cfg(test)]
pub use message::samples;
