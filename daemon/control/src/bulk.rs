//! Mappings as one table: out of a policy, and into the candidate. Columns and their meaning are `policy::csv`'s.

use policy::Sources;
use policy::name::Name;

use crate::actor::Actor;
use crate::audit::Note;
use crate::candidate::{self, Candidate};
use crate::site::Site;
use crate::trouble::Trouble;

/// The name under which the table is saved, and its lines are told.
pub const FILE: &str = "mappings.csv";

/// Every mapping of a policy, one a line. What cannot be read is not in it, so a policy with problems gives none.
pub fn export(sources: &Sources) -> Result<String, Trouble> {
    let checked = policy::load(sources).map_err(Trouble::Policy)?;
    Ok(policy::csv::export(checked.config()))
}

/// What an import did to the candidate.
pub struct Imported {
    pub candidate: Candidate,
    pub added: usize,
    pub changed: usize,
    pub unchanged: usize,
}

/// Every line of the table becomes a mapping of the candidate, or with a single bad line none does and each bad one is told.
pub fn import(site: &Site, actor: &Actor, version: u64, csv: &str) -> Result<Imported, Trouble> {
    let sources = candidate::get(site)?.sources;
    let table = policy::csv::import(csv, &sources).map_err(Trouble::Policy)?;
    let (added, changed, unchanged) = (table.added.len(), table.changed.len(), table.unchanged);
    // With every name, so that the log can be searched for each.
    let names = |what: &str, names: &[Name]| {
        let names: Vec<&str> = names.iter().map(Name::as_str).collect();
        if names.is_empty() { String::new() } else { format!("; {what}: {}", names.join(", ")) }
    };
    let counts = format!("{added} added, {changed} changed, {unchanged} as they were");
    let detail = format!("{counts}{}{}", names("added", &table.added), names("changed", &table.changed));
    let note = Note::new("mappings.import", format!("candidate version {}", version + 1), detail);
    let saved = candidate::save_noted(site, actor, version, table.sources, Some(note))?;
    Ok(Imported { candidate: saved, added, changed, unchanged })
}
