//! How the process was started: flags, and environment variables where flags are silent.

use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::User;
use policy::messages::forwarder::FORWARDER_UID;

#[derive(Debug)]
pub struct Options {
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    /// Live files of driven services.
    pub files_dir: PathBuf,
    /// The policy of a box that never had one.
    pub factory_policy: Option<PathBuf>,
    /// User ids that may speak to us; root always may.
    pub allowed: Vec<u32>,
    pub drift_every: Duration,
    /// The forwarder's user id.
    pub forwarder: u32,
    /// How long a permit outlives us.
    pub permits_last: Duration,
}

pub const USAGE: &str = "\
portcullis-applier: makes the box equal to a policy, waits for confirmation, or goes back

  --run-dir DIR          sockets (PORTCULLIS_RUN_DIR; /run/portcullis)
  --state-dir DIR        generations (PORTCULLIS_STATE_DIR; /var/lib/portcullis/applier)
  --files-dir DIR        files of driven services (RUN_DIR/files)
  --factory-policy FILE  the policy of a box that never had one
  --allow-user NAME      who may speak to us besides root; repeat it (PORTCULLIS_ALLOW_USERS, with commas)
  --drift-every SECONDS  how often the kernel is compared with the plan (30)
  --forwarder-user NAME  who may be the forwarder (911)
  --permits-last SECONDS how long mapped clients are let in without us (90)";

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = String>, environment: impl Fn(&str) -> Option<String>) -> Result<Options, String> {
        let mut run_dir = environment("PORTCULLIS_RUN_DIR").unwrap_or_else(|| "/run/portcullis".into());
        let mut state_dir = environment("PORTCULLIS_STATE_DIR").unwrap_or_else(|| "/var/lib/portcullis/applier".into());
        let mut files_dir = None;
        let mut factory_policy = None;
        let mut users: Vec<String> =
            environment("PORTCULLIS_ALLOW_USERS").map(|names| names.split(',').map(str::to_owned).collect()).unwrap_or_default();
        let mut drift_every = Duration::from_secs(30);
        let mut forwarder = FORWARDER_UID;
        let mut permits_last = Duration::from_secs(90);
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value\n\n{USAGE}"));
            match flag.as_str() {
                "--run-dir" => run_dir = value()?,
                "--state-dir" => state_dir = value()?,
                "--files-dir" => files_dir = Some(PathBuf::from(value()?)),
                "--factory-policy" => factory_policy = Some(PathBuf::from(value()?)),
                "--allow-user" => users.push(value()?),
                "--forwarder-user" => forwarder = uid(&flag, &value()?)?,
                "--drift-every" => drift_every = seconds(&flag, &value()?, 0.1, 86_400.0)?,
                "--permits-last" => permits_last = seconds(&flag, &value()?, 1.0, 90.0)?,
                _ => return Err(format!("unknown flag {flag}\n\n{USAGE}")),
            }
        }
        let run_dir = PathBuf::from(run_dir);
        let mut allowed = vec![0];
        for name in users.iter().filter(|name| !name.is_empty()) {
            allowed.push(uid("--allow-user", name)?);
        }
        Ok(Options {
            files_dir: files_dir.unwrap_or_else(|| run_dir.join("files")),
            run_dir,
            state_dir: state_dir.into(),
            factory_policy,
            allowed,
            drift_every,
            forwarder,
            permits_last,
        })
    }
}

fn seconds(flag: &str, text: &str, least: f64, most: f64) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (least..=most).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("{flag} {text}: use {least} to {most} seconds"))
}

fn uid(flag: &str, name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!("{flag} {name}: there is no such user")),
        Err(error) => Err(format!("{flag} {name}: {error}")),
    }
}
