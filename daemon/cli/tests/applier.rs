//! What people read when the applier and the forwarder answer: a listener plays its part with the real messages.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};
use std::thread;

use policy::messages::forwarder::{Flow, ForwarderRequest, ForwarderResponse, ForwarderStatus, Health, HealthStatus, MappingState};
use policy::messages::proxy::{Blocked, Effect, ProxyStatus};
use policy::messages::{ApplierRequest, ApplierResponse, Inbox, Status, Trial, encode};
use policy::name::Name;
use policy::{Problems, Sources};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Runs `portcullis` against a box that gives these answers, one a connection; returns what it was asked as well.
fn against(answers: Vec<ApplierResponse>, args: &[&str]) -> (Output, Vec<ApplierRequest>) {
    let run_dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(run_dir.path().join("applier.sock")).unwrap();
    let applier = thread::spawn(move || answers.iter().map(|answer| serve(&listener, answer)).collect());
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("--run-dir").arg(run_dir.path()).args(args).output().unwrap();
    (output, applier.join().unwrap())
}

fn serve<Request: DeserializeOwned>(listener: &UnixListener, answer: &impl Serialize) -> Request {
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
    let nothing = Status {
        now: 1_000,
        running: None,
        trial,
        last_confirmed: None,
        last_event: None,
        drift: vec![],
        kept: vec![],
        features: vec![],
        safe_mode: None,
    };
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

/// Against a box whose forwarder answers as well; what it was asked comes back.
fn with_forwarder(applier: Vec<ApplierResponse>, forwarder: ForwarderResponse, args: &[&str]) -> (Output, ForwarderRequest) {
    let run_dir = tempfile::tempdir().unwrap();
    let appliers = UnixListener::bind(run_dir.path().join("applier.sock")).unwrap();
    let forwarders = UnixListener::bind(run_dir.path().join("forwarder.sock")).unwrap();
    thread::spawn(move || applier.iter().for_each(|answer| drop(serve::<ApplierRequest>(&appliers, answer))));
    let asked = thread::spawn(move || serve::<ForwarderRequest>(&forwarders, &forwarder));
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("--run-dir").arg(run_dir.path()).args(args).output().unwrap();
    (output, asked.join().unwrap())
}

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn carried() -> ApplierResponse {
    let effect = |blocked: Option<Blocked>| Effect {
        permitted: blocked.is_none(),
        blocked,
        since: 0,
        state: Some(MappingState::Up { upstream: name("berlin") }),
        today: 0,
        this_month: 0,
        daily: None,
        monthly: None,
    };
    ApplierResponse::Proxy(ProxyStatus {
        forwarder_connected: true,
        mappings: [(name("anna"), effect(None)), (name("tv"), effect(Some(Blocked::SecretMissing { name: "oslo-password".to_owned() })))]
            .into(),
        upstreams: [(name("berlin"), health())].into(),
        secrets_missing: vec!["oslo-password".to_owned()],
        ..ProxyStatus::default()
    })
}

fn health() -> Health {
    let exit = Some("198.51.100.77".parse().unwrap());
    Health { at: 0, status: HealthStatus::Healthy, latency_us: Some(34_200), exit, why: None }
}

#[test]
fn proxy_status_says_who_is_let_in_and_why_the_others_are_not() {
    let status = ForwarderStatus { flows: 3, descriptors: 9, descriptors_max: 20_000, ..ForwarderStatus::default() };
    let (output, asked) = with_forwarder(vec![carried()], ForwarderResponse::Status(status), &["proxy", "status"]);
    let said = said(&output.stdout);
    assert_eq!((output.status.code(), asked), (Some(0), ForwarderRequest::Status), "{said}");
    for line in [
        "forwarder  3 flows, 9 of 20000 descriptors",
        "secret     oslo-password is not set",
        "mapping    anna    let in by berlin",
        "mapping    tv      blocked: the secret oslo-password is not set",
        "upstream   berlin  healthy, 34.2 ms, exit 198.51.100.77",
    ] {
        assert!(said.lines().any(|found| found == line), "{line} is missing from\n{said}");
    }
}

#[test]
fn a_forwarder_that_is_gone_is_part_of_the_status_and_trouble_for_everything_else() {
    let gone = ApplierResponse::Proxy(ProxyStatus::default());
    let (output, _) = against(vec![gone], &["proxy", "status"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(said(&output.stdout).contains("not linked: every mapped client is blocked"));
    let (output, _) = against(vec![], &["proxy", "flows"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(said(&output.stderr).contains("cannot talk to the forwarder at"), "{}", said(&output.stderr));
}

#[test]
fn flows_are_shown_as_asked_for_and_closed_by_number() {
    let flow = Flow {
        id: 7,
        mapping: name("anna"),
        upstream: name("berlin"),
        protocol: "tcp".to_owned(),
        client: "[fd00:2::10]:50122".parse().unwrap(),
        destination: "203.0.113.80:443".parse().unwrap(),
        began: 0,
        up_bytes: 12,
        down_bytes: 3456,
    };
    let args = ["proxy", "flows", "--mapping", "anna", "--client", "fd00:2::10", "--limit", "5"];
    let (output, asked) = with_forwarder(vec![], ForwarderResponse::Flows { flows: vec![flow], total: 9 }, &args);
    let client = Some("fd00:2::10".parse().unwrap());
    assert_eq!(asked, ForwarderRequest::Flows { mapping: Some(name("anna")), client, limit: 5 });
    let text = said(&output.stdout);
    assert!(text.contains("7     anna     berlin    tcp   [fd00:2::10]:50122  203.0.113.80:443  12  3456"), "{text}");
    assert!(text.ends_with("1 of 9 flows\n"), "{text}");

    let (output, asked) = with_forwarder(vec![], ForwarderResponse::Closed { flows: 1 }, &["proxy", "close", "7"]);
    assert_eq!((output.status.code(), asked), (Some(0), ForwarderRequest::Close { flow: Some(7), client: None }));
    let (output, _) = with_forwarder(vec![], ForwarderResponse::Closed { flows: 0 }, &["proxy", "close", "--client", "192.168.2.10"]);
    assert_eq!(output.status.code(), Some(3), "nothing was open");
}

#[test]
fn a_probe_tells_latency_and_exit() {
    let probed = ForwarderResponse::Probed { health: [(name("berlin"), health())].into() };
    let (output, asked) = with_forwarder(vec![], probed, &["proxy", "probe", "berlin"]);
    assert_eq!(asked, ForwarderRequest::Probe { upstreams: vec![name("berlin")] });
    assert_eq!(said(&output.stdout), "berlin  healthy, 34.2 ms, exit 198.51.100.77\n");
}

/// With this on standard input.
fn told(input: &str, answers: Vec<ApplierResponse>, args: &[&str]) -> (Output, Vec<ApplierRequest>) {
    let run_dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(run_dir.path().join("applier.sock")).unwrap();
    let applier = thread::spawn(move || answers.iter().map(|answer| serve(&listener, answer)).collect());
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("--run-dir")
        .arg(run_dir.path())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    (child.wait_with_output().unwrap(), applier.join().unwrap())
}

#[test]
fn a_secret_is_read_from_standard_input_and_never_said() {
    let (output, asked) = told("hush hush\n", vec![ApplierResponse::Done], &["secret", "set", "berlin-password"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output.stderr));
    assert!(matches!(&asked[0], ApplierRequest::SetSecret { name, value, .. } if name == "berlin-password" && value == "hush hush"));
    assert_eq!(said(&output.stdout), "the secret berlin-password is set\n");
    let (_, asked) = told("", vec![ApplierResponse::Done], &["secret", "remove", "berlin-password"]);
    assert!(matches!(&asked[0], ApplierRequest::SetSecret { value, .. } if value.is_empty()));
    for empty in ["", "\n", "two\nlines\n"] {
        let (output, asked) = told(empty, vec![], &["secret", "set", "berlin-password"]);
        assert_eq!((output.status.code(), asked.len()), (Some(2), 0), "{empty:?} is no secret");
    }
}

#[test]
fn an_imported_table_goes_the_way_of_every_change() {
    let policy = include_str!("../cases/mappings_export_is_a_table/policy.yaml");
    let running_text = || ApplierResponse::Sources { generation: 7, sources: Sources::single("policy.yaml", policy) };
    let on_trial = ApplierResponse::OnTrial { generation: 8, deadline: 61_000, phases: [("install".to_owned(), 12)].into() };
    let answers = vec![running_text(), running(), running_text(), on_trial, running()];
    let table = "name,clients,upstream\neva,192.168.2.91 fd00:2::91,berlin\n";
    let (output, asked) = told(table, answers, &["mappings", "import", "-", "--yes"]);
    let said = said(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.starts_with("1 mappings added, 0 changed, 0 as they were\n") && said.contains("portcullis confirm 8"), "{said}");
    assert!(matches!(&asked[3], ApplierRequest::Apply { sources, .. } if sources.0["policy.yaml"].contains("eva")));
}
