//! The policy of a Portcullis box, from the text that people write to the plan that the kernel gets.
//!
//! ```text
//! Sources ──read──▶ Config ──check──▶ Checked ──compile──▶ Plan ──▶ text, digest
//!    (YAML)            │                              │
//!                      └── every Problem at once      ├──▶ explain(packet)   one packet's way through it
//!                                                     ├──▶ prove(assertion)  the whole packet space
//!                                                     └──▶ changes(old, new) what is newly permitted
//! ```
//!
//! This crate opens no file, reads no clock, asks no kernel and holds no unsafe code. The same input gives the
//! same plan and the same digest on every machine, which is what lets two processes agree on what will be applied.

#![forbid(unsafe_code)]

pub mod check;
pub mod compile;
pub mod csv;
pub mod diff;
pub mod edit;
pub mod explain;
pub mod first;
pub mod judge;
pub mod management;
pub mod meaning;
pub mod messages;
pub mod model;
pub mod name;
pub mod plan;
pub mod problem;
pub mod prove;
pub mod read;
pub mod reference;
pub mod ruleset;
pub mod schema;
pub mod seed;
pub mod services;
pub mod shape;
pub mod simulate;
pub mod source;
pub mod space;
pub mod starting;
pub mod url;

pub use check::Checked;
pub use compile::compile;
pub use diff::diff_text;
pub use explain::{Explanation, Query, explain};
pub use judge::{Judged, judge, load};
pub use management::management_only;
pub use meaning::{Change, Changes, changes};
pub use plan::{Digest, Plan};
pub use problem::{Problem, Problems};
pub use prove::{Failure, prove};
pub use schema::schema;
pub use source::{Origin, Sources};
pub use starting::{StartingPoint, starting_points};
