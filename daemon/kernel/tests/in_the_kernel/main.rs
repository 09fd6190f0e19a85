//! What the kernel makes of what we tell it. Every story plays in network namespaces of its own and needs root.

mod away;
mod big;
mod build;
mod capture;
mod encoding;
mod far;
mod living;
mod random;
mod routing;
mod sockets;
mod space;
mod takeover;
mod tc;
