//! The two slots, an update from a file, a stick or an address, and what became of the last one. Progress is a page that is fetched again.

use policy::messages::updater::{LastUpdate, Outcome, Slot, SlotState, Source, Step, Stick, UpdaterStatus, Work};
use serde::Serialize;

use super::format::{Clock, Stamp};
use super::page::{self, Page};
use super::ui::{Badge, Bar, Choice, Fact, Field, Notice, Tone};
use crate::flash;
use crate::http::{Access, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;
use crate::updater;

const UPDATE: Access = Access::May(Action::Update);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/system/update", access: UPDATE, handler: show },
    Route { method: Method::Post, path: "/system/update/file", access: UPDATE, handler: from_file },
    Route { method: Method::Post, path: "/system/update/stick", access: UPDATE, handler: from_stick },
    Route { method: Method::Post, path: "/system/update/address", access: UPDATE, handler: from_address },
    Route { method: Method::Post, path: "/system/update/boot-other", access: UPDATE, handler: boot_other },
    Route { method: Method::Post, path: "/system/reboot", access: UPDATE, handler: reboot },
    Route { method: Method::Post, path: "/system/power-off", access: UPDATE, handler: power_off },
];

const HERE: &str = "/system/update";

#[derive(Debug, Serialize)]
struct Update {
    facts: Vec<Fact>,
    slots: Vec<SlotRow>,
    work: Option<Progress>,
    last: Option<Last>,
    busy: bool,
    /// What the next boot tries, once an update is on the disk.
    waits: Option<String>,
    other: Option<String>,
    address: Field,
    sticks: Option<Field>,
}

#[derive(Debug, Serialize)]
struct SlotRow {
    name: &'static str,
    version: String,
    state: Badge,
    booted: bool,
}

#[derive(Debug, Serialize)]
struct Progress {
    what: String,
    bar: Bar,
}

#[derive(Debug, Serialize)]
struct Last {
    at: Option<Stamp>,
    badge: Badge,
    text: String,
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let status = visit.site.updater.status()?;
    let sticks = if is_open(status.work.as_ref()) { vec![] } else { visit.site.updater.sticks().unwrap_or_default() };
    let clock = page::clock(visit);
    let page = Page::new(visit, "Update");
    let page = match notice(&status) {
        Some(notice) => page.notice(notice),
        None => page,
    };
    // Without a script a page can still follow what happens.
    let page = if is_open(status.work.as_ref()) { page.header("Refresh", "2".into()) } else { page };
    page.draw("update.html", &view(&status, &sticks, &clock))
}

fn view(status: &UpdaterStatus, sticks: &[Stick], clock: &Clock) -> Update {
    let recipe = if status.recipe.is_empty() { "not known".to_owned() } else { status.recipe.clone() };
    let keys = if status.keys.is_empty() { "none: nothing can be installed".to_owned() } else { status.keys.join(", ") };
    let work = status.work.as_ref().filter(|work| is_open(Some(work)));
    let bundles = sticks.iter().flat_map(|stick| {
        let bundles = stick.files.iter().filter(|file| file.name.ends_with(".bundle"));
        bundles.map(|file| Choice::new(format!("{}/{}", stick.name, file.name), format!("{} on {}", file.name, called(stick))))
    });
    let bundles: Vec<Choice> = bundles.collect();
    let other = status.slots.iter().find(|slot| !slot.booted && slot.state != SlotState::Empty);
    let installed = status.last_update.as_ref().filter(|last| last.outcome == Outcome::Installed);
    Update {
        facts: vec![Fact::new("Version", status.version.clone()), Fact::new("Recipe", recipe), Fact::new("Signed updates by", keys)],
        slots: status.slots.iter().zip(["A", "B"]).map(|(slot, name)| row(slot, name)).collect(),
        work: work.map(progress),
        last: status.last_update.as_ref().map(|last| told(last, clock)),
        busy: work.is_some(),
        waits: installed.map(|last| last.version.clone()),
        other: other.and_then(|slot| slot.version.clone()),
        address: Field::text("url", "Address", "")
            .kind("url")
            .hint("It must begin with https://. The certificate is checked, and the signature decides.")
            .required(),
        sticks: (!bundles.is_empty()).then(|| Field::select("file", "File", "", bundles)),
    }
}

fn called(stick: &Stick) -> String {
    if stick.label.is_empty() { format!("stick {}", stick.name) } else { format!("stick {}", stick.label) }
}

fn row(slot: &Slot, name: &'static str) -> SlotRow {
    let state = match slot.state {
        SlotState::Good => Badge::new(Tone::Ok, "good"),
        SlotState::Trying { tries_left } => Badge::new(Tone::Info, format!("on trial, {tries_left} boot(s) left")),
        SlotState::Bad => Badge::new(Tone::Bad, "did not become good"),
        SlotState::Empty => Badge::new(Tone::Plain, "empty"),
    };
    SlotRow { name, version: slot.version.clone().unwrap_or_else(|| "none".to_owned()), state, booted: slot.booted }
}

fn progress(work: &Work) -> Progress {
    let doing = match work.step {
        Step::Fetching => "It is being fetched",
        Step::Checking => "Signature and parts are being checked",
        Step::Writing => "It is being written to the other slot",
        _ => "What was written is being read back",
    };
    let megabytes = |bytes: u64| bytes / 1_000_000;
    let what = match work.total {
        0 => format!("{doing}: {} MB", megabytes(work.done)),
        total => format!("{doing}: {} of {} MB", megabytes(work.done), megabytes(total)),
    };
    Progress { what, bar: Bar::of(work.done, work.total) }
}

