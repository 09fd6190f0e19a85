//! The policy that a box comes with: confirmed by whoever built the image.

use std::fs;
use std::path::Path;

use policy::{Sources, judge};

use crate::clock::now;
use crate::machine::Number;
use crate::store::{Disk, Store};

/// Judged like any other, stored as a generation, and confirmed.
pub fn adopt(store: &mut Store<impl Disk>, file: &Path, number: Number) -> Result<Number, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let name = file.file_name().map_or("factory.yaml".into(), |name| name.to_string_lossy().into_owned());
    let sources = Sources::single(name, text);
    let judged = judge(&sources).map_err(|problems| problems.to_string())?;
    store.save(number, &sources, &judged.digest, "factory", now().wall).map_err(|error| error.to_string())?;
    store.point(Some(number), "factory").map_err(|error| error.to_string())?;
    Ok(number)
}
