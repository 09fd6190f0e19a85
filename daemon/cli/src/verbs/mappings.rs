//! `portcullis mappings`: every mapping as a line of a table, out of a policy and into one.

use std::fs::File;
use std::path::Path;

use policy::csv::Imported;

use super::{apply, say, sources as written};
use crate::applier::Applier;
use crate::args::Mappings;
use crate::sources;
use crate::trouble::Trouble;

pub fn run(verb: Mappings, applier: &Applier) -> Result<(), Trouble> {
    match verb {
        Mappings::Export { paths } => export(paths, applier),
        Mappings::Import { table, policy, output, confirm_within, yes, json } => {
            let Imported { sources, added, changed, unchanged } = import(&table, policy, applier)?;
            if !json {
                say(format!("{} mappings added, {} changed, {unchanged} as they were", added.len(), changed.len()))?;
            }
            match output {
                None => apply::put_on_trial(sources, confirm_within, yes, json, applier),
                Some(folder) => {
                    written::write(&folder, &sources)?;
                    say(format!("{} files in {}", sources.0.len(), folder.display()))
                }
            }
        }
    }
}

fn export(mut paths: Vec<String>, applier: &Applier) -> Result<(), Trouble> {
    if paths.is_empty() {
        paths.push("@running".to_owned());
    }
    let checked = policy::load(&sources::gather(&paths, applier)?).map_err(Trouble::Problems)?;
    say(policy::csv::export(checked.config()))
}

fn import(table: &Path, policy: Option<String>, applier: &Applier) -> Result<Imported, Trouble> {
    let text = if table == Path::new("-") {
        sources::text(Path::new("standard input"), std::io::stdin().lock())?
    } else {
        sources::text(table, File::open(table).map_err(|error| Trouble::File(table.to_owned(), error))?)?
    };
    let policy = policy.unwrap_or_else(|| "@running".to_owned());
    policy::csv::import(&text, &sources::gather(&[policy], applier)?).map_err(Trouble::Problems)
}
