//! Puts `templates/pages/` into the binary: templates by their path, assets as bytes. A release needs no files beside it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../templates/pages");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    walk(&root, &root, &mut files)?;
    files.sort();

    let mut text = String::from("pub const TEMPLATES: &[(&str, &str)] = &[\n");
    for (name, path) in files.iter().filter(|(name, _)| !name.starts_with("assets/")) {
        writeln!(text, "    ({name:?}, include_str!({path:?})),").expect("writing to a string");
    }
    text.push_str("];\npub const ASSETS: &[(&str, &[u8])] = &[\n");
    for (name, path) in files.iter().filter_map(|(name, path)| name.strip_prefix("assets/").map(|name| (name, path))) {
        writeln!(text, "    ({name:?}, include_bytes!({path:?})),").expect("writing to a string");
    }
    text.push_str("];\n");
    fs::write(PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("embedded.rs"), text)
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        // A checkout without pages still builds: the API needs none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            println!("cargo::rerun-if-changed={}", path.display());
            walk(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root).expect("walked from root").to_string_lossy().into_owned();
            files.push((name, path.canonicalize()?));
        }
    }
    Ok(())
}
