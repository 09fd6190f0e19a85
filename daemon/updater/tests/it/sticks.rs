//! A stick, as a loop device with a file system of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use policy::messages::updater::{Refusal, UpdaterRequest, UpdaterResponse};

use crate::lab::{Lab, anna};

struct Loop(String);

impl Loop {
    fn new(file: &PathBuf) -> Loop {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Loop(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    fn name(&self) -> String {
        self.0.trim_start_matches("/dev/").to_owned()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn a_stick_is_read_and_written_and_nothing_beside_it() {
    let lab = Lab::new();
    let (image, payload) = (lab.path("stick"), lab.path("payload"));
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    assert!(Command::new("mkfs.ext4").args(["-q", "-L", "TOOLS"]).arg(&image).status().unwrap().success());
    fs::write(&payload, b"an encrypted backup".repeat(1000)).unwrap();
    let device = Loop::new(&image);
    let (stick, running) = (device.name(), lab.start_with_stick(&device.name()));

    let write = |stick: &str, name: &str| {
        running.ask(&UpdaterRequest::WriteToStick { stick: stick.into(), name: name.into(), by: anna() }, Some(&payload)).unwrap()
    };
    assert_eq!(write(&stick, "büro.age"), UpdaterResponse::Written { size: 19_000 });
    for name in ["../escaped", "/tmp/escaped", ".hidden", "", "a/b", "a\nb"] {
        assert!(matches!(write(&stick, name), UpdaterResponse::Refused { why: Refusal::NoSuchFile, .. }), "{name:?} passed");
    }
    for stick in ["", "..", "loop", "../sda"] {
        assert!(matches!(write(stick, "x"), UpdaterResponse::Refused { why: Refusal::NoSuchStick, .. }), "{stick:?} passed");
    }
    let UpdaterResponse::Sticks { sticks } = running.ask(&UpdaterRequest::Sticks, None).unwrap() else { panic!("no list") };
    let ours = sticks.iter().find(|found| found.name == stick).unwrap();
    assert_eq!((ours.label.as_str(), ours.file_system.as_str(), ours.writable), ("TOOLS", "ext4", true));
    assert_eq!(ours.files.iter().map(|file| (file.name.as_str(), file.size)).collect::<Vec<_>>(), [("büro.age", 19_000)]);

    let read =
        |path: &str| running.ask_for_a_file(&UpdaterRequest::ReadFromStick { stick: stick.clone(), path: path.into() }, None).unwrap();
    let (answer, content) = read("büro.age");
    assert_eq!(answer, UpdaterResponse::File { size: 19_000 });
    assert!(content.unwrap() == fs::read(&payload).unwrap());
    for path in ["../../etc/passwd", "/etc/passwd", "lost+found", "missing"] {
        assert!(matches!(read(path), (UpdaterResponse::Refused { why: Refusal::NoSuchFile, .. }, None)), "{path} passed");
    }
}
