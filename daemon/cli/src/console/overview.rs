//! What the box is doing, on one screen.

use std::thread;

use policy::Checked;
use policy::messages::rescue::RescueStatus;
use policy::messages::updater::{SlotState, UpdaterStatus};
use policy::messages::{ApplierRequest, ApplierResponse, Generation, Status};

use super::links::{self, Link};
use super::peers::{Peers, Said};
use super::plain::entry;
use super::processes::{self, Process};

/// Everything that could be found out, each by itself.
pub struct Overview {
    pub status: Said<Status>,
    pub users: Said<RescueStatus>,
    pub image: Said<UpdaterStatus>,
    pub processes: Said<Vec<Process>>,
    pub links: Vec<Link>,
    /// Of what runs.
    pub policy: Option<Checked>,
}

impl Overview {
    /// All are asked at the same time: one that hangs costs no more than its own patience.
    pub fn take(peers: &Peers) -> Overview {
        thread::scope(|scope| {
            let applier = scope.spawn(|| (peers.status(), running_policy(peers)));
            let users = scope.spawn(|| peers.users());
            let image = scope.spawn(|| peers.image());
            let processes = scope.spawn(processes::all);
            let broken = || "the console could not ask".to_owned();
            let (status, policy) = applier.join().unwrap_or_else(|_| (Err(broken()), None));
            Overview {
                status,
                policy,
                users: users.join().unwrap_or_else(|_| Err(broken())),
                image: image.join().unwrap_or_else(|_| Err(broken())),
                processes: processes.join().unwrap_or_else(|_| Err(broken())),
                links: links::all(),
            }
        })
    }

    /// At most 12 lines, so that the menu fits below.
    pub fn short(&self) -> Vec<String> {
        let mut lines = self.gate();
        lines.truncate(4);
        let mut wrong = self.wrong();
        if wrong.len() > 3 {
            let more = wrong.len() - 2;
            wrong.truncate(2);
            wrong.push(format!("and {more} more: choose 1"));
        }
        if wrong.is_empty() {
            lines.extend(entry("Health", "everything runs"));
        }
        lines.extend(wrong.iter().flat_map(|text| entry("WRONG", text).into_iter().take(1)));
        let up: Vec<&Link> = self.links.iter().filter(|link| !link.addresses.is_empty()).collect();
        lines.extend(up.iter().take(3).flat_map(|link| entry(&link.name, &self.link(link)).into_iter().take(1)));
        if up.is_empty() {
            lines.extend(entry("Ports", "none has an address; choose 5"));
        }
        lines.extend(self.set_up());
        lines
    }

    pub fn full(&self) -> Vec<String> {
        let mut lines = self.gate();
        if let Ok(status) = &self.status {
            let findings = status.drift.iter().filter(|finding| !finding.repaired);
            lines.extend(
                findings.flat_map(|finding| {
                    entry("Drift", &format!("{}: expected {}, found {}", finding.what, finding.expected, finding.found))
                }),
            );
        }
        lines.push(String::new());
        lines.extend(self.wrong().iter().flat_map(|text| entry("WRONG", text)));
        match &self.processes {
            Ok(processes) => lines.extend(processes.iter().flat_map(|process| entry(&process.name, &process.state))),
            Err(why) => lines.extend(entry("Processes", why)),
        }
        for process in self.processes.iter().flatten().filter(|process| !process.well) {
            let words = processes::last_words(&process.name, 3);
            lines.extend(words.iter().flat_map(|text| entry("", &format!("{} said: {text}", process.name))));
        }
        lines.push(String::new());
        lines.extend(self.links.iter().flat_map(|link| entry(&link.name, &self.link(link))));
        lines.extend(self.set_up());
        lines.push(String::new());
        lines.extend(match &self.image {
            Ok(image) => slots(image),
            Err(why) => entry("Image", &format!("not known: {why}")),
        });
        lines.extend(self.users.iter().flat_map(|users| &users.seed).flat_map(|line| entry("Seed", line)));
        lines
    }

    /// What stands, and what is on trial.
    fn gate(&self) -> Vec<String> {
        let status = match &self.status {
            Ok(status) => status,
            Err(why) => return entry("Policy", &format!("not known: {why}. What stands in the kernel stays as it is.")),
        };
        let mut lines = match (&status.running, &status.safe_mode) {
            (Some(running), _) => entry("Policy", &generation(running, status.now)),
            (None, Some(by)) => entry("Policy", &format!("SAFE MODE by {by}: nothing is forwarded; leave it with 8")),
            (None, None) => entry("Policy", "LOCKED DOWN: nothing passes"),
        };
        if let Some(trial) = &status.trial {
            let back = trial.back_to.map_or("lockdown".to_owned(), |number| format!("generation {number}"));
            let text = format!(
                "generation {} by {}: goes back to {back} in {} s unless confirmed",
                trial.generation,
                trial.by,
                trial.deadline.saturating_sub(status.now).div_ceil(1000)
            );
            lines.extend(entry("ON TRIAL", &text));
        }
        if let Some(event) = &status.last_event {
            lines.extend(entry("Last", &format!("{} ({} ago)", event.text, ago(status.now, event.at))));
        }
        lines
    }