fn told(last: &LastUpdate, clock: &Clock) -> Last {
    let LastUpdate { from, version, by, reason, .. } = last;
    let why = reason.as_ref().map(|reason| format!(" Why: {reason}.")).unwrap_or_default();
    let (badge, text) = match last.outcome {
        Outcome::Installed => (Badge::new(Tone::Info, "installed"), format!("{version} is on the disk, by {by}. Reboot to try it.")),
        Outcome::Trying => {
            (Badge::new(Tone::Info, "on trial"), format!("{version} runs, and is good as soon as applier, control and pages answer.{why}"))
        }
        Outcome::Good => (Badge::new(Tone::Ok, "good"), format!("{version} took the place of {from}, by {by}.")),
        Outcome::TakenBack => (Badge::new(Tone::Bad, "taken back"), format!("{version} was not good, and {from} runs again.{why}")),
        Outcome::Failed => (Badge::new(Tone::Bad, "failed"), format!("{version} was not installed, and {from} is as it was.{why}")),
    };
    Last { at: clock.stamp(last.at), badge, text }
}

fn notice(status: &UpdaterStatus) -> Option<Notice> {
    let work = status.work.as_ref()?;
    let reason = work.reason.clone().unwrap_or_default();
    match work.step {
        Step::Refused => Some(Notice::bad(format!("The update was refused, and nothing was changed: {reason}."))),
        Step::Failed => Some(Notice::bad(format!("The update failed, and what runs is as it was: {reason}."))),
        Step::Installed => Some(Notice::ok("The update is installed. The next boot tries it.")),
        _ => None,
    }
}

fn is_open(work: Option<&Work>) -> bool {
    work.is_some_and(|work| !matches!(work.step, Step::Installed | Step::Refused | Step::Failed))
}

fn from_file(visit: &Visit) -> Result<Response, Trouble> {
    let upload = visit.request.upload.as_ref().ok_or_else(|| Trouble::field("file", "is missing: choose one"))?;
    let downgrade = visit.request.form()?.text("downgrade") == "yes";
    begin(visit, Source::Descriptor, downgrade, Some(&upload.file))
}

fn from_stick(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let (stick, path) = form.text("file").split_once('/').ok_or_else(|| Trouble::field("file", "is missing: choose one"))?;
    begin(visit, Source::Stick { stick: stick.to_owned(), path: path.to_owned() }, form.text("downgrade") == "yes", None)
}

fn from_address(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    begin(visit, Source::Address { url: form.text("url").trim().to_owned() }, form.text("downgrade") == "yes", None)
}

/// Whatever becomes of it, the page tells.
fn begin(visit: &Visit, source: Source, downgrade: bool, file: Option<&std::fs::File>) -> Result<Response, Trouble> {
    match updater::install(visit.site, visit.actor()?, source, downgrade, file) {
        Ok(()) => Ok(Response::see_other(HERE)),
        Err(Trouble::Conflict(reason)) => Ok(Response::see_other(HERE).flash(flash::Tone::Bad, format!("Nothing was changed: {reason}."))),
        Err(trouble) => Err(trouble),
    }
}

fn boot_other(visit: &Visit) -> Result<Response, Trouble> {
    updater::boot_other(visit.site, visit.actor()?)?;
    Ok(gone("The box reboots into the other slot."))
}

fn reboot(visit: &Visit) -> Result<Response, Trouble> {
    updater::reboot(visit.site, visit.actor()?)?;
    Ok(gone("The box reboots."))
}

fn power_off(visit: &Visit) -> Result<Response, Trouble> {
    updater::power_off(visit.site, visit.actor()?)?;
    Ok(gone("The box switches itself off."))
}

fn gone(text: &str) -> Response {
    Response::see_other(HERE).flash(flash::Tone::Info, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(outcome: Outcome, reason: Option<&str>) -> LastUpdate {
        LastUpdate {
            at: 1_763_719_200_000,
            from: "0.1.0".into(),
            version: "0.2.0".into(),
            by: "anna".into(),
            outcome,
            reason: reason.map(Into::into),
        }
    }

    #[test]
    fn an_update_that_was_taken_back_is_told_with_its_reason() {
        let told = told(&last(Outcome::TakenBack, Some("control does not answer")), &Clock::new(1_763_719_260_000, "UTC"));
        assert_eq!(told.text, "0.2.0 was not good, and 0.1.0 runs again. Why: control does not answer.");
        assert_eq!(told.badge.word, "taken back");
    }

    #[test]
    fn a_bundle_on_a_stick_can_be_chosen_and_other_files_cannot() {
        let file = |name: &str| policy::messages::updater::StickFile { name: name.into(), size: 1 };
        let stick = Stick {
            name: "sdb1".into(),
            label: "TOOLS".into(),
            file_system: "vfat".into(),
            size: 1,
            free: 1,
            writable: true,
            files: vec![file("holiday.jpg"), file("portcullis-0.2.0.bundle")],
        };
        let status = UpdaterStatus {
            now: 0,
            product: "portcullis".into(),
            version: "0.1.0".into(),
            recipe: String::new(),
            keys: vec![],
            slots: vec![],
            work: Some(Work { step: Step::Writing, version: None, done: 30_000_000, total: 60_000_000, reason: None }),
            last_update: None,
        };
        let view = view(&status, &[stick], &Clock::new(0, "UTC"));
        let choices = view.sticks.unwrap().options;
        assert_eq!(choices, [Choice::new("sdb1/portcullis-0.2.0.bundle", "portcullis-0.2.0.bundle on stick TOOLS")]);
        assert_eq!(view.work.unwrap().what, "It is being written to the other slot: 30 of 60 MB");
    }
}
