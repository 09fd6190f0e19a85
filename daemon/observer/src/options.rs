//! What the process is told at its start.

use std::path::PathBuf;

use nix::unistd::User;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    /// Bytes of stored events.
    pub keep: u64,
    /// Who may ask, by user id; root may always.
    pub allowed: Vec<u32>,
    /// Who may send events, by user id; root may always.
    pub sensors: Vec<u32>,
    /// A file that is followed beside the socket.
    pub file: Option<PathBuf>,
}

const USAGE: &str = "portcullis-observer [--keep BYTES] [--allow-user NAME]... [--sensor-user NAME]... [--file EVE.JSON]";

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let folder = |name: &str, usual: &str| std::env::var_os(name).map_or_else(|| PathBuf::from(usual), PathBuf::from);
        let mut options = Options {
            run_dir: folder("PORTCULLIS_RUN_DIR", "/run/portcullis"),
            state_dir: folder("PORTCULLIS_STATE_DIR", "/var/lib/portcullis/observer"),
            keep: 2 << 30,
            allowed: vec![0],
            sensors: vec![0],
            file: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value; {USAGE}"));
            match argument.as_str() {
                "--keep" => options.keep = bytes(&value()?)?,
                "--allow-user" => options.allowed.push(user(&value()?)?),
                "--sensor-user" => options.sensors.push(user(&value()?)?),
                "--file" => options.file = Some(value()?.into()),
                other => return Err(format!("{other} is not known; {USAGE}")),
            }
        }
        Ok(options)
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let bytes: u64 = text.parse().map_err(|_| format!("--keep {text}: a number of bytes is needed"))?;
    if bytes < 16 << 20 { Err(format!("--keep {text}: less than 16 MiB keeps nothing worth keeping")) } else { Ok(bytes) }
}

fn user(name: &str) -> Result<u32, String> {
    if let Ok(uid) = name.parse() {
        return Ok(uid);
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!("there is no user {name}")),
        Err(error) => Err(format!("user {name} could not be looked up: {error}")),
    }
}
