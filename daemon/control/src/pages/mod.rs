//! Pages for people: HTML made here, complete without a script.
//!
//! Each page is one file: its data (what the template sees), a function that decides everything the page says, and the handlers. Templates
//! in `templates/pages/` only loop and print. A handler never asks who may: its route says it.

pub mod dashboard;
pub mod drift;
pub mod error;
pub mod firewall;
pub mod format;
pub mod gate;
pub mod live;
pub mod page;
#[cfg(test)]
pub mod sample;
pub mod shell;
pub mod spark;
pub mod theme;
pub mod ui;

use crate::http::Route;

pub use error::error_page;

/// Every address that people may open.
pub fn routes() -> impl Iterator<Item = Route> {
    [dashboard::ROUTES, firewall::ROUTES, drift::ROUTES, live::ROUTES, theme::ROUTES].into_iter().flatten().copied()
}
