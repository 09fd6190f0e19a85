//! `cases/<behaviour>/`: a `command` is run in that folder, and what it says and how it leaves is compared with `said.txt`.
//!
//! `UPDATE=1 cargo test -p cli` writes the files anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn every_case_says_what_it_said() {
    let mut wrong = Vec::new();
    for case in cases() {
        let said = run(&case);
        let file = case.join("said.txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &said).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != said {
            wrong.push(format!("{}:\n{said}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "these say something else now:\n{}", wrong.join("\n"));
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn run(case: &Path) -> String {
    let command = fs::read_to_string(case.join("command")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(command.split_whitespace())
        .current_dir(case)
        .env("PORTCULLIS_RUN_DIR", "/nonexistent")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| without_digests(std::str::from_utf8(bytes).unwrap());
    format!("{}{}exit {}\n", text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

/// Every change of the compiler changes digests; here only the place where one stands matters.
fn without_digests(text: &str) -> String {
    let digest = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split_inclusive(|c: char| !c.is_ascii_alphanumeric())
        .map(|piece| {
            let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if digest(word) { piece.replace(word, "DIGEST") } else { piece.to_owned() }
        })
        .collect()
}
