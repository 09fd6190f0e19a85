//! The room of the observer: it turns what the box sees into events and alerts, unprivileged, in its own databases and under its own
//! memory limit. Watching never hurts carrying: nothing that carries waits for it, and losing it loses history only.
//!
//! ```text
//! Suricata ── unix stream ──▶ sources ─▶ queue ─▶ keeper ─▶ store   (events, in partitions)
//! eve.json ── tail ─────────▶    │     (bounded)    ├─────▶ detect  (state, event, now) -> finding
//!                                └ drops are counted └─────▶ alerts  ──▶ serve ──▶ control
//! ```
//!
//! It opens no network socket, and writes nowhere but in its own folder.

#![forbid(unsafe_code)]

pub mod alerts;
pub mod detect;
pub mod eve;
pub mod keeper;
pub mod options;
pub mod queue;
pub mod seen;
pub mod serve;
pub mod sources;
pub mod store;
