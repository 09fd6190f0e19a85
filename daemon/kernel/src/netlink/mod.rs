//! The two things that every netlink family shares: messages made of attributes, and a conversation with the kernel.

mod attributes;
mod messages;
mod route;
mod talk;

pub use attributes::Attributes;
pub use messages::{HEADER, Messages};
pub use route::{OURS, RouteTalk};
pub use talk::{Enough, Fault, Talk, first, read_fault};
