//! What people read when the applier answers: a listener plays its part with the real messages.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};
use std::thread;

use policy::messages::{ApplierRequest, ApplierResponse, Inbox, Status, Trial, encode};
use policy::{Problems, Sources};

/// Runs `portcullis` against a box that gives these answers, one a connection; returns what it was asked as well.
fn against(answers: Vec<ApplierResponse>, args: &[&str]) -> (Output, Vec<ApplierRequest>) {
    let run_dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(run_dir.path().join("applier.sock")).unwrap();
    let applier = thread::spawn(move || answers.iter().map(|answer| serve(&listener, answer)).collect());
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("--run-dir").arg(run_dir.path()).args(args).output().unwrap();
    (output, applier.join().unwrap())
}

fn serve(listener: &UnixListener, answer: &ApplierResponse) -> ApplierRequest {
    let (mut stream, _) = listener.accept().unwrap();
    let mut inbox = Inbox::default();
    let mut piece = [0; 4096];
    let request = loop {
        let length = stream.read(&mut piece).unwrap();
        inbox.push(&piece[..length]);
        if let Some(request) = inbox.take().unwrap() {
            break request;
        }
    };
    stream.write_all(&encode(answer).unwrap()).unwrap();
    request
}

fn status(trial: Option<Trial>) -> ApplierResponse {
    let nothing =
        Status { now: 1_000, running: None, trial, last_confirmed: None, last_event: None, drift: vec![], kept: vec![], features: vec![] };
    ApplierResponse::Status(nothing)
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_locked_down_box_says_so() {
    let (output, asked) = against(vec![status(None)], &["status"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(asked, [ApplierRequest::Status]);
    assert!(said(&output.stdout).contains("locked down"));
}

#[test]
fn a_trial_shows_where_it_goes_and_when() {
    let trial = Trial { generation: 8, by: "ada".to_owned(), installed_at: 0, deadline: 31_500, back_to: Some(7) };
    let (output, _) = against(vec![status(Some(trial))], &["status"]);
    assert!(said(&output.stdout).contains("generation 8 by ada, goes back to generation 7 in 31 s unless confirmed"));
}

#[test]
fn confirm_means_the_generation_on_trial() {
    let trial = Trial { generation: 8, by: "ada".to_owned(), installed_at: 0, deadline: 31_500, back_to: None };
    let (output, asked) = against(vec![status(Some(trial)), ApplierResponse::Confirmed { generation: 8 }], &["confirm"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(matches!(asked[1], ApplierRequest::Confirm { generation: 8, .. }));
}

#[test]
fn confirming_nothing_is_3() {
    let (output, _) = against(vec![status(None)], &["confirm"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output.stderr).contains("nothing is on trial"));
}

#[test]
fn a_refusal_is_3_and_tells_the_reason() {
    let refusal = ApplierResponse::Refused { reason: "somebody else's trial".to_owned(), problems: Problems::default() };
    let (output, _) = against(vec![refusal], &["confirm", "8"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output.stderr).contains("refused: somebody else's trial"));
}

#[test]
fn a_change_that_went_back_is_3_and_tells_where_to() {
    let failure = ApplierResponse::Failed { reason: "the read-back differs".to_owned(), generation: 7 };
    let (output, _) = against(vec![failure], &["rollback", "5"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output.stderr).contains("went back to generation 7: the read-back differs"));
}

#[test]
fn the_sources_of_a_box_cannot_write_outside_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("policy");
    let answer = ApplierResponse::Sources { generation: 3, sources: Sources::single("../escaped.yaml", "x") };
    let (output, _) = against(vec![answer], &["sources", "--output", target.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4));
    assert!(!folder.path().join("escaped.yaml").exists());
}

#[test]
fn the_sources_of_a_generation_are_written_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("policy");
    let answer = ApplierResponse::Sources { generation: 3, sources: Sources::single("a.yaml", "# a comment\n") };
    let (output, asked) = against(vec![answer], &["sources", "3", "--output", target.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(asked, [ApplierRequest::Sources { generation: Some(3) }]);
    assert_eq!(std::fs::read_to_string(target.join("a.yaml")).unwrap(), "# a comment\n");
}

const POLICY: &str = include_str!("../cases/diff_tells_what_somebody_changed/old.yaml");

fn running() -> ApplierResponse {
    let digest = policy::Digest("0".repeat(64));
    let generation = policy::messages::Generation { number: 7, digest, by: "ada".to_owned(), installed_at: 0, confirmed: true };
    match status(None) {
        ApplierResponse::Status(status) => ApplierResponse::Status(Status { running: Some(generation), ..status }),
        _ => unreachable!(),
    }
}

/// The policy with ssh permitted as well, as a file to apply.
fn changed(folder: &tempfile::TempDir) -> String {
    let file = folder.path().join("old.yaml");
    std::fs::write(&file, POLICY.replace("services: https", "services: [https, ssh]")).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn apply_shows_what_changes_and_how_to_keep_it() {
    let folder = tempfile::tempdir().unwrap();
    let sources = ApplierResponse::Sources { generation: 7, sources: Sources::single("old.yaml", POLICY) };
    let on_trial = ApplierResponse::OnTrial { generation: 8, deadline: 61_000, phases: [("install".to_owned(), 12)].into() };
    let (output, asked) =
        against(vec![running(), sources, on_trial, running()], &["apply", "--yes", "--confirm-within", "60", &changed(&folder)]);
    let said = said(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("+    - { name: web, from: lan, to: wan, services: [https, ssh], action: accept }"), "{said}");
    assert!(said.contains("It goes back by itself in 60 s") && said.contains("portcullis confirm 8"), "{said}");
    assert!(matches!(&asked[2], ApplierRequest::Apply { confirm_within: Some(60), .. }));
}

#[test]
fn without_anyone_to_ask_and_without_yes_nothing_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let sources = ApplierResponse::Sources { generation: 7, sources: Sources::single("old.yaml", POLICY) };
    let (output, asked) = against(vec![running(), sources], &["apply", &changed(&folder)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output.stderr).contains("--yes"));
    assert!(!asked.iter().any(|request| matches!(request, ApplierRequest::Apply { .. })));
}
