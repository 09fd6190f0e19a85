//! How the process was started.

use std::path::PathBuf;

use nix::unistd::User;

#[derive(Debug, Clone)]
pub struct Options {
    pub mode: Mode,
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    /// Where `usr/lib/os-release`, the recipe and the keys lie below.
    pub tree: PathBuf,
    /// The disk with the slots; None finds it by the root that was booted.
    pub disk: Option<PathBuf>,
    /// A folder that is the ESP already; None mounts it.
    pub esp: Option<PathBuf>,
    /// None is what the kernel was started with.
    pub root_hash: Option<String>,
    /// Volumes that count as sticks although the kernel does not call them removable.
    pub also_sticks: Vec<String>,
    pub systemctl: PathBuf,
    /// As whom addresses are asked.
    pub fetch_user: String,
    /// User ids that may speak to us.
    pub allowed: Vec<u32>,
    /// How long `bless` waits.
    pub patience: std::time::Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Serve,
    /// Once at boot: clear up, and write down what became of an update.
    Settle,
    /// Once at boot: is this version good?
    Bless,
}

pub const USAGE: &str = "\
portcullis-updater [settle | bless]: writes slots, and does what else only root may

  --run-dir DIR      sockets (PORTCULLIS_RUN_DIR; /run/portcullis)
  --state-dir DIR    what became of the last update, and mounts (PORTCULLIS_UPDATER_DIR; /var/lib/portcullis/updater)
  --allow-user NAME  who may speak to us besides root; repeat it
  --tree DIR         where the image's own files lie (/)
  --disk DEVICE      the disk with the slots (the one whose root was booted)
  --esp DIR          the boot partition, mounted (mounted here)
  --root-hash HEX    what was booted (the kernel's command line)
  --also-stick NAME  a volume that counts as a stick, like sdb1; repeat it
  --systemctl FILE   what reboots (/usr/bin/systemctl)
  --fetch-user NAME  as whom addresses are asked (portcullis-fetch)
  --patience SECONDS how long bless waits (120)";

impl Options {
    pub fn read(arguments: impl Iterator<Item = String>, environment: impl Fn(&str) -> Option<String>) -> Result<Options, String> {
        let mut arguments = arguments.peekable();
        let path = |name: &str, usual: &str| PathBuf::from(environment(name).unwrap_or_else(|| usual.into()));
        let mode = match arguments.peek().map(String::as_str) {
            Some("settle") => Mode::Settle,
            Some("bless") => Mode::Bless,
            _ => Mode::Serve,
        };
        if mode != Mode::Serve {
            arguments.next();
        }
        let mut options = Options {
            mode,
            run_dir: path("PORTCULLIS_RUN_DIR", "/run/portcullis"),
            state_dir: path("PORTCULLIS_UPDATER_DIR", "/var/lib/portcullis/updater"),
            tree: "/".into(),
            disk: None,
            esp: None,
            root_hash: None,
            also_sticks: vec![],
            systemctl: "/usr/bin/systemctl".into(),
            fetch_user: "portcullis-fetch".into(),
            allowed: vec![0],
            patience: crate::bless::PATIENCE,
        };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value\n\n{USAGE}"));
            match flag.as_str() {
                "--run-dir" => options.run_dir = value()?.into(),
                "--state-dir" => options.state_dir = value()?.into(),
                "--tree" => options.tree = value()?.into(),
                "--disk" => options.disk = Some(value()?.into()),
                "--esp" => options.esp = Some(value()?.into()),
                "--root-hash" => options.root_hash = Some(value()?),
                "--also-stick" => options.also_sticks.push(value()?),
                "--systemctl" => options.systemctl = value()?.into(),
                "--fetch-user" => options.fetch_user = value()?,
                // A user that this image does not have cannot ask, and is no reason not to answer the others.
                "--allow-user" => options.allowed.extend(user(&value()?).ok()),
                "--patience" => {
                    let text = value()?;
                    let seconds = text.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
                    options.patience =
                        std::time::Duration::from_secs(seconds.ok_or_else(|| format!("--patience {text}: use 1 to 3600 seconds"))?);
                }
                _ => return Err(format!("unknown flag {flag}\n\n{USAGE}")),
            }
        }
        Ok(options)
    }
}

pub fn user(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!("there is no user {name}")),
        Err(error) => Err(format!("user {name}: {error}")),
    }
}
