//! A box for the real program: a disk that is a plain file with a real partition table, and bundles that scripts/bundle made.

use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use policy::messages::updater::{Source, Step, UpdaterRequest, UpdaterResponse, UpdaterStatus};
use policy::messages::{Inbox, Principal, encode};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

pub const ROOT: usize = 6_000_000;
pub const VERITY: usize = 300_000;
pub const KERNEL: usize = 2_000_001;
pub const MIB: u64 = 1 << 20;
/// Starts of the partitions in MiB: boot, root A, verity A, root B, verity B, data.
pub const PLAN: [(u64, u64, &str, &str); 6] = [
    (1, 4, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "esp"),
    (5, 8, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "portcullis_0.1.0"),
    (13, 1, "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5", "portcullis_0.1.0_verity"),
    (14, 8, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "_empty"),
    (22, 1, "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5", "_empty"),
    (23, 4, "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "portcullis-data"),
];

/// A box: its disk, its boot partition as a folder, its tree with version and keys.
pub struct Lab {
    pub folder: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Lab {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn runs(&self, version: &str) {
        fs::write(self.path("tree/usr/lib/os-release"), format!("ID=debian\nIMAGE_VERSION={version}\n")).unwrap();
    }

    pub fn make_disk(&self) {
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

    pub fn partition(&self, number: usize) -> Vec<u8> {
        let (start, size, ..) = PLAN[number - 1];
        let mut disk = File::open(self.path("disk")).unwrap();
        disk.seek(SeekFrom::Start(start * MIB)).unwrap();
        let mut content = vec![0; (size * MIB) as usize];
        disk.read_exact(&mut content).unwrap();
        content
    }

    pub fn table(&self) -> String {
        let output = Command::new("sfdisk").arg("--dump").arg(self.path("disk")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(self.path("esp/EFI/Linux")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn key(&self, name: &str) -> String {
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

    pub fn script(&self, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/bundle");
        let output = Command::new(script).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What scripts/image would have left, and scripts/bundle made of it.
    pub fn bundle(&self, version: &str, key: &str) -> PathBuf {
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

    pub fn command(&self, mode: &[&str], root_hash: &str) -> Command {
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

    pub fn start(&self) -> Running<'_> {
        self.start_as(self.command(&[], OLD))
    }

    /// In a mount namespace of its own, as its unit has it.
    pub fn start_with_stick(&self, device: &str) -> Running<'_> {
        let program = self.command(&[], OLD);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(program.get_program()).args(program.get_args());
        command.args(["--also-stick", device]).stdin(Stdio::null()).stderr(Stdio::null());
        self.start_as(command)
    }

    fn start_as(&self, mut command: Command) -> Running<'_> {
        let _ = fs::remove_file(self.path("run/updater.sock"));
        let child = command.spawn().unwrap();
        let running = Running { lab: self, child };
        let begun = Instant::now();
        while UnixStream::connect(self.path("run/updater.sock")).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the updater does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        running
    }

    pub fn once(&self, mode: &[&str], root_hash: &str) {
        assert!(self.command(mode, root_hash).status().unwrap().success(), "{mode:?}");
    }

    pub fn asked_of_systemd(&self) -> String {
        fs::read_to_string(self.path("asked")).unwrap_or_default()
    }
}

pub const OLD: &str = "aaaaaaaa000040008000000000000000ffffffffffffffffffffffffffffffff";
pub const NEW: &str = "1111111122223333444455556666777788888888222233334444555566667777";

pub fn bytes(seed: u32, size: usize) -> Vec<u8> {
    (0..size as u32).map(|at| (seed.wrapping_mul(977).wrapping_add(at).wrapping_mul(2_654_435_761) >> 24) as u8 | 1).collect()
}

pub struct Running<'a> {
    lab: &'a Lab,
    child: Child,
}

impl Running<'_> {
    pub fn ask(&self, request: &UpdaterRequest, file: Option<&Path>) -> std::io::Result<UpdaterResponse> {
        self.ask_for_a_file(request, file).map(|(answer, _)| answer)
    }

    /// The answer, and the content of the file that came with it.
    pub fn ask_for_a_file(&self, request: &UpdaterRequest, file: Option<&Path>) -> std::io::Result<(UpdaterResponse, Option<Vec<u8>>)> {
        let stream = UnixStream::connect(self.lab.path("run/updater.sock"))?;
        let bytes = encode(request).unwrap();
        let file = file.map(|path| File::open(path).unwrap());
        let files: Vec<_> = file.iter().map(|file| file.as_raw_fd()).collect();
        let along = [ControlMessage::ScmRights(&files)];
        let along = if files.is_empty() { &along[..0] } else { &along[..] };
        sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&bytes)], along, MsgFlags::empty(), None)?;
        let (mut inbox, mut piece, mut content) = (Inbox::default(), vec![0; 4096], None);
        loop {
            if let Some(answer) = inbox.take().map_err(std::io::Error::other)? {
                return Ok((answer, content));
            }
            let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let length = recvmsg(&stream, &mut [IoSliceMut::new(&mut piece)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(files) = message {
                    for file in files {
                        let mut bytes = vec![];
                        File::from(file).read_to_end(&mut bytes)?;
                        content = Some(bytes);
                    }
                }
            }
            match length {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                length => inbox.push(&piece[..length]),
            }
        }
    }

    pub fn status(&self) -> UpdaterStatus {
        match self.ask(&UpdaterRequest::Status, None).unwrap() {
            UpdaterResponse::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub fn begin(&self, bundle: &Path) -> UpdaterResponse {
        self.ask(&UpdaterRequest::Install { source: Source::Descriptor, downgrade: false, by: anna() }, Some(bundle)).unwrap()
    }

    pub fn wait(&self) -> UpdaterStatus {
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

    pub fn kill(mut self) {
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

pub fn anna() -> Principal {
    Principal { name: "anna".into(), address: None, connected_at: None }
}
