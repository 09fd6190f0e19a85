//! How the process was started: flags, and environment variables where flags are silent.

use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{User, getuid};

use crate::tcp::Patience;

#[derive(Debug)]
pub struct Options {
    pub run_dir: PathBuf,
    /// User ids that may ask us; root always may.
    pub allowed: Vec<u32>,
    /// User ids whose socket is believed to be the applier's.
    pub appliers: Vec<u32>,
    pub flows_per_client: Option<usize>,
    pub patience: Patience,
}

pub const USAGE: &str = "\
portcullis-forwarder: carries mapped clients to their upstreams

  --run-dir DIR            sockets (PORTCULLIS_RUN_DIR; /run/portcullis)
  --allow-user NAME        who may ask us besides root; repeat it (PORTCULLIS_ALLOW_USERS, with commas)
  --applier-user NAME      who the applier runs as, if neither root nor our own user
  --flows-per-client N     at most so many at once (half of all that the descriptors allow)
  --connect-within SECONDS for a connection to an upstream, and for its first word (5)
  --answer-within SECONDS  for an upstream that reaches for a destination (30)
  --idle-after SECONDS     a connection without a byte ends (7440: RFC 5382)
  --half-closed SECONDS    the same, when one side has ended (600)";

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = String>, environment: impl Fn(&str) -> Option<String>) -> Result<Options, String> {
        let run_dir = environment("PORTCULLIS_RUN_DIR").unwrap_or_else(|| "/run/portcullis".into());
        let mut options = Options {
            run_dir: run_dir.into(),
            allowed: vec![0],
            appliers: vec![0, getuid().as_raw()],
            flows_per_client: None,
            patience: Patience::default(),
        };
        let mut users: Vec<String> =
            environment("PORTCULLIS_ALLOW_USERS").map(|names| names.split(',').map(str::to_owned).collect()).unwrap_or_default();
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value\n\n{USAGE}"));
            let seconds = |text: String| {
                let seconds = text.parse().ok().filter(|seconds| (0.1..=604_800.0).contains(seconds));
                seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("{flag} {text}: use 0.1 to 604800 seconds"))
            };
            match flag.as_str() {
                "--run-dir" => options.run_dir = value()?.into(),
                "--allow-user" => users.push(value()?),
                "--applier-user" => options.appliers.push(uid(&flag, &value()?)?),
                "--flows-per-client" => {
                    let text = value()?;
                    let number = text.parse().ok().filter(|number| *number > 0);
                    options.flows_per_client = Some(number.ok_or_else(|| format!("{flag} {text}: use a number above 0"))?);
                }
                "--connect-within" => {
                    options.patience.connect = seconds(value()?)?;
                    options.patience.greeting = options.patience.connect;
                }
                "--answer-within" => options.patience.answer = seconds(value()?)?,
                "--idle-after" => options.patience.idle = seconds(value()?)?,
                "--half-closed" => options.patience.half_closed = seconds(value()?)?,
                _ => return Err(format!("unknown flag {flag}\n\n{USAGE}")),
            }
        }
        for name in users.iter().filter(|name| !name.is_empty()) {
            options.allowed.push(uid("--allow-user", name)?);
        }
        Ok(options)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Options, String> {
        Options::read(arguments.iter().map(|text| (*text).to_owned()), |_| None)
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_flag() {
        for (arguments, flag) in [
            (&["--idle-after", "0"][..], "--idle-after 0"),
            (&["--flows-per-client", "none"], "--flows-per-client none"),
            (&["--allow-user", "no-such-user-here"], "--allow-user no-such-user-here"),
            (&["--run-dir"], "--run-dir"),
            (&["--verbose"], "--verbose"),
        ] {
            assert!(read(arguments).unwrap_err().contains(flag));
        }
    }

    #[test]
    fn root_may_always_ask_and_others_only_if_named() {
        assert_eq!(read(&[]).unwrap().allowed, [0]);
        assert_eq!(read(&["--allow-user", "4711"]).unwrap().allowed, [0, 4711]);
    }
}
