//! The forwarder as a process, in a network namespace of its own, between clients and upstreams that are real.
//!
//! The applier alone is played by the test: it owns the other end of the link, so that what it says and when can be chosen to the
//! moment. What the rules of a box would do to packets of mapped clients is done here by one nft rule and by SO_MARK.
//!
//! Without root, or on a machine that cannot, the tests say so and pass.

mod applier;
mod carried;
mod limits;
mod room;
mod secured;
mod trouble;
mod upstreams;
