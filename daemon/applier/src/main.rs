//! The applier: makes the box equal to a policy, waits for confirmation, or goes back.
//!
//! ```text
//!  control, cli ─▶ server ─┐                       ┌─▶ store   generations, what is confirmed, the note of a trial
//!  time ───────────────────┼─▶ machine ─▶ hands ───┼─▶ gate    nftables, links, routes, rules, rates, sysctls, services
//!  nft monitor, SIGTERM ───┘   (decides)  (act)    ├─▶ mapped  who is let in to the forwarder
//!  forwarder ─────────────────────────────────────▶┘   server  answers
//! ```
//!
//! It runs as an ordinary user with CAP_NET_ADMIN, and with CAP_NET_RAW for two kinds of socket that it makes for the forwarder. It takes policies, never rules or file contents, from root and from users it was
//! told of; it opens no network socket. When it dies, whatever stands in the kernel stays: it fails shut or as confirmed.

#![forbid(unsafe_code)]

mod clock;
mod factory;
mod flows;
mod gate;
mod hands;
mod judge;
mod lockdown;
mod machine;
mod mapped;
mod options;
mod safe_mode;
mod schedule;
mod server;
mod services;
mod store;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use sd_notify::NotifyState;
use tracing::{error, info, warn};

use crate::gate::{Gate, told};
use crate::hands::Hands;
use crate::judge::Judge;
use crate::machine::{Input, Machine, Settings};
use crate::mapped::{Mapped, Setup};
use crate::options::Options;
use crate::server::Server;
use crate::services::Services;
use crate::store::{Folder, Store};

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false).with_ansi(false).init();
    match Options::read(std::env::args().skip(1), |name| std::env::var(name).ok()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            error!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), String> {
    umask(Mode::from_bits_truncate(0o077));
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // Before any thread exists, so that all of them leave signals to the loop.
    signals.thread_block().map_err(|error| format!("could not block signals: {error}"))?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(|error| format!("could not listen for signals: {error}"))?;

    // The gate first: whatever fails after this line, the box is shut.
    let services = Services::new(options.files_dir.clone(), options.run_dir.clone());
    let mut gate = Gate::open(services).map_err(|error| told(&error))?;
    gate.guard().unwrap_or_else(|why| error!("lockdown could not be installed: {why}"));

    fs::create_dir_all(&options.state_dir).map_err(|error| format!("could not make {}: {error}", options.state_dir.display()))?;
    let _lock = lock(&options)?;
    let mut store = Store::new(Folder(options.state_dir.clone()));
    let mut found = store.found().map_err(|error| error.to_string())?;
    if let Some(file) = options.factory_policy.as_deref().filter(|_| found.confirmed.is_none()) {
        match factory::adopt(&mut store, file, found.next) {
            Ok(number) => {
                found.confirmed = Some(number);
                found.next = number + 1;
            }
            Err(why) => found.remarks.push(format!("the factory policy cannot be used: {why}")),
        }
    }
    let server = Server::open(&options.run_dir.join("applier.sock"), options.allowed)
        .map_err(|error| format!("could not listen in {}: {error}", options.run_dir.display()))?;
    let judge = Judge::new().map_err(|error| format!("could not make a pair of sockets: {error}"))?;
    let machine = Machine::new(Settings { drift_every: options.drift_every });
    let mapped = Mapped::open(Setup {
        run_dir: &options.run_dir,
        state_dir: options.state_dir,
        forwarder: options.forwarder,
        lasts: options.permits_last,
    })?;
    let mut hands = Hands::new(machine, gate, store, server, judge, mapped);
    hands.take(Input::Started(found));
    notify(&[NotifyState::Ready, NotifyState::Status(&hands.machine.summary())]);
    attend(&mut hands, &signals)?;
    notify(&[NotifyState::Stopping]);
    hands.mapped.finish();
    info!("ended; the kernel keeps what stands");
    Ok(())
}

/// Until SIGTERM.
fn attend(hands: &mut Hands, signals: &SignalFd) -> Result<(), String> {
    let mut ticked = clock::now().boot;
    let mut said = String::new();
    while !hands.is_done() {
        let due = (ticked + TICK).saturating_sub(clock::now().boot);
        let heard = listen(hands, signals, due)?;
        if heard.signal && signals.read_signal().is_ok_and(|signal| signal.is_some()) {
            hands.take(Input::Shutdown);
        }
        if heard.monitor && hands.gate.heard_a_stranger() {
            hands.take(Input::TablesChanged);
        }
        if heard.forwarder {
            hands.mapped.turn(&mut hands.gate);
        }
        if heard.judge {
            hands.take_verdict();
        }
        for (key, flags) in heard.peers {
            hands.server.ready(key, flags, clock::now().boot);
        }
        while let Some((caller, request)) = hands.server.request() {
            hands.take(Input::Request(caller, request));
        }
        let now = clock::now().boot;
        if now >= ticked + TICK {
            ticked = now;
            hands.server.tick(now);
            hands.take(Input::Tick);
            hands.mapped.tick(&mut hands.gate);
            notify(&[NotifyState::Watchdog]);
        }
        hands.take_proof();
        let summary = hands.machine.summary();
        if summary != said {
            notify(&[NotifyState::Status(&summary)]);
            said = summary;
        }
    }
    Ok(())
}

/// Deadlines, schedules and drift are looked at this often.
const TICK: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Heard {
    signal: bool,
    monitor: bool,
    judge: bool,
    forwarder: bool,
    peers: Vec<(u64, PollFlags)>,
}

fn listen(hands: &Hands, signals: &SignalFd, at_most: Duration) -> Result<Heard, String> {
    let peers = hands.server.interests();
    let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(hands.judge.as_fd(), PollFlags::POLLIN)];
    fds.extend(peers.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)));
    let mapped = hands.mapped.interests();
    fds.extend(mapped.iter().map(|(fd, flags)| PollFd::new(*fd, *flags)));
    fds.extend(hands.gate.monitor().map(|monitor| PollFd::new(monitor.as_fd(), PollFlags::POLLIN)));
    let timeout = PollTimeout::try_from(at_most.as_millis() as i32 + 1).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds, timeout) {
        Ok(_) => {}
        Err(nix::errno::Errno::EINTR) => return Ok(Heard::default()),
        Err(error) => return Err(format!("could not wait for events: {error}")),
    }
    let flags = |place: usize| fds.get(place).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
    Ok(Heard {
        signal: !flags(0).is_empty(),
        judge: !flags(1).is_empty(),
        forwarder: (0..mapped.len()).any(|place| !flags(2 + peers.len() + place).is_empty()),
        monitor: !flags(2 + peers.len() + mapped.len()).is_empty(),
        peers: peers
            .iter()
            .enumerate()
            .map(|(place, (key, _, _))| (*key, flags(2 + place)))
            .filter(|(_, flags)| !flags.is_empty())
            .collect(),
    })
}

/// Two appliers on one state would each undo the other's work.
fn lock(options: &Options) -> Result<Flock<File>, String> {
    let path = options.state_dir.join("lock");
    let file = File::create(&path).map_err(|error| format!("could not open {}: {error}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| format!("another applier works on {}: {error}", options.state_dir.display()))
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager could not be told");
    }
}
