//! `portcullis console`: a menu for people in trouble, over a serial line, on the screen, or over ssh.
//!
//! ```text
//! terminal ◀──▶ menu ──▶ applier         trial, generations, safe mode, network repair
//!                   ├──▶ rescue program  passwords, the set-up code, a damaged database, login shells
//!                   ├──▶ updater         slots, reboot, factory reset, sticks
//!                   └──▶ this process    links, systemctl show
//! ```
//!
//! It has no privilege and keeps no state. Each of the others may be down, hang or be damaged: that is said, and everything else
//! still works. What it shows is ASCII of at most 79 columns.

mod diagnostics;
mod gate;
mod links;
mod network;
mod overview;
mod peers;
mod people;
mod plain;
mod power;
mod processes;
mod terminal;

use std::path::Path;

use self::overview::Overview;
use self::peers::Peers;
use self::terminal::{Answer, Gone, Terminal};
use crate::trouble::Trouble;

pub struct Console {
    terminal: Terminal,
    peers: Peers,
}

type Deed = fn(&mut Console) -> Result<(), Gone>;

/// What can be chosen, by number. The order is that of need.
const MENU: [(&str, Deed); 14] = [
    ("Status in full", Console::status),
    ("Confirm the trial", Console::confirm),
    ("End the trial", Console::end_trial),
    ("Earlier generations", Console::generations),
    ("Network", Console::network),
    ("Reset a password", Console::reset_password),
    ("Login shell", Console::shell),
    ("Safe mode", Console::safe_mode),
    ("Boot the other slot", Console::boot_other),
    ("Reboot", Console::reboot),
    ("Power off", Console::power_off),
    ("Factory reset", Console::factory_reset),
    ("Diagnostics to a stick", Console::diagnostics),
    ("New database", Console::new_database),
];

pub fn run(run_dir: &Path) -> Result<(), Trouble> {
    let mut console = Console { terminal: Terminal::open(), peers: Peers { run_dir: run_dir.to_owned() } };
    // Over when nobody is there any more; at the box the service manager starts another one.
    while console.turn().is_ok() {}
    Ok(())
}

impl Console {
    fn turn(&mut self) -> Result<(), Gone> {
        self.draw()?;
        let Answer::Text(choice) = self.terminal.ask("Choose a number; Enter shows this again:")? else { return Ok(()) };
        match choice.parse::<usize>().ok().and_then(|number| MENU.get(number.checked_sub(1)?)) {
            Some((title, deed)) => {
                self.terminal.say(&format!("\n== {title}"))?;
                deed(self)?;
            }
            None => self.terminal.say(&format!("\"{choice}\" is not one of the numbers 1 to {}.", MENU.len()))?,
        }
        self.terminal.pause()
    }

    fn draw(&mut self) -> Result<(), Gone> {
        let overview = Overview::take(&self.peers);
        let mut lines = vec![String::new(), head()];
        lines.extend(overview.short());
        lines.push("-".repeat(plain::COLUMNS));
        let half = MENU.len().div_ceil(2);
        for row in 0..half {
            let cell = |number: usize| MENU.get(number).map_or(String::new(), |(title, _)| format!("{:2} {title}", number + 1));
            lines.push(format!("{:<40}{}", cell(row), cell(row + half)).trim_end().to_owned());
        }
        self.say_all(&lines)
    }

    fn status(&mut self) -> Result<(), Gone> {
        let lines = Overview::take(&self.peers).full();
        self.say_all(&lines)
    }

    fn say_all(&mut self, lines: &[String]) -> Result<(), Gone> {
        lines.iter().try_for_each(|line| self.terminal.say(line))
    }

    /// How it went, in one sentence.
    fn tell(&mut self, done: Result<String, String>) -> Result<(), Gone> {
        match done {
            Ok(text) => self.terminal.say(&text),
            Err(why) => self.terminal.say(&format!("NOT DONE: {why}")),
        }
    }
}

fn head() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let left = format!("PORTCULLIS {} {}", env!("CARGO_PKG_VERSION"), plain::ascii(&host).chars().take(30).collect::<String>());
    format!("{left:<55}{now}")
}
