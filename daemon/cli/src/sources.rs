//! From what stands on the command line to a policy's text.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use policy::Sources;
use policy::messages::{ApplierRequest, ApplierResponse, MAX_MESSAGE};

use crate::applier::Applier;
use crate::trouble::Trouble;

/// One policy from any number of files and folders, or from the box.
pub fn gather(paths: &[String], applier: &Applier) -> Result<Sources, Trouble> {
    if let [only] = paths
        && let Some(generation) = only.strip_prefix('@')
    {
        return kept(generation, applier);
    }
    let mut sources = BTreeMap::new();
    for path in paths {
        for (name, text) in read(path)? {
            if sources.insert(name.clone(), text).is_some() {
                return Err(Trouble::Usage(format!("{name} is given twice; the files of one policy need different names")));
            }
        }
    }
    Ok(Sources(sources))
}

/// The text of a generation that the box keeps.
fn kept(generation: &str, applier: &Applier) -> Result<Sources, Trouble> {
    let generation = match generation {
        "running" => None,
        number => Some(number.parse().map_err(|_| Trouble::Usage(format!("@{number} is neither @running nor a generation's number")))?),
    };
    match applier.ask(&ApplierRequest::Sources { generation })? {
        ApplierResponse::Sources { sources, .. } => Ok(sources),
        other => Err(Applier::unexpected(other)),
    }
}

fn read(path: &str) -> Result<Vec<(String, String)>, Trouble> {
    if path == "-" {
        return Ok(vec![("stdin.yaml".to_owned(), text(Path::new("standard input"), std::io::stdin().lock())?)]);
    }
    if path.starts_with('@') {
        return Err(Trouble::Usage(format!("{path} is a whole policy and cannot be joined with files")));
    }
    let path = Path::new(path);
    let files = if path.is_dir() { policy_files(path)? } else { vec![path.to_owned()] };
    files.iter().map(|file| Ok((name(file)?, text(file, File::open(file).map_err(|e| Trouble::File(file.clone(), e))?)?))).collect()
}

/// The `*.yaml` and `*.yml` right inside the folder, as control's policy folder is read.
fn policy_files(folder: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let failed = |e| Trouble::File(folder.to_owned(), e);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Trouble::Usage(format!("{} holds no *.yaml file", folder.display())));
    }
    Ok(files)
}

fn name(file: &Path) -> Result<String, Trouble> {
    let name = file.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| Trouble::Usage(format!("{} has no name in UTF-8", file.display())))
}

/// Never more than one message to the applier could carry, so that /dev/zero is a problem and not the end of memory.
pub fn text(file: &Path, from: impl Read) -> Result<String, Trouble> {
    let mut text = String::new();
    let read = from.take(u64::from(MAX_MESSAGE) + 1).read_to_string(&mut text).map_err(|e| Trouble::File(file.to_owned(), e))?;
    if read > MAX_MESSAGE as usize {
        return Err(Trouble::Usage(format!(
            "{} is larger than {} MiB; split the policy or check the file",
            file.display(),
            MAX_MESSAGE >> 20
        )));
    }
    Ok(text)
}
