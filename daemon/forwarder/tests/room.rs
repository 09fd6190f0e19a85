//! The room as its supervisor sees it: it opens, says that it is ready, and leaves when it is told to.

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn an_empty_room_opens_over_a_stale_socket_and_closes_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("forwarder.sock");
    std::fs::write(&socket, "left by a killed process").unwrap();
    let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(10))).unwrap();

    let mut room = Command::new(env!("CARGO_BIN_EXE_portcullis-forwarder"))
        .env("PORTCULLIS_RUN_DIR", dir.path())
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .spawn()
        .unwrap();
    let mut message = [0; 256];
    let length = notify.recv(&mut message).unwrap();
    assert!(message[..length].starts_with(b"READY=1"));
    UnixStream::connect(&socket).unwrap();

    kill(Pid::from_raw(room.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(room.wait().unwrap().success());
    assert!(!socket.exists());
}
