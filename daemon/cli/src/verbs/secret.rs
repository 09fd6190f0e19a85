//! `portcullis secret`: what upstreams want to hear. A value never stands on a command line, where every user of the box could read it.

use std::io::{BufRead, IsTerminal, Read, Write};

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use policy::messages::{ApplierRequest, ApplierResponse};
use policy::name::Name;

use super::say;
use crate::applier::{Applier, myself};
use crate::args::Secret;
use crate::trouble::Trouble;

pub fn run(verb: Secret, applier: &Applier) -> Result<(), Trouble> {
    match verb {
        Secret::Set { name } => {
            let name = named(&name)?;
            let value = value()?;
            keep(&name, value, applier)?;
            say(format!("the secret {name} is set"))
        }
        Secret::Remove { name } => {
            let name = named(&name)?;
            keep(&name, String::new(), applier)?;
            say(format!("the secret {name} is forgotten"))
        }
    }
}

fn named(text: &str) -> Result<Name, Trouble> {
    Name::try_from(text).map_err(|bad| Trouble::Usage(bad.to_string()))
}

fn keep(name: &Name, value: String, applier: &Applier) -> Result<(), Trouble> {
    match applier.ask(&ApplierRequest::SetSecret { name: name.to_string(), value, by: myself() })? {
        ApplierResponse::Done => Ok(()),
        other => Err(Applier::unexpected(other)),
    }
}

/// Longer than what any proxy takes (RFC 1929 has 255 bytes for it), so that /dev/zero ends.
const MOST: u64 = 4096;

/// One line. An empty one would remove the secret, which has a verb of its own.
fn value() -> Result<String, Trouble> {
    let mut text = String::new();
    if std::io::stdin().is_terminal() {
        ask_unseen(&mut text)?;
    } else {
        std::io::stdin().lock().take(MOST).read_to_string(&mut text)?;
    }
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() || value.len() > 255 || value.chars().any(char::is_control) {
        return Err(Trouble::Usage("a secret is one line of 1 to 255 bytes".to_owned()));
    }
    Ok(value.to_owned())
}

fn ask_unseen(text: &mut String) -> Result<(), Trouble> {
    let stdin = std::io::stdin();
    eprint!("Value: ");
    std::io::stderr().flush()?;
    let shown = tcgetattr(&stdin).map_err(std::io::Error::from)?;
    let mut unseen = shown.clone();
    unseen.local_flags.remove(LocalFlags::ECHO);
    unseen.local_flags.insert(LocalFlags::ECHONL);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &unseen).map_err(std::io::Error::from)?;
    let read = stdin.lock().take(MOST).read_line(text);
    // Whatever happened: the next thing that is typed is seen again.
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &shown).map_err(std::io::Error::from)?;
    read?;
    Ok(())
}