    /// Everything that is broken, each in one sentence.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong: Vec<String> = vec![];
        wrong.extend(self.status.as_ref().err().cloned());
        match &self.users {
            Ok(users) => wrong.extend(users.damaged.iter().map(|why| format!("the database cannot be used: {why}"))),
            Err(why) => wrong.push(format!("users cannot be asked for: {why}")),
        }
        wrong.extend(self.image.as_ref().err().map(|why| format!("{why}: no reboot, slots or sticks from here")));
        if let Ok(status) = &self.status {
            let left = status.drift.iter().filter(|finding| !finding.repaired).count();
            if left > 0 {
                wrong.push(format!("the kernel differs from the policy in {left} places"));
            }
        }
        let down = |process: &&Process| !process.well;
        wrong.extend(self.processes.iter().flatten().filter(down).map(|process| format!("{} {}", process.name, process.state)));
        wrong.extend(self.processes.as_ref().err().cloned());
        if let Ok(users) = &self.users
            && users.seed.len() > 1
            && users.setup_code.is_some()
        {
            wrong.push("the seed file was not used: choose 1".to_owned());
        }
        wrong
    }

    /// How the box is set up by a browser, until somebody has.
    fn set_up(&self) -> Vec<String> {
        let Ok(RescueStatus { setup_code: Some(code), .. }) = &self.users else { return vec![] };
        let mut lines = entry("SET UP", &format!("open {} and type the code {code}", self.addresses().join(" or ")));
        lines.truncate(2);
        lines
    }

    /// Where the pages are.
    fn addresses(&self) -> Vec<String> {
        let config = self.policy.as_ref().map(Checked::config);
        let port = config.and_then(|config| config.system.as_ref()).map_or(443, |(_, system)| system.spec.admin.port);
        let suffix = if port == 443 { String::new() } else { format!(":{port}") };
        let admin = |link: &&Link| self.zone(&link.name).is_none_or(|zone| self.is_admin(zone));
        let own = self.links.iter().filter(admin).flat_map(|link| &link.addresses);
        let own = own.filter_map(|address| address.split('/').next()).filter(|address| !address.contains(':'));
        let found: Vec<String> = own.take(2).map(|address| format!("https://{address}{suffix}/")).collect();
        if found.is_empty() { vec!["the box's address (it has none yet: choose 5)".to_owned()] } else { found }
    }

    fn zone(&self, port: &str) -> Option<&str> {
        let config = self.policy.as_ref()?.config();
        config.interfaces.iter().find(|(name, _)| name.as_str() == port).map(|(_, interface)| interface.spec.zone.as_str())
    }

    fn is_admin(&self, zone: &str) -> bool {
        let system = self.policy.as_ref().and_then(|policy| policy.config().system.as_ref());
        system.is_some_and(|(_, system)| system.spec.admin.zones.iter().any(|term| term.to_string() == zone))
    }

    pub fn link(&self, link: &Link) -> String {
        let zone = self.zone(&link.name).map_or("no zone".to_owned(), |zone| format!("zone {zone}"));
        let speed = link.speed.filter(|_| link.state == "up").map_or(String::new(), |speed| format!(" {speed} Mbit/s"));
        let addresses = if link.addresses.is_empty() { "no address".to_owned() } else { link.addresses.join(" ") };
        format!("{}{speed}, {zone}, {}, {addresses}", link.state, link.mac)
    }
}

/// None while nothing runs, or while it cannot be read.
fn running_policy(peers: &Peers) -> Option<Checked> {
    match peers.glance(&ApplierRequest::Sources { generation: None }) {
        Ok(ApplierResponse::Sources { sources, .. }) => policy::load(&sources).ok(),
        _ => None,
    }
}

pub fn generation(generation: &Generation, now: u64) -> String {
    let confirmed = if generation.confirmed { "confirmed" } else { "not confirmed" };
    format!("generation {} by {}, {} ago, {confirmed}", generation.number, generation.by, ago(now, generation.installed_at))
}

pub fn slots(image: &UpdaterStatus) -> Vec<String> {
    let mut lines = entry("Image", &format!("{} {}", image.product, image.version));
    for slot in &image.slots {
        let state = match slot.state {
            SlotState::Good => "good".to_owned(),
            SlotState::Trying { tries_left } => format!("not proven, {tries_left} tries left"),
            SlotState::Bad => "bad: it did not become good".to_owned(),
            SlotState::Empty => "empty".to_owned(),
        };
        let booted = if slot.booted { ", runs" } else { "" };
        lines.extend(entry("Slot", &format!("{}: {state}{booted}", slot.version.as_deref().unwrap_or("-"))));
    }
    if let Some(update) = &image.last_update {
        let why = update.reason.as_ref().map_or(String::new(), |why| format!(": {why}"));
        lines.extend(entry("Update", &format!("{} to {} by {}: {:?}{why}", update.from, update.version, update.by, update.outcome)));
    }
    lines
}

/// The largest unit that fits.
pub fn ago(now: u64, then: u64) -> String {
    match now.saturating_sub(then) / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
