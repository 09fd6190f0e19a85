//! The updater: writes slots, and does what else only root may.
//!
//! ```text
//!  control, console ─▶ server ─▶ updater ─┬─▶ bundle   signature, manifest, hashes: nothing is believed before them
//!                                         ├─▶ install  the slot that does not run ─▶ medium ─▶ disk (GPT, partitions, ESP)
//!                                         ├─▶ fetch    curl, as a user who may nothing else
//!                                         ├─▶ sticks   removable volumes, mounted for one request
//!                                         └─▶ power    reboot, power off
//!  boot ─▶ settle   what a power cut left goes; what became of the last update is written down
//!       ─▶ bless    is this version good? If not, the other slot
//! ```
//!
//! It runs as root, because it writes block devices and mounts; started by its socket, and gone when nobody asks. It never touches the slot
//! that runs, takes nothing that is not signed, and opens no network socket itself.

#![forbid(unsafe_code)]

mod bless;
mod bundle;
mod disk;
mod entries;
mod fetch;
mod health;
mod here;
mod install;
mod keys;
mod medium;
mod mount;
mod options;
mod power;
mod record;
mod server;
mod settle;
mod sticks;
#[cfg(test)]
mod tests;
mod updater;
mod version;

use std::fs;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use tracing::{error, info, warn};

use crate::bless::Verdict;
use crate::here::Here;
use crate::options::{Mode, Options};
use crate::power::Power;
use crate::updater::Updater;

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
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    fs::create_dir_all(&options.state_dir).map_err(|error| format!("could not make {}: {error}", options.state_dir.display()))?;
    let (here, remarks) = Here::look(&options)?;
    remarks.iter().for_each(|remark| warn!("{remark}"));
    match options.mode {
        Mode::Serve => serve(options, here),
        Mode::Settle => settle(&options, &here),
        Mode::Bless => bless(&options, &here),
    }
}

fn serve(options: Options, here: Here) -> Result<(), String> {
    let (listener, given) = server::listener(&options.run_dir.join("updater.sock"))
        .map_err(|error| format!("could not listen in {}: {error}", options.run_dir.display()))?;
    let allowed = options.allowed.clone();
    info!(version = %here.version, keys = here.keys.names().join(" "), "ready");
    let updater = Arc::new(Updater::new(options, here));
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    server::serve(&listener, &allowed, &updater, given).map_err(|error| format!("the socket failed: {error}"))
}

fn settle(options: &Options, here: &Here) -> Result<(), String> {
    if here.disk.is_none() {
        info!("not booted from a slot: there is nothing to settle");
        return Ok(());
    }
    here.repair_boot_partition().unwrap_or_else(|why| warn!(why, "the boot partition could not be checked"));
    let (mut disk, _mounted) = here.medium().map_err(|error| error.to_string())?;
    // Before entries are removed: what they counted is the reason why an update was taken back.
    let found = install::entries(&mut disk).map_err(|error| error.to_string())?;
    let cleaned = settle::clean(&mut disk, &here.version, &here.keys);
    let left = install::entries(&mut disk).unwrap_or(found);
    if let Some(told) = record::read(&options.state_dir).and_then(|last| settle::judge_last(&last, &here.version, &left, record::now())) {
        info!(version = told.version, outcome = ?told.outcome, reason = told.reason, "the last update");
        record::write(&options.state_dir, &told).map_err(|error| format!("it could not be written down: {error}"))?;
    }
    let remarks = cleaned.map_err(|error| format!("boot entries could not be checked: {error}"))?;
    remarks.iter().for_each(|remark| warn!("{remark}"));
    Ok(())
}

fn bless(options: &Options, here: &Here) -> Result<(), String> {
    if here.disk.is_none() {
        return Ok(());
    }
    // Not mounted while we wait: a power cut then finds the boot partition clean.
    let healthy = || health::wait(&options.run_dir, options.patience, |why| info!(why, "not yet good"));
    let found = {
        let (mut disk, _mounted) = here.medium().map_err(|error| error.to_string())?;
        install::entries(&mut disk)
    };
    let counted = found.map_err(|error| error.to_string())?.iter().any(|entry| entry.version == here.version && entry.is_counted());
    let health = if counted { healthy() } else { Ok(()) };
    let (mut disk, _mounted) = here.medium().map_err(|error| error.to_string())?;
    let verdict =
        bless::bless(&mut disk, &here.version, || health).map_err(|error| format!("the boot entry could not be changed: {error}"))?;
    if let Some(told) = record::read(&options.state_dir).and_then(|last| bless::record(&verdict, &last, &here.version, record::now())) {
        record::write(&options.state_dir, &told).unwrap_or_else(|error| warn!(%error, "it could not be written down"));
    }
    match verdict {
        Verdict::WasGood => info!(version = %here.version, "was found good before"),
        Verdict::NowGood => info!(version = %here.version, "is good: it is booted from now on"),
        Verdict::StayUp { why } => error!(why, "is not good, and there is nothing to go back to: it stays up, shut"),
        Verdict::GoBack { why } => {
            error!(why, "is not good: the other slot is booted");
            drop(_mounted);
            return power::soon(Power::Reboot, &options.systemctl);
        }
    }
    Ok(())
}
