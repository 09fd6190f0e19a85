//! The program as people run it, without a box and without root.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn portcullis(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis")).args(args).env("PORTCULLIS_RUN_DIR", "/nonexistent").output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn wrong_usage_is_2_and_names_the_remedy() {
    let output = portcullis(&["chekc"]);
    assert_eq!(code(&output), 2);
    assert!(said(&output.stderr).contains("chekc"));
    assert_eq!(code(&portcullis(&["check"])), 2);
    assert_eq!(code(&portcullis(&["--help"])), 0);
}

#[test]
fn a_file_that_is_not_there_is_2_and_named() {
    let output = portcullis(&["check", "/nonexistent/policy.yaml"]);
    assert_eq!(code(&output), 2);
    assert!(said(&output.stderr).contains("/nonexistent/policy.yaml"));
}

#[test]
fn a_folder_without_policy_files_is_2() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "no policy").unwrap();
    fs::write(folder.path().join(".hidden.yaml"), "no policy either").unwrap();
    let output = portcullis(&["check", path(folder.path())]);
    assert_eq!(code(&output), 2);
    assert!(said(&output.stderr).contains("holds no *.yaml file"));
}

#[test]
fn the_same_file_name_twice_is_refused_instead_of_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), "").unwrap();
    let file = folder.path().join("a.yaml");
    let output = portcullis(&["check", path(folder.path()), path(&file)]);
    assert_eq!(code(&output), 2);
    assert!(said(&output.stderr).contains("a.yaml is given twice"));
}

#[test]
fn endless_input_is_a_problem_and_not_the_end_of_memory() {
    let output = portcullis(&["check", "/dev/zero"]);
    assert_eq!(code(&output), 2);
    assert!(said(&output.stderr).contains("larger than 32 MiB"));
}

#[test]
fn a_box_that_does_not_answer_is_4_with_the_reason() {
    let output = portcullis(&["status"]);
    assert_eq!(code(&output), 4);
    let said = said(&output.stderr);
    assert!(said.contains("/nonexistent/applier.sock") && said.contains("because: No such file"), "{said}");
}

#[test]
fn nothing_is_coloured_when_nobody_looks() {
    let output = portcullis(&["status"]);
    assert!(!said(&output.stderr).contains('\x1b'));
}

#[test]
fn the_schema_is_one_json_document_for_editors() {
    let output = portcullis(&["schema"]);
    assert_eq!(code(&output), 0);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["$schema"].as_str().is_some_and(|dialect| dialect.contains("json-schema.org")));
}
