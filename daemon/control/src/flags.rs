//! The command line.

use std::path::PathBuf;

use crate::site::Settings;

#[derive(Debug)]
pub struct Flags {
    pub settings: Settings,
    pub applier_socket: PathBuf,
}

#[derive(Debug)]
pub enum Parsed {
    Run(Flags),
    Say(String),
    Wrong(String),
}

impl Flags {
    pub const HELP: &str = "\
portcullis-control: pages, API, users and revisions of a Portcullis box

  --run-dir DIR          sockets, the one-time code and the front's certificate   [PORTCULLIS_RUN_DIR, /run/portcullis]
  --state-dir DIR        databases and keys                                      [PORTCULLIS_STATE_DIR, /var/lib/portcullis/control]
  --policy-dir DIR       a folder whose *.yaml become a candidate when changed     [PORTCULLIS_POLICY_DIR]
  --applier-socket FILE  where the applier listens                                [RUN_DIR/applier.sock]
";

    pub fn parse(mut args: impl Iterator<Item = String>) -> Parsed {
        let from_environment = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut run_dir = from_environment("PORTCULLIS_RUN_DIR").unwrap_or_else(|| "/run/portcullis".into());
        let mut state_dir = from_environment("PORTCULLIS_STATE_DIR").unwrap_or_else(|| "/var/lib/portcullis/control".into());
        let mut policy_dir = from_environment("PORTCULLIS_POLICY_DIR");
        let mut applier_socket = None;
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (arg, None),
            };
            if name == "--help" || name == "-h" {
                return Parsed::Say(Self::HELP.to_owned());
            }
            if !matches!(name.as_str(), "--run-dir" | "--state-dir" | "--policy-dir" | "--applier-socket") {
                return Parsed::Wrong(format!("{name} is not known"));
            }
            let Some(value) = value.or_else(|| args.next()).map(PathBuf::from) else {
                return Parsed::Wrong(format!("{name} needs a path"));
            };
            match name.as_str() {
                "--run-dir" => run_dir = value,
                "--state-dir" => state_dir = value,
                "--policy-dir" => policy_dir = Some(value),
                _ => applier_socket = Some(value),
            }
        }
        let applier_socket = applier_socket.unwrap_or_else(|| run_dir.join("applier.sock"));
        Parsed::Run(Flags { settings: Settings { run_dir, state_dir, policy_dir }, applier_socket })
    }
}
