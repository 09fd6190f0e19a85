//! One file for each thing that can be asked.

mod apply;
mod check;
mod counters;
mod diff;
mod explain;
mod mappings;
mod new;
mod plan;
mod proxy;
mod secret;
mod sources;
mod status;
mod trial;
mod update;

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use crate::applier::Applier;
use crate::args::{Args, Command};
use crate::forwarder::Forwarder;
use crate::trouble::Trouble;

pub fn run(args: Args) -> Result<(), Trouble> {
    let run_dir = args.run_dir.or_else(|| std::env::var_os("PORTCULLIS_RUN_DIR").map(PathBuf::from));
    let run_dir = run_dir.unwrap_or_else(|| PathBuf::from("/run/portcullis"));
    let applier = Applier { socket: run_dir.join("applier.sock") };
    let forwarder = Forwarder { socket: run_dir.join("forwarder.sock") };
    match args.command {
        Command::Check { paths, json } => check::run(&paths, json, &applier),
        Command::Plan { paths, digest, ruleset } => plan::run(&paths, digest, ruleset, &applier),
        Command::Diff { old, new, plan, json } => diff::run(old, new, plan, json, &applier),
        Command::Explain { paths, packet, json } => explain::run(&paths, &packet, json, &applier),
        Command::Schema => say_json(&policy::schema()),
        Command::New { name, output } => new::run(name.as_deref(), output),
        Command::Apply { paths, confirm_within, yes, json } => apply::run(&paths, confirm_within, yes, json, &applier),
        Command::Confirm { generation, json } => trial::confirm(generation, json, &applier),
        Command::Rollback { generation, json } => trial::roll_back(generation, json, &applier),
        Command::Status { compare, json } => status::run(compare, json, &applier),
        Command::Console => crate::console::run(&run_dir),
        Command::Counters { json } => counters::run(json, &applier),
        Command::Proxy(verb) => proxy::run(verb, &applier, &forwarder),
        Command::Secret(verb) => secret::run(verb, &applier),
        Command::Mappings(verb) => mappings::run(verb, &applier),
        Command::Update(verb) => update::run(verb, &run_dir.join("updater.sock")),
        Command::Sources { generation, output, json } => sources::run(generation, output, json, &applier),
    }
}

/// Standard output, failing instead of panicking when nobody reads it.
fn say(text: impl AsRef<str>) -> Result<(), Trouble> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    if !text.as_ref().ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

fn say_json(value: &impl Serialize) -> Result<(), Trouble> {
    say(serde_json::to_string_pretty(value).map_err(|error| Trouble::Garbled(error.to_string()))?)
}
