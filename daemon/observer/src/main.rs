//! The room of the observer: it will turn what the box sees into events and alerts, unprivileged, in its own database
//! and under its own memory limit, so that watching never hurts carrying.
//!
//! Today the room is empty. It opens its socket, so that the box's wiring is real, says that it does nothing, and
//! waits to be told to stop. It answers nobody: a connection is closed without a word.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tracing::{error, info, warn};

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let run_dir = std::env::var_os("PORTCULLIS_RUN_DIR").map_or_else(|| PathBuf::from("/run/portcullis"), PathBuf::from);
    match idle(&run_dir.join("observer.sock")) {
        Ok(signal) => {
            info!(%signal, "stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(%error, run_dir = %run_dir.display(), "could not open the room");
            ExitCode::FAILURE
        }
    }
}

fn idle(socket: &Path) -> io::Result<Signal> {
    let stop = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    // Before any thread exists, so that all of them inherit it and only `wait` below sees the signal.
    stop.thread_block()?;
    let listener = listen(socket)?;
    thread::spawn(move || listener.incoming().for_each(drop));
    info!(socket = %socket.display(), "the observer is an empty room: it watches nothing yet");
    sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("an empty room: watches nothing yet")])?;

    let asked = socket.to_owned();
    thread::spawn(move || pulse(&asked));

    let signal = stop.wait()?;
    fs::remove_file(socket)?;
    Ok(signal)
}

/// While the room still opens its door, the service manager hears that it lives.
fn pulse(socket: &Path) -> ! {
    loop {
        match opens(socket) {
            Ok(()) => _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]),
            Err(error) => warn!(%error, "nobody opens"),
        }
        thread::sleep(Duration::from_secs(10));
    }
}

/// Answered without a word, but answered.
fn opens(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.read_to_end(&mut vec![]).map(drop)
}

/// A socket that an earlier, killed process left behind would refuse the name.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(socket)
}
