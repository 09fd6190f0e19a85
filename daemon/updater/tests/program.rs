//! The real program on a disk that is a plain file with a real partition table, with bundles that scripts/bundle made, killed and started again.

use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use policy::messages::updater::{Outcome, Refusal, SlotState, Source, Step, UpdaterRequest, UpdaterResponse, UpdaterStatus};
use policy::messages::{Inbox, Principal, encode};

const ROOT: usize = 6_000_000;
const VERITY: usize = 300_000;
const KERNEL: usize = 2_000_001;
const MIB: u64 = 1 << 20;
/// Starts of the partitions in MiB: boot, root A, verity A, root B, verity B, data.
const PLAN: [(u64, u64, &str, &str); 6] = [
    (1, 4, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "esp"),
    (5, 8, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "portcullis_0.1.0"),
    (13, 1, "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5", "portcullis_0.1.0_verity"),
    (14, 8, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "_empty"),
    (22, 1, "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5", "_empty"),
    (23, 4, "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "portcullis-data"),
];

/// A box: its disk, its boot partition as a folder, its tree with version and keys.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Lab {
        let lab = Lab { folder: tempfile::tempdir().unwrap() };
        fs::set_permissions(lab.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["esp/EFI/Linux", "tree/usr/lib/portcullis/update-keys", "run", "state", "image"] {
            fs::create_dir_all(lab.path(name)).unwrap();
        }
        lab.runs("0.1.0");
        lab.make_disk();
        fs::write(lab.path("esp/EFI/Linux/portcullis_0.1.0.efi"), bytes(10, KERNEL)).unwrap();
        let public = lab.script(&["--key", &lab.key("release"), "--public"]);
        fs::write(lab.path("tree/usr/lib/portcullis/update-keys/release.pub"), public).unwrap();
        // What reboots is only written down.
        fs::write(lab.path("systemctl"), format!("#!/bin/sh\necho \"$@\" >> {}\n", lab.path("asked").display())).unwrap();
        fs::set_permissions(lab.path("systemctl"), PermissionsExt::from_mode(0o755)).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn runs(&self, version: &str) {
        fs::write(self.path("tree/usr/lib/os-release"), format!("ID=debian\nIMAGE_VERSION={version}\n")).unwrap();
    }

    fn make_disk(&self) {
        File::create(self.path("disk")).unwrap().set_len(28 * MIB).unwrap();
        let uuid = |number: usize| format!("{:08x}-0000-4000-8000-000000000000", if number == 1 { 0xaaaa_aaaa_u32 } else { number as u32 });
        let rows: Vec<String> = PLAN
            .iter()
            .enumerate()
            .map(|(number, (start, size, kind, name))| {
                format!("start={start}MiB, size={size}MiB, type={kind}, name={name}, uuid={}", uuid(number))
            })
            .collect();
        let mut sfdisk =
            Command::new("sfdisk").arg("--quiet").arg(self.path("disk")).stdin(Stdio::piped()).spawn().expect("sfdisk is installed");
        sfdisk.stdin.take().unwrap().write_all(format!("label: gpt\n{}\n", rows.join("\n")).as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
        let mut disk = OpenOptions::new().write(true).open(self.path("disk")).unwrap();
        for (number, (start, size, ..)) in PLAN.iter().enumerate().skip(1) {
            disk.seek(SeekFrom::Start(start * MIB)).unwrap();
            disk.write_all(&bytes(number as u32, (size * MIB) as usize)).unwrap();
        }
    }

    fn partition(&self, number: usize) -> Vec<u8> {
        let (start, size, ..) = PLAN[number - 1];
        let mut disk = File::open(self.path("disk")).unwrap();
        disk.seek(SeekFrom::Start(start * MIB)).unwrap();
        let mut content = vec![0; (size * MIB) as usize];
        disk.read_exact(&mut content).unwrap();
        content
    }

    fn table(&self) -> String {
        let output = Command::new("sfdisk").arg("--dump").arg(self.path("disk")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(self.path("esp/EFI/Linux")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn key(&self, name: &str) -> String {
        let path = self.path(&format!("{name}.key"));
        if !path.exists() {
            let made = Command::new("openssl")
                .args(["genpkey", "-algorithm", "ed25519", "-out"])
                .arg(&path)
                .output()
                .expect("openssl is installed");
            assert!(made.status.success());
        }
        path.display().to_string()
    }

    fn script(&self, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/bundle");
        let output = Command::new(script).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What scripts/image would have left, and scripts/bundle made of it.
    fn bundle(&self, version: &str, key: &str) -> PathBuf {
        let image = self.path(&format!("image/{version}"));
        fs::create_dir_all(&image).unwrap();
        let padded = |content: Vec<u8>, to: u64| [content, vec![0; to as usize]].concat()[..to as usize].to_vec();
        fs::write(image.join(format!("portcullis_{version}.root.11111111222233334444555566667777.raw")), padded(bytes(20, ROOT), 8 * MIB))
            .unwrap();
        fs::write(image.join(format!("portcullis_{version}.verity.88888888222233334444555566667777.raw")), padded(bytes(21, VERITY), MIB))
            .unwrap();
        fs::write(image.join(format!("portcullis_{version}.efi")), bytes(22, KERNEL)).unwrap();
        fs::write(image.join("recipe"), "c0ffee\n").unwrap();
        let output = self.path(&format!("{version}-{key}.bundle"));
        self.script(&["--key", &self.key(key), "--from", &image.display().to_string(), &output.display().to_string()]);
        output
    }

    fn command(&self, mode: &[&str], root_hash: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-updater"));
        let flags = [
            ("--run-dir", "run"),
            ("--state-dir", "state"),
            ("--tree", "tree"),
            ("--disk", "disk"),
            ("--esp", "esp"),
            ("--systemctl", "systemctl"),
        ];
        command.args(mode).args(["--root-hash", root_hash]).stdin(Stdio::null()).stderr(Stdio::null());
        for (flag, name) in flags {
            command.arg(flag).arg(self.path(name));
        }
        command
    }

    fn start(&self) -> Running<'_> {
        let _ = fs::remove_file(self.path("run/updater.sock"));
        let child = self.command(&[], OLD).spawn().unwrap();
        let running = Running { lab: self, child };
        let begun = Instant::now();
        while UnixStream::connect(self.path("run/updater.sock")).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the updater does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        running
    }

    fn once(&self, mode: &[&str], root_hash: &str) {
        assert!(self.command(mode, root_hash).status().unwrap().success(), "{mode:?}");
    }

    fn asked_of_systemd(&self) -> String {
        fs::read_to_string(self.path("asked")).unwrap_or_default()
    }
}

const OLD: &str = "aaaaaaaa000040008000000000000000ffffffffffffffffffffffffffffffff";
const NEW: &str = "1111111122223333444455556666777788888888222233334444555566667777";

fn bytes(seed: u32, size: usize) -> Vec<u8> {
    (0..size as u32).map(|at| (seed.wrapping_mul(977).wrapping_add(at).wrapping_mul(2_654_435_761) >> 24) as u8 | 1).collect()
}

struct Running<'a> {
    lab: &'a Lab,
    child: Child,
}

impl Running<'_> {
    fn ask(&self, request: &UpdaterRequest, file: Option<&Path>) -> std::io::Result<UpdaterResponse> {
        let mut stream = UnixStream::connect(self.lab.path("run/updater.sock"))?;
        let bytes = encode(request).unwrap();
        let file = file.map(|path| File::open(path).unwrap());
        let files: Vec<_> = file.iter().map(|file| file.as_raw_fd()).collect();
        let along = [ControlMessage::ScmRights(&files)];
        let along = if files.is_empty() { &along[..0] } else { &along[..] };
        sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&bytes)], along, MsgFlags::empty(), None)?;
        let (mut inbox, mut piece) = (Inbox::default(), vec![0; 4096]);
        loop {
            if let Some(answer) = inbox.take().map_err(std::io::Error::other)? {
                return Ok(answer);
            }
            match stream.read(&mut piece)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                length => inbox.push(&piece[..length]),
            }
        }
    }

    fn status(&self) -> UpdaterStatus {
        match self.ask(&UpdaterRequest::Status, None).unwrap() {
            UpdaterResponse::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn begin(&self, bundle: &Path) -> UpdaterResponse {
        self.ask(&UpdaterRequest::Install { source: Source::Descriptor, downgrade: false, by: anna() }, Some(bundle)).unwrap()
    }

    fn wait(&self) -> UpdaterStatus {
        let begun = Instant::now();
        loop {
            let status = self.status();
            let step = status.work.as_ref().unwrap().step;
            if matches!(step, Step::Installed | Step::Refused | Step::Failed) {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(300), "it does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn anna() -> Principal {
    Principal { name: "anna".into(), address: None, connected_at: None }
}

#[test]
fn an_update_is_written_beside_what_runs_and_taken_back_when_nothing_answers() {
    let lab = Lab::new();
    let bundle = lab.bundle("0.2.0", "release");
    let (root, verity) = (lab.partition(2), lab.partition(3));
    let running = lab.start();
    match running.ask(&UpdaterRequest::Check { source: Source::Descriptor, downgrade: false }, Some(&bundle)).unwrap() {
        UpdaterResponse::Good(facts) => {
            assert_eq!((facts.version.as_str(), facts.key.as_str(), facts.recipe.as_str()), ("0.2.0", "release", "c0ffee"))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(running.begin(&bundle), UpdaterResponse::Begun);
    let status = running.wait();
    assert_eq!(status.last_update.as_ref().unwrap().outcome, Outcome::Installed, "{status:?}");
    assert_eq!(
        status.slots.iter().map(|slot| (slot.state, slot.booted)).collect::<Vec<_>>(),
        [(SlotState::Good, true), (SlotState::Trying { tries_left: 3 }, false)]
    );
    drop(running);

    assert_eq!(lab.entries(), ["portcullis_0.1.0.efi", "portcullis_0.2.0+3.efi"]);
    assert_eq!(fs::read(lab.path("esp/EFI/Linux/portcullis_0.2.0+3.efi")).unwrap(), bytes(22, KERNEL));
    for (number, seed, size) in [(4, 20, ROOT), (5, 21, VERITY)] {
        let found = lab.partition(number);
        assert_eq!(found[..size], bytes(seed, size));
        assert!(found[size..].iter().all(|byte| *byte == 0), "something is left behind the files of partition {number}");
    }
    assert!((lab.partition(2), lab.partition(3)) == (root, verity), "the slot that runs was touched");
    let table = lab.table();
    assert!(table.contains("11111111-2222-3333-4444-555566667777, name=\"portcullis_0.2.0\""), "{table}");
    assert!(table.contains("88888888-2222-3333-4444-555566667777, name=\"portcullis_0.2.0_verity\""), "{table}");

    // The loader counts and boots it; nothing answers in it.
    fs::rename(lab.path("esp/EFI/Linux/portcullis_0.2.0+3.efi"), lab.path("esp/EFI/Linux/portcullis_0.2.0+2-1.efi")).unwrap();
    lab.runs("0.2.0");
    lab.once(&["settle"], NEW);
    lab.once(&["bless", "--patience", "1"], NEW);
    assert_eq!(lab.entries(), ["portcullis_0.1.0.efi", "portcullis_0.2.0+0-1.efi"]);
    assert_eq!(lab.asked_of_systemd(), "--no-block reboot\n");

    lab.runs("0.1.0");
    lab.once(&["settle"], OLD);
    lab.once(&["bless", "--patience", "1"], OLD);
    assert_eq!(lab.asked_of_systemd(), "--no-block reboot\n", "a version that was good is not restarted");
    let last = lab.start().status().last_update.unwrap();
    assert_eq!(last.outcome, Outcome::TakenBack);
    assert!(last.reason.as_ref().unwrap().contains("the applier does not answer"), "{last:?}");
}

#[test]
fn what_is_refused_changes_nothing_and_says_why() {
    let lab = Lab::new();
    let good = lab.bundle("0.2.0", "release");
    let whole = fs::read(&good).unwrap();
    let write = |name: &str, content: &[u8]| {
        fs::write(lab.path(name), content).unwrap();
        lab.path(name)
    };
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let cases = [
        (lab.bundle("0.2.0", "stranger"), Refusal::UnknownKey),
        (lab.bundle("0.0.9", "release"), Refusal::Downgrade),
        (lab.bundle("0.1.0", "release"), Refusal::SameVersion),
        (write("short", &whole[..whole.len() - 1]), Refusal::Truncated),
        (write("damaged", &damaged), Refusal::Damaged),
        (write("other", b"not a bundle at all, but a text of some length"), Refusal::NotABundle),
    ];
    let (disk, entries) = (fs::read(lab.path("disk")).unwrap(), lab.entries());
    let running = lab.start();
    for (file, expected) in cases {
        match running.ask(&UpdaterRequest::Check { source: Source::Descriptor, downgrade: false }, Some(&file)).unwrap() {
            UpdaterResponse::Refused { why, reason } => assert_eq!(why, expected, "{reason}"),
            other => panic!("{}: {other:?}", file.display()),
        }
        // Installing it ends the same, at once or after its parts were read.
        if running.begin(&file) == UpdaterResponse::Begun {
            assert_eq!(running.wait().work.unwrap().step, Step::Refused);
        }
    }
    let none = running.ask(&UpdaterRequest::Install { source: Source::Descriptor, downgrade: false, by: anna() }, None).unwrap();
    assert!(matches!(none, UpdaterResponse::Refused { why: Refusal::NoDescriptor, .. }), "{none:?}");
    assert!(fs::read(lab.path("disk")).unwrap() == disk && lab.entries() == entries, "something was changed");
    assert!(running.status().last_update.is_none());
}

#[test]
fn killed_at_any_moment_the_old_version_stays_whole_and_the_update_can_be_made_again() {
    let lab = Lab::new();
    let bundle = lab.bundle("0.2.0", "release");
    let (root, verity, kernel) = (lab.partition(2), lab.partition(3), fs::read(lab.path("esp/EFI/Linux/portcullis_0.1.0.efi")).unwrap());
    let begun = Instant::now();
    let whole = {
        let running = lab.start();
        let begun = Instant::now();
        running.begin(&bundle);
        running.wait();
        begun.elapsed()
    };
    for round in 0..16_u32 {
        let running = lab.start();
        running.begin(&bundle);
        thread::sleep(whole * round / 14);
        running.kill();
        assert!(lab.partition(2) == root && lab.partition(3) == verity, "round {round}: the slot that runs was touched");
        assert_eq!(fs::read(lab.path("esp/EFI/Linux/portcullis_0.1.0.efi")).unwrap(), kernel, "round {round}");
        for name in lab.entries().iter().filter(|name| name.starts_with("portcullis_0.2.0")) {
            assert_eq!(
                fs::read(lab.path("esp/EFI/Linux").join(name)).unwrap(),
                bytes(22, KERNEL),
                "round {round}: an entry that cannot boot"
            );
            assert_eq!(lab.partition(4)[..ROOT], bytes(20, ROOT), "round {round}: an entry whose root cannot boot");
        }
        lab.once(&["settle"], OLD);
        assert!(!lab.path("esp/EFI/Linux/portcullis.unfinished").exists(), "round {round}");
    }
    let running = lab.start();
    running.begin(&bundle);
    assert_eq!(running.wait().work.unwrap().step, Step::Installed);
    eprintln!("17 updates and 16 kills in {} s", begun.elapsed().as_secs());
}

#[test]
fn a_stranger_gets_no_answer() {
    let lab = Lab::new();
    let running = lab.start();
    fs::set_permissions(lab.path("run"), PermissionsExt::from_mode(0o755)).unwrap();
    let ask = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\nm=b'{\"request\":\"status\"}'\ntry:\n s.sendall(len(m).to_bytes(4,'big')+m)\n print(len(s.recv(9)))\nexcept OSError: print(0)";
    let answered = |user: u32| {
        let output = Command::new("python3").args(["-c", ask]).arg(lab.path("run/updater.sock")).uid(user).gid(user).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(answered(65534), "0\n");
    assert_eq!(answered(0), "9\n", "root is answered, so silence means something");
    drop(running);
}

#[test]
fn everything_is_forgotten_only_after_the_phrase_was_typed() {
    let lab = Lab::new();
    let running = lab.start();
    let reset = |phrase: &str| running.ask(&UpdaterRequest::FactoryReset { phrase: phrase.into(), by: anna() }, None).unwrap();
    assert!(matches!(reset("forget everythin"), UpdaterResponse::Refused { why: Refusal::WrongPhrase, .. }));
    assert!(lab.table().contains("portcullis-data"));
    assert_eq!(reset("forget everything"), UpdaterResponse::Done);
    assert!(!lab.table().contains("portcullis-data"), "{}", lab.table());
    assert!(lab.table().contains("portcullis_0.1.0"));
    assert_eq!(lab.asked_of_systemd(), "--no-block reboot\n");
}
