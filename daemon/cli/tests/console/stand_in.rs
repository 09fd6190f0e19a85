//! Stand-ins for the box's processes: listeners that speak the real messages, and a `systemctl` that tells of them.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use policy::messages::rescue::{RescueRequest, RescueResponse, RescueStatus};
use policy::messages::updater::{Slot, SlotState, Stick, UpdaterRequest, UpdaterResponse, UpdaterStatus};
use policy::messages::{ApplierRequest, ApplierResponse, Event, Generation, Inbox, Status, Trial, encode};
use policy::{Digest, Sources};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::session::Session;

/// A box of stand-ins; what each was asked, in order.
pub struct StandIn {
    folder: TempDir,
    pub applier: Arc<Mutex<Vec<ApplierRequest>>>,
    pub rescue: Arc<Mutex<Vec<RescueRequest>>>,
    pub updater: Arc<Mutex<Vec<UpdaterRequest>>>,
}

pub const POLICY: &str = "\
apiVersion: portcullis/v1
kind: System
metadata: { name: box }
spec: { hostname: gate, admin: { zones: lan } }
---
apiVersion: portcullis/v1
kind: Zone
metadata: { name: lan }
spec: {}
---
apiVersion: portcullis/v1
kind: Interface
metadata: { name: lan0 }
spec: { zone: lan, addresses: [192.168.1.1/24] }
";

/// Milliseconds since the epoch.
pub const NOW: u64 = 1_795_219_200_000;

impl StandIn {
    /// Nobody answers yet.
    pub fn empty() -> StandIn {
        let stand_in =
            StandIn { folder: tempfile::tempdir().unwrap(), applier: Arc::default(), rescue: Arc::default(), updater: Arc::default() };
        fs::create_dir(stand_in.tools()).unwrap();
        stand_in.processes("active", "");
        stand_in
    }

    pub fn well() -> StandIn {
        let stand_in = StandIn::empty();
        stand_in.applier(status());
        stand_in.rescue(RescueStatus { admins: vec!["ada".into()], ..RescueStatus::default() });
        stand_in.updater();
        stand_in
    }

    pub fn run_dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn session(&self) -> Session {
        Session::open(self.run_dir(), &self.tools())
    }

    fn tools(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    /// All processes in this state, with these further properties.
    pub fn processes(&self, state: &str, more: &str) {
        let unit = "for unit in \"$@\"; do case $unit in portcullis-*) ;; *) continue ;; esac\n\
            printf 'Id=%s\\nLoadState=loaded\\nActiveState=STATE\\nSubState=running\\nMORE\\n\\n' \"$unit\"; done\n";
        let text = format!("#!/bin/sh\n{}", unit.replace("STATE", state).replace("MORE", more));
        self.tool("systemctl", &text);
        self.tool("journalctl", "#!/bin/sh\necho could not open /var: \\\"No space left on device\\\"\n");
    }

    pub fn tool(&self, name: &str, text: &str) {
        let path = self.tools().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn applier(&self, status: Status) {
        let asked = self.applier.clone();
        self.listen("applier.sock", move |request: ApplierRequest| {
            asked.lock().unwrap().push(request.clone());
            match request {
                ApplierRequest::Status => ApplierResponse::Status(status.clone()),
                ApplierRequest::Sources { .. } => {
                    ApplierResponse::Sources { generation: 7, sources: Sources::single("policy.yaml", POLICY) }
                }
                ApplierRequest::Confirm { generation, .. } => ApplierResponse::Confirmed { generation },
                ApplierRequest::GoBack { generation: None, .. } => ApplierResponse::WentBack { generation: 7 },
                ApplierRequest::GoBack { .. } | ApplierRequest::Apply { .. } => {
                    ApplierResponse::OnTrial { generation: 9, deadline: NOW + 60_000, phases: Default::default() }
                }
                ApplierRequest::SafeMode { .. } => ApplierResponse::WentBack { generation: 0 },
                _ => ApplierResponse::KernelRuleset { text: "table inet portcullis {\n}\n".into() },
            }
        });
    }

    pub fn rescue(&self, status: RescueStatus) {
        let asked = self.rescue.clone();
        self.listen("rescue.sock", move |request: RescueRequest| {
            asked.lock().unwrap().push(request.clone());
            match request {
                RescueRequest::Status => RescueResponse::Status(status.clone()),
                RescueRequest::ResetPassword { password, .. } if password.len() < 12 => {
                    RescueResponse::Refused { reason: "password must have 12 to 256 characters".into() }
                }
                _ => RescueResponse::Done { text: "The stand-in did it.".into() },
            }
        });
    }

    pub fn updater(&self) {
        let asked = self.updater.clone();
        self.listen("updater.sock", move |request: UpdaterRequest| {
            asked.lock().unwrap().push(request.clone());
            match request {
                UpdaterRequest::Status => UpdaterResponse::Status(image()),
                UpdaterRequest::Sticks => UpdaterResponse::Sticks { sticks: vec![stick()] },
                UpdaterRequest::WriteToStick { .. } => UpdaterResponse::Written { size: 4711 },
                _ => UpdaterResponse::Done,
            }
        });
    }

    fn listen<Request: DeserializeOwned, Response: Serialize>(
        &self,
        name: &str,
        mut answer: impl FnMut(Request) -> Response + Send + 'static,
    ) {
        let path = self.run_dir().join(name);
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut inbox = Inbox::default();
                let mut piece = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut piece) {
                    inbox.push(&piece[..length]);
                    if let Ok(Some(request)) = inbox.take() {
                        let _ = stream.write_all(&encode(&answer(request)).unwrap());
                    }
                }
            }
        });
    }
}

pub fn generation(number: u64) -> Generation {
    Generation { number, digest: Digest("0".repeat(64)), by: "ada".into(), installed_at: NOW - 3_600_000, confirmed: true }
}

pub fn status() -> Status {
    Status {
        now: NOW,
        running: Some(generation(7)),
        trial: None,
        last_confirmed: Some(7),
        last_event: Some(Event { at: NOW - 3_600_000, text: "generation 7 was confirmed by ada".into() }),
        drift: vec![],
        kept: vec![generation(7), generation(6)],
        features: vec![],
        safe_mode: None,
    }
}

pub fn on_trial() -> Status {
    let trial = Trial { generation: 8, by: "ben".into(), installed_at: NOW, deadline: NOW + 42_000, back_to: Some(7) };
    Status {
        running: Some(Generation { confirmed: false, by: "ben".into(), installed_at: NOW, ..generation(8) }),
        trial: Some(trial),
        ..status()
    }
}

fn image() -> UpdaterStatus {
    let slot = |label: &str, version: Option<&str>, state, booted| Slot {
        label: label.into(),
        version: version.map(str::to_owned),
        state,
        booted,
    };
    UpdaterStatus {
        now: NOW,
        product: "portcullis (a stand-in)".into(),
        version: "0.1.0".into(),
        recipe: String::new(),
        keys: vec![],
        slots: vec![
            slot("portcullis_0.1.0", Some("0.1.0"), SlotState::Good, true),
            slot("portcullis_0.0.9", Some("0.0.9"), SlotState::Trying { tries_left: 2 }, false),
        ],
        work: None,
        last_update: None,
    }
}

fn stick() -> Stick {
    Stick {
        name: "sda1".into(),
        label: "KEYS".into(),
        file_system: "vfat".into(),
        size: 1 << 30,
        free: 1 << 29,
        writable: true,
        files: vec![],
    }
}
