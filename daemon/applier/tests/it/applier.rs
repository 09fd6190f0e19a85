//! The real process, in a namespace, with folders of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use policy::messages::{ApplierRequest, ApplierResponse, Inbox, Principal, Status, encode};
use policy::{Digest, Sources, judge};
use tempfile::TempDir;

use crate::namespace::Namespace;

pub struct Applier {
    pub folder: TempDir,
    pub child: Option<Child>,
    flags: Vec<String>,
    /// Run with this before it: `setpriv` and what it takes away.
    wrapper: Vec<String>,
}

impl Applier {
    /// Not started yet.
    pub fn new() -> Applier {
        Applier { folder: tempfile::tempdir().expect("a folder"), child: None, flags: vec![], wrapper: vec![] }
    }

    pub fn with(mut self, flag: &str, value: impl Into<String>) -> Self {
        self.flags.extend([flag.to_owned(), value.into()]);
        self
    }

    /// As on the box: an ordinary user with two capabilities.
    pub fn unprivileged(mut self) -> Self {
        let folder = self.folder.path();
        std::os::unix::fs::chown(folder, Some(65_534), Some(65_534)).expect("root may");
        let wrapper = "setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --inh-caps=-all,+net_admin,+net_raw \
                       --ambient-caps=-all,+net_admin,+net_raw --bounding-set=-all,+net_admin,+net_raw";
        self.wrapper = wrapper.split_whitespace().map(str::to_owned).collect();
        self
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Started, and not waited for.
    pub fn launch(&mut self, inside: &Namespace) {
        let run = self.folder.path().to_owned();
        let (flags, state, wrapper) = (self.flags.clone(), self.state(), self.wrapper.clone());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(run.join("log")).expect("a log");
        let child = inside.run(move || {
            let binary = [env!("CARGO_BIN_EXE_portcullis-applier").to_owned()];
            let mut words = wrapper.into_iter().chain(binary);
            let mut command = Command::new(words.next().expect("a program"));
            command.args(words);
            command.arg("--run-dir").arg(&run).arg("--state-dir").arg(state).args(flags);
            command.env_remove("NOTIFY_SOCKET").stdin(Stdio::null()).stderr(log).spawn().expect("the applier starts")
        });
        self.child = Some(child);
    }

    /// Started, restored, listening.
    pub fn start(&mut self, inside: &Namespace) {
        self.launch(inside);
        self.wait();
    }

    pub fn wait(&mut self) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.try_ask(&ApplierRequest::Status).is_none() {
            assert!(Instant::now() < end, "the applier does not answer; its log:\n{}", self.log());
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "the applier ended with {ended:?}; its log:\n{}", self.log());
            sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGTERM, and its end.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it was started");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGTERM).expect("it lives");
        assert!(child.wait().expect("it ends").success(), "{}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn connect(&self) -> std::io::Result<UnixStream> {
        let stream = UnixStream::connect(self.folder.path().join("applier.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    }

    /// None when the process is gone or goes meanwhile.
    pub fn try_ask(&self, request: &ApplierRequest) -> Option<ApplierResponse> {
        ask_over(&mut self.connect().ok()?, request)
    }

    pub fn ask(&self, request: &ApplierRequest) -> ApplierResponse {
        self.try_ask(request).unwrap_or_else(|| panic!("no answer to {request:?}; the log:\n{}", self.log()))
    }

    pub fn status(&self) -> Status {
        match self.ask(&ApplierRequest::Status) {
            ApplierResponse::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub fn running(&self) -> Option<u64> {
        self.status().running.map(|generation| generation.number)
    }

    pub fn apply(&self, policy: &str, confirm_within: u32) -> ApplierResponse {
        self.ask(&apply(policy, confirm_within))
    }

    /// A new connection of the same person, as the local door counts it.
    pub fn confirm(&self, generation: u64) -> ApplierResponse {
        self.ask(&ApplierRequest::Confirm { generation, by: anna() })
    }

    /// Applied and confirmed.
    pub fn keep(&self, policy: &str) -> u64 {
        match self.apply(policy, 60) {
            ApplierResponse::OnTrial { generation, .. } => {
                assert_eq!(self.confirm(generation), ApplierResponse::Confirmed { generation }, "{}", self.log());
                generation
            }
            other => panic!("not on trial: {other:?}\n{}", self.log()),
        }
    }

    pub fn drift(&self) -> Vec<policy::messages::DriftFinding> {
        match self.ask(&ApplierRequest::CheckDrift) {
            ApplierResponse::Drift { findings } => findings,
            other => panic!("{other:?}"),
        }
    }

    pub fn until(&self, what: &str, within: Duration, mut happened: impl FnMut() -> bool) {
        let end = Instant::now() + within;
        while !happened() {
            assert!(Instant::now() < end, "{what}: not within {within:?}; the log:\n{}", self.log());
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn ask_over(stream: &mut UnixStream, request: &ApplierRequest) -> Option<ApplierResponse> {
    stream.write_all(&encode(request).expect("a message")).ok()?;
    let mut inbox = Inbox::default();
    let mut piece = [0; 4096];
    loop {
        if let Some(response) = inbox.take().expect("the applier speaks properly") {
            return Some(response);
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => inbox.push(&piece[..count]),
        }
    }
}

pub fn anna() -> Principal {
    Principal { name: "anna".into(), address: None, connected_at: None }
}

pub fn apply(policy: &str, confirm_within: u32) -> ApplierRequest {
    let sources = Sources::single("box.yaml", policy);
    let digest = judge(&sources).map_or_else(|problems| panic!("{problems}"), |judged| judged.digest);
    ApplierRequest::Apply { sources, digest, confirm_within: Some(confirm_within), by: anna() }
}

pub fn other_digest() -> Digest {
    Digest("0".repeat(64))
}
