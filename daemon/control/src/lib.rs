//! The unprivileged process behind the pages and the API: users, revisions, audit.
//!
//! ```text
//! HAProxy ──unix──▶ http ──▶ authorize ──▶ pages | api ──▶ revisions, users, audit ──▶ config.db
//!                                                  │
//!                                                  ├──▶ applier (unix) : status, apply, confirm, go back, secrets
//!                                                  └──▶ forwarder (unix) : upstreams, flows, close, probe
//! policy folder ──inotify──▶ hot_reload ──▶ a revision that waits, or goes on trial
//! ```
//!
//! It knows nothing of the kernel, opens no network socket and may do nothing that the applier does not check again.
//! When it dies nothing stops and nothing opens: the applier has its own copy of the policy.

#![forbid(unsafe_code)]

#[cfg(test)]
mod access_tests;
pub mod actor;
pub mod api;
pub mod api_key;
pub mod applier;
pub mod assets;
pub mod audit;
pub mod blocked;
pub mod bulk;
pub mod candidate;
pub mod carried;
pub mod certificate;
pub mod csrf;
pub mod db;
pub mod flags;
pub mod flash;
pub mod forwarder;
pub mod hot_reload;
pub mod http;
pub mod judgement;
pub mod jwt;
pub mod login;
pub mod metrics;
pub mod observer;
pub mod pages;
pub mod password;
pub mod peer;
pub mod pulse;
pub mod render;
pub mod rescue;
pub mod revision;
pub mod role;
pub mod routes;
pub mod secret;
pub mod seed;
pub mod session;
pub mod setup;
pub mod site;
pub mod stick;
#[cfg(test)]
pub mod story;
pub mod throttle;
pub mod ticks;
pub mod traffic;
pub mod trial;
#[cfg(test)]
mod trial_tests;
pub mod trouble;
pub mod updater;
#[cfg(test)]
mod updater_tests;
pub mod user;

pub use actor::Actor;
pub use role::{Action, Role, authorize};
pub use site::Site;
pub use trouble::Trouble;
