//! The command line.

use std::path::PathBuf;

use crate::site::Settings;

#[derive(Debug)]
pub struct Flags {
    pub settings: Settings,
    pub applier_socket: PathBuf,
    /// Answer the console over standard input instead of serving pages.
    pub rescue: bool,
    /// Who may speak as the console, besides root.
    pub console_user: String,
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
  --seed FILE            what configures a box that nobody sits at                [PORTCULLIS_SEED, /run/portcullis-seed/portcullis-seed.yaml]
  --rescue               answer the console over the socket on standard input and end; works without the other processes
  --console-user NAME    who may speak as the console, besides root               [portcullis-console]
";

    pub fn parse(mut args: impl Iterator<Item = String>) -> Parsed {
        let from_environment = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut run_dir = from_environment("PORTCULLIS_RUN_DIR").unwrap_or_else(|| "/run/portcullis".into());
        let mut state_dir = from_environment("PORTCULLIS_STATE_DIR").unwrap_or_else(|| "/var/lib/portcullis/control".into());
        let mut policy_dir = from_environment("PORTCULLIS_POLICY_DIR");
        let mut applier_socket = None;
        let mut seed = from_environment("PORTCULLIS_SEED").unwrap_or_else(|| "/run/portcullis-seed/portcullis-seed.yaml".into());
        let (mut rescue, mut console_user) = (false, "portcullis-console".to_owned());
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (arg, None),
            };
            if name == "--help" || name == "-h" {
                return Parsed::Say(Self::HELP.to_owned());
            }
            if name == "--rescue" {
                rescue = true;
                continue;
            }
            if !matches!(name.as_str(), "--seed" | "--console-user" | "--run-dir" | "--state-dir" | "--policy-dir" | "--applier-socket") {
                return Parsed::Wrong(format!("{name} is not known"));
            }
            let Some(value) = value.or_else(|| args.next()).map(PathBuf::from) else {
                return Parsed::Wrong(format!("{name} needs a value"));
            };
            match name.as_str() {
                "--run-dir" => run_dir = value,
                "--state-dir" => state_dir = value,
                "--seed" => seed = value,
                "--console-user" => console_user = value.to_string_lossy().into_owned(),
                "--policy-dir" => policy_dir = Some(value),
                _ => applier_socket = Some(value),
            }
        }
        let applier_socket = applier_socket.unwrap_or_else(|| run_dir.join("applier.sock"));
        Parsed::Run(Flags { settings: Settings { run_dir, state_dir, policy_dir, seed }, applier_socket, rescue, console_user })
    }
}
