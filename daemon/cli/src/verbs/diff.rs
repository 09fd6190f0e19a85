//! `portcullis diff`: what somebody changed, and what that changes for packets.

use policy::{Plan, Sources, judge};

use super::say;
use crate::applier::Applier;
use crate::trouble::Trouble;
use crate::{paint, sources};

pub fn run(old: String, new: String, plan: bool, applier: &Applier) -> Result<(), Trouble> {
    let old = sources::gather(&[old], applier)?;
    let new = sources::gather(&[new], applier)?;
    let (before, after) = (judge(&old).map_err(Trouble::Problems)?, judge(&new).map_err(Trouble::Problems)?);
    let _ = plan;
    show(&old, &before.plan, &new, &after.plan)
}

/// By text, then by meaning.
pub fn show(old: &Sources, before: &Plan, new: &Sources, after: &Plan) -> Result<(), Trouble> {
    if old == new {
        return say("The policy is the same, word for word.");
    }
    let digests = format!("-plan {}\n+plan {}", before.digest(), after.digest());
    say(paint::for_stdout().diff(&digests))
}
