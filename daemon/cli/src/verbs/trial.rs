//! `portcullis confirm` and `portcullis rollback`: how a trial ends when somebody ends it.

use policy::messages::{ApplierRequest, ApplierResponse};

use super::{say, say_json};
use crate::applier::{Applier, myself};
use crate::paint;
use crate::trouble::Trouble;

pub fn confirm(generation: Option<u64>, json: bool, applier: &Applier) -> Result<(), Trouble> {
    let generation = match generation {
        Some(generation) => generation,
        None => on_trial(applier)?,
    };
    let answer = applier.ask(&ApplierRequest::Confirm { generation, by: myself() })?;
    if json {
        return say_json(&answer);
    }
    match answer {
        ApplierResponse::Confirmed { generation } => {
            say(format!("{}: generation {generation} stays, also after a restart", paint::for_stdout().good("confirmed")))
        }
        other => Err(Applier::unexpected(other)),
    }
}

pub fn roll_back(generation: Option<u64>, json: bool, applier: &Applier) -> Result<(), Trouble> {
    let answer = applier.ask(&ApplierRequest::GoBack { generation, by: myself() })?;
    if json {
        return say_json(&answer);
    }
    match answer {
        ApplierResponse::WentBack { generation } => say(format!("the box is back at generation {generation}")),
        ApplierResponse::OnTrial { generation, .. } => {
            say(format!("on trial as generation {generation}; open a new connection and say `portcullis confirm` to keep it"))
        }
        other => Err(Applier::unexpected(other)),
    }
}

fn on_trial(applier: &Applier) -> Result<u64, Trouble> {
    match applier.ask(&ApplierRequest::Status)? {
        ApplierResponse::Status(status) => {
            let trial = status.trial.ok_or_else(|| Trouble::Refused("nothing is on trial, so there is nothing to confirm".to_owned()))?;
            Ok(trial.generation)
        }
        other => Err(Applier::unexpected(other)),
    }
}
