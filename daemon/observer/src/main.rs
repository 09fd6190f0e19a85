//! Wires the room and waits to be told to stop.

#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use observer::alerts::Alerts;
use observer::keeper::{self, Shared};
use observer::options::Options;
use observer::queue::Queue;
use observer::serve::Serve;
use observer::sources::{Gauge, file, stream};
use observer::store::{Limits, Store};
use tracing::{error, info};

/// What may wait to be stored, in bytes: a second and a half of the fastest flood that the disk keeps up with.
const WAITING: usize = 96 << 20;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            error!("{problem}");
            return ExitCode::from(2);
        }
    };
    match observe(&options) {
        Ok(signal) => {
            info!(%signal, "stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(%error, state = %options.state_dir.display(), "could not open the room");
            ExitCode::FAILURE
        }
    }
}

fn observe(options: &Options) -> Result<Signal, Box<dyn std::error::Error>> {
    let stop = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    // Before any thread exists, so that all of them inherit it and only `wait` below sees the signal.
    stop.thread_block()?;
    fs::create_dir_all(&options.state_dir)?;
    let queue = Arc::new(Queue::new(WAITING));
    let mut store = Store::open(&options.state_dir.join("events"), Limits::of(options.keep))?;
    let shared = Arc::new(Shared::new(Alerts::open(&options.state_dir.join("alerts.db"))?));

    let gauges = [Arc::new(Gauge::new("EVE socket")), Arc::new(Gauge::new("EVE file"))];
    let serve = Serve {
        queue: queue.clone(),
        shelf: store.shelf.clone(),
        troubles: store.troubles.clone(),
        shared: shared.clone(),
        gauges: gauges.iter().take(if options.file.is_some() { 2 } else { 1 }).cloned().collect(),
        bytes_max: options.keep,
        allowed: options.allowed.clone(),
        open: AtomicUsize::new(0),
    };
    let [socket, tail] = gauges;
    let (asked, eve) = (options.run_dir.join("observer.sock"), options.run_dir.join("eve.sock"));
    Arc::new(serve).start(&asked)?;
    stream::start(&eve, options.sensors.clone(), queue.clone(), socket)?;
    if let Some(path) = &options.file {
        file::start(path.clone(), queue.clone(), tail)?;
    }
    let keeper = {
        let queue = queue.clone();
        thread::Builder::new().name("keep".into()).spawn(move || keeper::run(&queue, &mut store, &shared))?
    };
    info!(asked = %asked.display(), eve = %eve.display(), "watching");
    sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("watching")])?;

    let signal = stop.wait()?;
    // What was read is stored before the process leaves.
    queue.close();
    keeper.join().map_err(|_| "the keeper panicked")?;
    for socket in [asked, eve] {
        fs::remove_file(socket)?;
    }
    Ok(signal)
}
