//! The text form is what nft accepts: every case's ruleset is loaded into a fresh network namespace, twice, since it has to
//! replace itself. Needs root, and fails rather than skips without.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use policy::{Sources, compile, load};

#[test]
fn nft_accepts_every_ruleset_and_replaces_it() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    let base = std::fs::read_to_string(root.join("base.yaml")).unwrap();
    let mut loaded = 0;
    for case in children(&root.join("plan")) {
        let text = std::fs::read_to_string(case.join("config.yaml")).unwrap();
        let stands_on_base = !text.contains("kind: System");
        let mut sources = Sources::single("config.yaml", text);
        if stands_on_base {
            sources.0.insert("base.yaml".to_owned(), base.clone());
        }
        let checked = load(&sources).unwrap_or_else(|problems| panic!("{}\n{problems}", case.display()));
        let script = compile(&checked).ruleset.script();
        nft(&script).unwrap_or_else(|said| panic!("{}: nft refuses\n{said}\n{script}", case.display()));
        loaded += 1;
    }
    assert!(loaded > 30, "only {loaded} cases were loaded");
}

fn children(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Loads the script twice in one new namespace.
fn nft(script: &str) -> Result<(), String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    let twice = r#"nft -f "$0" && nft -f "$0" && nft list table inet portcullis > /dev/null"#;
    let output = Command::new("unshare").args(["-n", "sh", "-c", twice]).arg(file.path()).stdin(Stdio::null()).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
