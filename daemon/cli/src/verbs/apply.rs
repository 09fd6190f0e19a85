//! `portcullis apply`: shows what changes, asks, puts it on trial, and says how to keep it.

use std::io::{BufRead, IsTerminal, Write};

use policy::messages::{ApplierRequest, ApplierResponse};
use policy::{Judged, Sources, judge};

use super::{diff, say, say_json};
use crate::applier::{Applier, myself};
use crate::trouble::Trouble;
use crate::{paint, sources};

pub fn run(paths: &[String], confirm_within: Option<u32>, yes: bool, json: bool, applier: &Applier) -> Result<(), Trouble> {
    put_on_trial(sources::gather(paths, applier)?, confirm_within, yes, json, applier)
}

pub fn put_on_trial(sources: Sources, confirm_within: Option<u32>, yes: bool, json: bool, applier: &Applier) -> Result<(), Trouble> {
    let judged = judge(&sources).map_err(Trouble::Problems)?;
    if !json {
        show(&sources, &judged, applier)?;
    }
    if !yes {
        ask_the_person()?;
    }
    let request = ApplierRequest::Apply { sources, digest: judged.digest, confirm_within, by: myself() };
    let answer = applier.ask(&request)?;
    if json {
        return say_json(&answer);
    }
    match answer {
        ApplierResponse::OnTrial { generation, deadline, phases } => {
            let left = deadline.saturating_sub(now(applier)?).div_ceil(1000);
            let phase = |(phase, microseconds): (&String, &u64)| format!("{phase} {:.1} ms", *microseconds as f64 / 1000.0);
            let phases = phases.iter().map(phase).collect::<Vec<_>>().join(", ");
            let paint = paint::for_stdout();
            say(format!("{}: generation {generation} runs and was read back ({phases})", paint.good("on trial")))?;
            say(paint.strong(&format!("It goes back by itself in {left} s. To keep it, open a NEW connection to the box and say:")))?;
            say(format!("  portcullis confirm {generation}"))
        }
        other => Err(Applier::unexpected(other)),
    }
}

fn show(new: &Sources, judged: &Judged, applier: &Applier) -> Result<(), Trouble> {
    match applier.ask(&ApplierRequest::Status)? {
        ApplierResponse::Status(status) if status.running.is_none() => return say("The box is locked down: this is its first policy."),
        ApplierResponse::Status(_) => {}
        other => return Err(Applier::unexpected(other)),
    }
    match applier.ask(&ApplierRequest::Sources { generation: None })? {
        ApplierResponse::Sources { sources: old, .. } => diff::show(&old, &judge(&old).map_err(Trouble::Problems)?, new, judged),
        other => Err(Applier::unexpected(other)),
    }
}

fn ask_the_person() -> Result<(), Trouble> {
    if !std::io::stdin().is_terminal() {
        return Err(Trouble::Usage("nobody is there to be asked; say --yes to apply without a question".to_owned()));
    }
    eprint!("Apply this on trial? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Trouble::Refused("not applied, as you wished".to_owned())) }
}

/// The applier's clock: the deadline is in its time.
fn now(applier: &Applier) -> Result<u64, Trouble> {
    match applier.ask(&ApplierRequest::Status)? {
        ApplierResponse::Status(status) => Ok(status.now),
        other => Err(Applier::unexpected(other)),
    }
}
