//! `portcullis sources`: the policy as its author wrote it, from the generations that the applier keeps.

use std::fs;
use std::path::{Path, PathBuf};

use policy::Sources;
use policy::messages::{ApplierRequest, ApplierResponse};

use super::{say, say_json};
use crate::applier::Applier;
use crate::paint;
use crate::trouble::Trouble;

pub fn run(generation: Option<u64>, output: Option<PathBuf>, json: bool, applier: &Applier) -> Result<(), Trouble> {
    let (generation, sources) = match applier.ask(&ApplierRequest::Sources { generation })? {
        ApplierResponse::Sources { generation, sources } => (generation, sources),
        other => return Err(Applier::unexpected(other)),
    };
    match output {
        Some(folder) => {
            write(&folder, &sources)?;
            say(format!("generation {generation}: {} files in {}", sources.0.len(), folder.display()))
        }
        None if json => say_json(&sources),
        None => print(&sources),
    }
}

fn print(sources: &Sources) -> Result<(), Trouble> {
    let paint = paint::for_stdout();
    sources.0.iter().try_for_each(|(name, text)| say(format!("{}\n{text}", paint.faint(&format!("# {name}")))))
}

pub fn write(folder: &Path, sources: &Sources) -> Result<(), Trouble> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Trouble::File(path, error)
    };
    // A file left over from another policy would become part of this one.
    fs::create_dir(folder).map_err(failed(folder))?;
    for (name, text) in &sources.0 {
        let plain = Path::new(name).file_name().is_some_and(|file| file.to_str() == Some(name));
        if !plain {
            return Err(Trouble::Garbled(format!("a file of the policy is called {name:?}")));
        }
        let file = folder.join(name);
        fs::write(&file, text).map_err(failed(&file))?;
    }
    Ok(())
}
