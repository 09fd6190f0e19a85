//! What somebody who helps wants to see, as one text file on a stick. No password, key or secret is in it.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use nix::sys::memfd::{MFdFlags, memfd_create};
use policy::messages::updater::{Stick, UpdaterRequest, UpdaterResponse};
use policy::messages::{ApplierRequest, ApplierResponse};

use super::Console;
use super::overview::Overview;
use super::peers::{Peers, Said, console, unexpected};
use super::processes;
use super::terminal::{Answer, Gone};

impl Console {
    pub fn diagnostics(&mut self) -> Result<(), Gone> {
        let sticks = match self.peers.updated(&UpdaterRequest::Sticks, None) {
            Ok(UpdaterResponse::Sticks { sticks }) => sticks,
            Ok(other) => return self.tell(Err(unexpected("updater", &other))),
            Err(why) => return self.tell(Err(why)),
        };
        let writable: Vec<Stick> = sticks.into_iter().filter(|stick| stick.writable).collect();
        if writable.is_empty() {
            return self.terminal.say("No stick that can be written to is plugged in (FAT, exFAT or ext4).");
        }
        for (number, stick) in (1..).zip(&writable) {
            let free = stick.free / (1 << 20);
            self.terminal.say(&format!("{number:2} {} \"{}\" {}, {free} MiB free", stick.name, stick.label, stick.file_system))?;
        }
        let Answer::Text(choice) = self.terminal.ask("Which one? Its number, or Enter for none:")? else {
            return self.terminal.say("Nothing was written.");
        };
        match choice.parse::<usize>().ok().and_then(|number| writable.get(number.checked_sub(1)?)) {
            Some(stick) => {
                self.terminal.say("Gathering; this takes some seconds.")?;
                let done = write(&self.peers, &stick.name);
                self.tell(done)
            }
            None => self.terminal.say(&format!("\"{choice}\" is not one of these numbers. Nothing was written.")),
        }
    }
}

fn write(peers: &Peers, stick: &str) -> Said<String> {
    let text = gather(peers);
    let failed = |error: std::io::Error| format!("there is no room in memory: {error}");
    let name = CString::new("diagnostics").map_err(|error| error.to_string())?;
    let mut file = File::from(memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC).map_err(|error| failed(error.into()))?);
    file.write_all(text.as_bytes()).map_err(failed)?;
    let name = jiff::Timestamp::now().strftime("portcullis-diagnostics-%Y%m%d-%H%M%S.txt").to_string();
    let request = UpdaterRequest::WriteToStick { stick: stick.to_owned(), name: name.clone(), by: console() };
    match peers.updated(&request, Some(file.as_fd()))? {
        UpdaterResponse::Written { size } => Ok(format!("{name}, {size} bytes, lies on the stick, which may be taken out now.")),
        other => Err(unexpected("updater", &other)),
    }
}

/// Every part stands alone: what cannot be had says why.
fn gather(peers: &Peers) -> String {
    let mut text = String::new();
    let mut part = |title: &str, body: String| text.push_str(&format!("==== {title}\n{}\n\n", body.trim_end()));
    part("status", Overview::take(peers).full().join("\n"));
    part(
        "generations",
        match peers.status() {
            Ok(status) => status.kept.iter().map(|kept| format!("{kept:?}\n")).collect(),
            Err(why) => why,
        },
    );
    part(
        "the kernel's rules",
        match peers.glance(&ApplierRequest::KernelRuleset) {
            Ok(ApplierResponse::KernelRuleset { text }) => text,
            Ok(other) => unexpected("applier", &other),
            Err(why) => why,
        },
    );
    for (title, program, arguments) in PROGRAMS {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        part(title, processes::output(program, &arguments).unwrap_or_else(|why| why));
    }
    text
}

/// They ask and change nothing.
const PROGRAMS: [(&str, &str, &[&str]); 7] = [
    ("log of this boot", "journalctl", &["-b", "-n", "3000", "--no-pager", "-o", "short-iso", "-q"]),
    ("units", "systemctl", &["list-units", "--all", "--no-pager", "--plain", "portcullis-*"]),
    ("links", "ip", &["-s", "link"]),
    ("addresses", "ip", &["address"]),
    ("routes", "ip", &["route", "show", "table", "all"]),
    ("disks", "df", &["-h"]),
    ("memory", "free", &["-m"]),
];
