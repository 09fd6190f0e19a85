//! Pages for people: HTML made here, complete without a script.
//!
//! Each page is one file: its data (what the template sees), a function that decides everything the page says, and the handlers. Templates
//! in `templates/pages/` only loop and print. A handler never asks who may: its route says it.

pub mod account;
pub mod alerts;
pub mod audit;
pub mod connections;
pub mod dashboard;
pub mod datagrams;
pub mod difference;
pub mod drift;
pub mod editor;
pub mod error;
pub mod explain;
pub mod firewall;
pub mod form;
pub mod format;
pub mod gate;
pub mod group;
pub mod history;
pub mod keys;
pub mod latency;
pub mod live;
pub mod login;
pub mod mapping;
pub mod mapping_form;
pub mod mapping_table;
pub mod mappings;
pub mod page;
pub mod policies;
pub mod ports;
pub mod preview;
pub mod resource;
#[cfg(test)]
pub mod sample;
pub mod secrets;
pub mod seen;
pub mod setup;
pub mod shell;
pub mod spark;
pub mod system;
#[cfg(test)]
mod tests;
pub mod theme;
pub mod trial;
pub mod ui;
pub mod update;
pub mod upstream;
pub mod upstream_form;
pub mod upstreams;
pub mod users;

use crate::http::Route;

pub use error::error_page;

/// Every address that people may open.
pub fn routes() -> impl Iterator<Item = Route> {
    [
        setup::ROUTES,
        ports::ROUTES,
        login::ROUTES,
        account::ROUTES,
        theme::ROUTES,
        live::ROUTES,
        dashboard::ROUTES,
        firewall::ROUTES,
        mappings::ROUTES,
        mapping::ROUTES,
        mapping_table::ROUTES,
        upstreams::ROUTES,
        upstream::ROUTES,
        group::ROUTES,
        secrets::ROUTES,
        connections::ROUTES,
        alerts::ROUTES,
        seen::ROUTES,
        policies::ROUTES,
        editor::ROUTES,
        preview::ROUTES,
        trial::ROUTES,
        explain::ROUTES,
        history::ROUTES,
        drift::ROUTES,
        audit::ROUTES,
        users::ROUTES,
        keys::ROUTES,
        system::ROUTES,
        update::ROUTES,
    ]
    .into_iter()
    .flatten()
    .copied()
}
