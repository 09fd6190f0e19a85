//! `portcullis`: the terminal's door to the box.
//!
//! ```text
//! check, plan, diff, explain, schema, new      files only: no root, no box, nothing is changed
//! apply, confirm, rollback, status, counters,  one connection to the applier's socket each
//! sources, secret
//! console                                      a menu for people who are in trouble: asks every process, needs none
//! proxy                                        the forwarder's socket, and for status the applier's
//! mappings                                     like plan; an import that is applied goes the way of apply
//! ```
//!
//! It keeps no state, decides nothing and knows no kernel: what it shows comes from `policy`, what it changes is
//! asked of the applier.

#![forbid(unsafe_code)]

mod applier;
mod args;
mod console;
mod forwarder;
mod paint;
mod sources;
mod trouble;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use args::Args;

fn main() -> ExitCode {
    // clap itself leaves with 0 for help and 2 for wrong usage.
    let args = Args::parse();
    match verbs::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            trouble.tell();
            trouble.exit_code()
        }
    }
}
