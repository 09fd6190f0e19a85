//! `portcullis plan`: what `apply` would make of the box, word for word what the digest covers.

use policy::judge;

use super::say;
use crate::applier::Applier;
use crate::sources;
use crate::trouble::Trouble;

pub fn run(paths: &[String], digest: bool, ruleset: bool, applier: &Applier) -> Result<(), Trouble> {
    let judged = judge(&sources::gather(paths, applier)?).map_err(Trouble::Problems)?;
    if digest {
        say(judged.digest.to_string())
    } else if ruleset {
        say(judged.plan.ruleset.to_string())
    } else {
        say(judged.plan.to_string())
    }
}
