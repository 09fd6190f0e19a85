//! `portcullis-control`: opens what the library needs and waits to be told to stop.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use control::flags::{Flags, Parsed};
use control::http::server::Server;
use control::{Site, blocked, certificate, hot_reload, pulse, rescue, revision, routes, seed, setup};
use nix::sys::signal::{SigSet, Signal};
use tracing::{error, info};

fn main() -> ExitCode {
    let flags = match Flags::parse(std::env::args().skip(1)) {
        Parsed::Run(flags) => flags,
        Parsed::Say(text) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Parsed::Wrong(why) => {
            eprintln!("portcullis-control: {why}\n\n{}", Flags::HELP);
            return ExitCode::from(2);
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter).init();
    if flags.rescue {
        return rescue(flags);
    }
    match run(flags) {
        Ok(signal) => {
            info!(%signal, "stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!("{}", with_sources(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> Result<Signal, Box<dyn std::error::Error>> {
    let stop = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    // Before any thread exists, so that all of them inherit it and only `wait` below sees the signal.
    stop.thread_block()?;

    // Users, keys and sessions are nobody else's to read; what others need is opened to them by name.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    certificate::provide(&flags.settings)?;
    let (site, database) = Site::open(flags.settings, flags.applier_socket)?;
    match database {
        // Without a database the pages still say so, and the box runs on.
        Err(trouble) => error!("{}", with_sources(&trouble)),
        Ok(()) => setup::offer(&site).unwrap_or_else(|trouble| error!(%trouble, "no set-up code could be offered")),
    }
    let site = Arc::new(site);
    let socket = site.settings.run_dir.join("control.sock");
    let server = Server::start(&socket, site.clone(), Arc::new(routes::router()))?;
    certificate::share_socket(&socket);
    let poller = site.clone();
    thread::Builder::new().name("poll".to_owned()).spawn(move || poll(&poller))?;
    let watcher = site.clone();
    let seeded = site.clone();
    thread::Builder::new().name("seed".to_owned()).spawn(move || seed::watch(&seeded))?;
    thread::Builder::new().name("watch".to_owned()).spawn(move || hot_reload::watch(&watcher))?;
    thread::Builder::new().name("serve".to_owned()).spawn(move || {
        server.wait();
        // Nobody would be answered any more; a new process can.
        error!("the HTTP server ended by itself");
        std::process::exit(1);
    })?;
    info!(socket = %socket.display(), "pages and API are served");
    sd_notify::notify(&[sd_notify::NotifyState::Ready])?;
    let asked = socket.clone();
    thread::Builder::new().name("pulse".to_owned()).spawn(move || pulse::run(&asked))?;

    let signal = stop.wait()?;
    site.ticks.stop();
    let _ = std::fs::remove_file(&socket);
    Ok(signal)
}

/// One connection of the console, and then the end.
fn rescue(flags: Flags) -> ExitCode {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let mut allowed = vec![0];
    allowed.extend(nix::unistd::User::from_name(&flags.console_user).ok().flatten().map(|user| user.uid.as_raw()));
    let answered = || -> Result<(), Box<dyn std::error::Error>> {
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (site, opened) = Site::open(flags.settings, flags.applier_socket)?;
        Ok(rescue::serve(&site, opened, stream, &allowed)?)
    };
    match answered() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{}", with_sources(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Asks the applier once a second, and tells everyone who waits.
fn poll(site: &Site) {
    while !site.ticks.stopped() {
        site.applier.poll(site.now());
        if let Err(trouble) = revision::follow(site, &site.applier.seen()) {
            tracing::warn!(%trouble, "revisions could not follow the applier");
        }
        if let Err(trouble) = blocked::follow(site) {
            tracing::warn!(%trouble, "who is blocked could not be written down");
        }
        site.ticks.tick();
        thread::sleep(Duration::from_secs(1));
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
