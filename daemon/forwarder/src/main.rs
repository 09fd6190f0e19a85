//! The forwarder: carries TCP and UDP of mapped clients to their upstream proxies, or not at all.
//!
//! ```text
//!  applier ══link══▶ link ──▶ config (what is carried)          health ──▶ upstreams (probes)
//!             │       ▲            │                              │
//!             │       └────────────┼──── news ◀──── board ◀───────┘
//!          sockets                 ▼                  ▲
//!             └────────▶ tcp, udp, dns ──failed───────┘
//!                        │                               serve ◀── control, cli
//!  clients ◀─────────────┴──▶ upstreams
//! ```
//!
//! It has no capability. The sockets on which clients arrive are bound by the applier and handed over the link; it opens none but
//! to upstreams. It writes no file, resolves no name, and keeps secrets in memory alone. When it dies, the applier takes back what
//! lets clients in, and nothing passes.

#![forbid(unsafe_code)]

mod config;
mod dial;
mod dns;
mod flows;
mod health;
mod link;
mod options;
mod pulse;
mod serve;
mod shared;
mod sockets;
mod tcp;
mod udp;

use std::fs;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use policy::messages::forwarder::WORKERS;
use sd_notify::NotifyState;
use tracing::{error, info, warn};

use crate::flows::{Door, Limits, lock};
use crate::link::Link;
use crate::options::Options;
use crate::pulse::Pulse;
use crate::serve::Serve;
use crate::shared::Shared;
use crate::sockets::{Sockets, is_listener};
use crate::tcp::{Listener, Workers};

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false).with_ansi(false).init();
    let options = match Options::read(std::env::args().skip(1), |name| std::env::var(name).ok()) {
        Ok(options) => options,
        Err(why) => {
            error!("{why}");
            return ExitCode::FAILURE;
        }
    };
    match run(options) {
        Ok(signal) => {
            info!(%signal, "stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(%error, "could not begin");
            ExitCode::FAILURE
        }
    }
}

/// Until it is told to stop. Flows end with the process.
fn run(options: Options) -> io::Result<Signal> {
    let stop = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    // Before any thread exists, so that all of them inherit it and only `wait` below sees the signal.
    stop.thread_block()?;
    let descriptors = descriptors();
    let shared = Arc::new(Shared::new(limits(descriptors, options.flows_per_client), descriptors)?);
    let socket = options.run_dir.join("forwarder.sock");
    let serve = Serve::open(&socket, options.allowed, shared.clone())?;
    begin("serve".into(), || serve.run())?;
    for number in 0..WORKERS {
        let (handle, worker) = udp::worker(shared.clone())?;
        begin(format!("udp-{number}"), || worker.run())?;
        lock(&shared.datagrams).push(handle);
    }
    let workers = Workers::start(WORKERS, &shared, options.patience, begin)?;
    let pulse = Pulse(doors(&workers, &lock(&shared.datagrams), &shared));
    let mut link = Link {
        path: options.run_dir.join("forwarder-link.sock"),
        appliers: options.appliers,
        shared: shared.clone(),
        sockets: Box::new(move |sockets| hand_out(sockets, &workers, &lock(&shared.datagrams))),
    };
    begin("link".into(), move || link.run())?;
    info!(descriptors, "ready");
    sd_notify::notify(&[NotifyState::Ready])?;
    begin("pulse".into(), move || pulse.run())?;

    let signal = stop.wait()?;
    sd_notify::notify(&[NotifyState::Stopping])?;
    fs::remove_file(socket)?;
    Ok(signal)
}

/// Of every thread that must turn.
fn doors(workers: &Workers, datagrams: &[udp::Handle], shared: &Shared) -> Vec<(String, Arc<Door>)> {
    let streams = workers.doors().enumerate().map(|(number, door)| (format!("tcp-{number}"), door));
    let datagrams = datagrams.iter().enumerate().map(|(number, handle)| (format!("udp-{number}"), handle.door.clone()));
    streams.chain(datagrams).chain([("link".to_owned(), shared.news.clone())]).collect()
}

fn hand_out(sockets: Sockets, workers: &Workers, datagrams: &[udp::Handle]) {
    for (number, sockets) in sockets.0.into_iter().enumerate() {
        let (listeners, others): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|(kind, _)| is_listener(*kind));
        workers.listen(number, listeners.into_iter().map(|(kind, fd)| Listener { kind, fd }).collect());
        if let (Some(handle), Some(sockets)) = (datagrams.get(number), udp::Sockets::of(others)) {
            handle.listen(sockets);
        }
    }
}

/// A thread that must not end: without one of them the process is half a forwarder, and its supervisor starts a whole one.
fn begin(name: String, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let thread = name.clone();
    thread::Builder::new().name(name).spawn(move || {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        error!(thread, ?ended, "a thread ended: so does the process");
        std::process::exit(1)
    })?;
    Ok(())
}

/// As many as may be had. The soft limit is low for the sake of `select`, which nobody here calls.
fn descriptors() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        warn!(soft, hard, "the limit of descriptors could not be raised");
        return soft;
    }
    hard
}

/// A flow costs two descriptors; some are kept for probes, pipes, and those who ask.
fn limits(descriptors: u64, per_client: Option<usize>) -> Limits {
    let kept = (descriptors / 4).min(2000);
    let flows = ((descriptors - kept) / 2).min(1 << 20) as usize;
    Limits { flows, per_client: per_client.unwrap_or((flows / 2).max(1)) }
}
