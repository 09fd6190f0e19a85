//! The room of the forwarder: it will carry TCP and UDP of mapped clients to their upstream proxies, without any
//! capability, over sockets that are handed to it.
//!
//! Today the room is empty. It opens its socket, so that the box's wiring is real, says that it does nothing, and
//! waits to be told to stop. It answers nobody: a connection is closed without a word.

#![forbid(unsafe_code)]

#[allow(dead_code, reason = "until flows dial")]
mod dial;

use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use tracing::{error, info};

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let run_dir = std::env::var_os("PORTCULLIS_RUN_DIR").map_or_else(|| PathBuf::from("/run/portcullis"), PathBuf::from);
    match idle(&run_dir.join("forwarder.sock")) {
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
    info!(socket = %socket.display(), "the forwarder is an empty room: it carries nothing yet");
    sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("an empty room: carries nothing yet")])?;

    let signal = stop.wait()?;
    fs::remove_file(socket)?;
    Ok(signal)
}

/// A socket that an earlier, killed process left behind would refuse the name.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(socket)
}
