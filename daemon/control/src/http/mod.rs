//! HTTP as the handlers see it: a `Request` comes in whole, a `Response` goes out whole or as a stream of events.
//!
//! ```text
//! HAProxy ──unix──▶ server (tiny_http, the only file that knows it)
//!                     │  head            Router::admit   rate, route, who, may they?   → how many bytes of body are read
//!                     │  head and body   Router::serve   CSRF, the handler, trouble as a page or as problem+json
//!                     ◀── Response
//! ```

mod bucket;
mod cookie;
mod fields;
mod header;
mod multipart;
mod request;
mod response;
mod router;
pub mod server;
pub mod upload;

pub use bucket::Buckets;
pub use cookie::Cookie;
pub use fields::Fields;
pub use header::HeaderValue;
pub use request::{Client, Method, Request};
pub use response::{Body, Event, Events, Response};
pub use router::{Access, Admitted, Handler, Route, Router, Visit};
