//! Requests and their answers.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use policy::messages::Principal;
use policy::messages::updater::{
    BundleFacts, FACTORY_RESET_PHRASE, LastUpdate, Outcome, Refusal, Slot, SlotState, Source, Step, UpdaterRequest, UpdaterResponse,
    UpdaterStatus, Work,
};
use tracing::{error, info, warn};

use crate::bundle::{Refused, Signed, check_parts, refused, rewind};
use crate::disk::Disk;
use crate::entries::{Counted, Entry};
use crate::here::Here;
use crate::install::{PRODUCT, choose_other, entries, install, judge};
use crate::medium::{EMPTY, Medium, SlotPlace};
use crate::options::Options;
use crate::power::{self, Power};
use crate::record;
use crate::server::Answers;
use crate::sticks::Sticks;
use crate::{fetch, settle};

/// A handle; the work of an update holds another.
#[derive(Clone)]
pub struct Updater(Arc<Shared>);

struct Shared {
    options: Options,
    here: Here,
    sticks: Sticks,
    /// Whoever holds it may write to the disk.
    disk: Mutex<()>,
    /// As they were when the disk was last free.
    slots: Mutex<Vec<Slot>>,
    work: Mutex<Option<Work>>,
    /// One request at a time has a stick mounted.
    stick: Mutex<()>,
}

type Answer = Result<UpdaterResponse, Refused>;

impl Answers for Updater {
    fn answer(&self, request: UpdaterRequest, file: Option<OwnedFd>) -> (UpdaterResponse, Option<OwnedFd>) {
        let told = match request {
            UpdaterRequest::ReadFromStick { stick, path } => match self.read_from_stick(&stick, &path) {
                Ok((size, file)) => return (UpdaterResponse::File { size }, Some(file)),
                Err(refusal) => Err(refusal),
            },
            UpdaterRequest::Status => Ok(UpdaterResponse::Status(self.status())),
            UpdaterRequest::Check { source, downgrade } => self.check(&source, downgrade, file),
            UpdaterRequest::Install { source, downgrade, by } => self.begin(source, downgrade, by, file),
            UpdaterRequest::BootOther { by } => self.boot_other(&by),
            UpdaterRequest::Reboot { by } => self.power(Power::Reboot, &by),
            UpdaterRequest::PowerOff { by } => self.power(Power::Off, &by),
            UpdaterRequest::FactoryReset { phrase, by } => self.factory_reset(&phrase, &by),
            UpdaterRequest::Sticks => Ok(UpdaterResponse::Sticks { sticks: self.at_sticks().list() }),
            UpdaterRequest::WriteToStick { stick, name, by } => self.write_to_stick(&stick, &name, &by, file),
        };
        let answer = told.unwrap_or_else(|Refused { why, reason }| {
            info!(?why, reason, "refused");
            UpdaterResponse::Refused { why, reason }
        });
        (answer, None)
    }

    fn is_busy(&self) -> bool {
        self.works()
    }
}

impl Updater {
    pub fn new(options: Options, here: Here) -> Updater {
        let sticks = Sticks { state_dir: options.state_dir.clone(), own_disk: here.disk.clone(), also: options.also_sticks.clone() };
        let updater = Updater(Arc::new(Shared {
            options,
            here,
            sticks,
            disk: Mutex::default(),
            slots: Mutex::default(),
            work: Mutex::default(),
            stick: Mutex::default(),
        }));
        updater.look_at_slots();
        updater
    }

    fn status(&self) -> UpdaterStatus {
        self.look_at_slots();
        let Shared { here, options, slots, work, .. } = &*self.0;
        UpdaterStatus {
            now: record::now(),
            product: PRODUCT.to_owned(),
            version: here.version.to_string(),
            recipe: here.recipe.clone(),
            keys: here.keys.names(),
            slots: lock(slots).clone(),
            work: lock(work).clone(),
            last_update: record::read(&options.state_dir),
        }
    }

    /// While the disk is being written to, what is known already stands.
    fn look_at_slots(&self) {
        let Ok(_free) = self.0.disk.try_lock() else { return };
        if self.0.here.disk.is_none() {
            return;
        }
        let found = self.0.here.medium().and_then(|(mut disk, _mounted)| Ok(slots(&disk.slots()?, &entries(&mut disk)?)));
        match found {
            Ok(found) => *lock(&self.0.slots) = found,
            Err(error) => warn!(%error, "the slots cannot be read"),
        }
    }

    /// Reads all of it. What an address holds is known only after it was fetched.
    fn check(&self, source: &Source, downgrade: bool, file: Option<OwnedFd>) -> Answer {
        let (mut file, signed) = self.open(source, downgrade, file, &mut |_| {})?;
        check_parts(&signed, &mut file, |_| {})?;
        let manifest = &signed.manifest;
        Ok(UpdaterResponse::Good(BundleFacts {
            product: manifest.product.clone(),
            version: manifest.version.to_string(),
            recipe: manifest.recipe.clone(),
            config_schema: manifest.config_schema,
            size: signed.size(),
            key: signed.key.clone(),
        }))
    }

    /// A bundle whose manifest is signed and fits this box; its parts were not read yet.
    fn open(&self, source: &Source, downgrade: bool, file: Option<OwnedFd>, told: &mut dyn FnMut(u64)) -> Result<(File, Signed), Refused> {
        let Shared { here, options, .. } = &*self.0;
        let mut file = match source {
            Source::Descriptor => regular(file)?,
            Source::Stick { stick, path } => self.at_sticks().open(stick, path)?,
            Source::Address { url } => fetch::fetch(url, &options.fetch_user, &options.state_dir, told)?,
        };
        rewind_whole(&mut file)?;
        let signed = Signed::read(&mut file, &here.keys)?;
        let _free = self.0.disk.try_lock().map_err(|_| busy())?;
        let (mut disk, _mounted) = here.medium().map_err(|error| refused(Refusal::NoOtherSlot, error.to_string()))?;
        judge(&mut disk, &signed.manifest, &here.version, downgrade)?;
        Ok((file, signed))
    }

    fn begin(&self, source: Source, downgrade: bool, by: Principal, file: Option<OwnedFd>) -> Answer {
        if let Source::Address { url } = &source {
            fetch::check(url)?;
        }
        {
            let mut work = lock(&self.0.work);
            if work.as_ref().is_some_and(|work| is_open(work.step)) {
                return Err(busy());
            }
            *work = Some(Work { step: Step::Checking, version: None, done: 0, total: 0, reason: None });
        }
        let at_once = match source {
            Source::Address { .. } => Ok(None),
            _ => self.open(&source, downgrade, file, &mut |_| {}).map(Some),
        };
        let begun = at_once.and_then(|opened| {
            let this = self.clone();
            let run = move || this.install(opened, &source, downgrade, &by);
            thread::Builder::new().name("install".into()).spawn(run).map_err(|error| refused(Refusal::Busy, error.to_string()))
        });
        match begun {
            Ok(_) => Ok(UpdaterResponse::Begun),
            Err(refusal) => {
                self.ended(Step::Refused, Some(refusal.reason.clone()));
                Err(refusal)
            }
        }
    }

    /// To its end, on a thread of its own.
    fn install(&self, opened: Option<(File, Signed)>, source: &Source, downgrade: bool, by: &Principal) {
        let opened = match opened {
            Some(opened) => Ok(opened),
            None => {
                self.progress(Step::Fetching, 0, 0);
                self.open(source, downgrade, None, &mut |bytes| self.progress(Step::Fetching, bytes, 0))
            }
        };
        let checked = opened.and_then(|(mut file, signed)| {
            if let Some(work) = lock(&self.0.work).as_mut() {
                work.version = Some(signed.manifest.version.to_string());
            }
            let size = signed.size();
            check_parts(&signed, &mut file, |bytes| self.progress(Step::Checking, bytes, size))?;
            Ok((file, signed))
        });
        let (mut file, signed) = match checked {
            Ok(checked) => checked,
            Err(refusal) => {
                warn!(why = ?refusal.why, reason = refusal.reason, "an update was refused");
                return self.ended(Step::Refused, Some(refusal.reason));
            }
        };
        let _writing = lock(&self.0.disk);
        let (version, from) = (signed.manifest.version.to_string(), self.0.here.version.to_string());
        info!(version, from, by = by.name, key = signed.key, "an update begins");
        let done = self.write(&mut file, &signed, downgrade);
        let (outcome, reason) = match &done {
            Ok(()) => (Outcome::Installed, None),
            Err(why) => (Outcome::Failed, Some(why.clone())),
        };
        self.write_down(&LastUpdate {
            at: record::now(),
            from,
            version: version.clone(),
            by: by.name.clone(),
            outcome,
            reason: reason.clone(),
        });
        match done {
            Ok(()) => info!(version, "installed; the next boot tries it"),
            Err(why) => error!(version, why, "the update failed; what runs is as it was"),
        }
        let step = if outcome == Outcome::Installed { Step::Installed } else { Step::Failed };
        self.ended(step, reason);
    }

    fn write(&self, file: &mut File, signed: &Signed, downgrade: bool) -> Result<(), String> {
        let here = &self.0.here;
        let (mut disk, _mounted) = here.medium().map_err(|error| error.to_string())?;
        let slot = judge(&mut disk, &signed.manifest, &here.version, downgrade).map_err(|refusal| refusal.reason)?;
        rewind(signed, file).map_err(|error| error.to_string())?;
        let told = &mut |step, done, total| self.progress(step, done, total);
        install(&mut disk, signed, file, &slot, &here.version, told).map_err(|error| {
            // What was left is not seen by the loader; it goes now rather than at the next boot.
            if let Err(error) = settle::clean(&mut disk, &here.version, &here.keys) {
                warn!(%error, "what the update left could not be cleared up");
            }
            error.to_string()
        })
    }

    fn boot_other(&self, by: &Principal) -> Answer {
        self.unless_busy()?;
        let _writing = self.0.disk.try_lock().map_err(|_| busy())?;
        let here = &self.0.here;
        let none = |why: String| refused(Refusal::NoOtherSlot, why);
        let (mut disk, _mounted) = here.medium().map_err(|error| none(error.to_string()))?;
        let other = choose_other(&mut disk, &here.version).map_err(|error| none(format!("the boot entries cannot be changed: {error}")))?;
        let other = other.ok_or_else(|| none("the other slot holds nothing that can be booted".into()))?;
        info!(version = %other, by = by.name, "the other slot is booted");
        self.restart(Power::Reboot)
    }

    fn power(&self, power: Power, by: &Principal) -> Answer {
        self.unless_busy()?;
        info!(?power, by = by.name, "asked for");
        self.restart(power)
    }

    fn factory_reset(&self, phrase: &str, by: &Principal) -> Answer {
        if phrase.trim() != FACTORY_RESET_PHRASE {
            return Err(refused(Refusal::WrongPhrase, format!("to forget everything, type exactly: {FACTORY_RESET_PHRASE}")));
        }
        self.unless_busy()?;
        let _writing = self.0.disk.try_lock().map_err(|_| busy())?;
        let disk = self.0.here.disk.as_ref().ok_or_else(|| refused(Refusal::NoOtherSlot, "this box does not run from an image"))?;
        let number = Disk::number_of(disk, "portcullis-data").ok().flatten();
        let number = number.ok_or_else(|| refused(Refusal::NoOtherSlot, "there is no data partition to forget"))?;
        info!(by = by.name, "everything is forgotten: the next boot makes a new data partition");
        if let Err(error) = Disk::forget_partition(disk, number) {
            return Ok(UpdaterResponse::Failed { reason: format!("the data partition could not be taken out of the table: {error}") });
        }
        self.restart(Power::Reboot)
    }

    /// After the answer had time to leave.
    fn restart(&self, power: Power) -> Answer {
        match power::soon(power, &self.0.options.systemctl) {
            Ok(()) => Ok(UpdaterResponse::Done),
            Err(reason) => Ok(UpdaterResponse::Failed { reason }),
        }
    }

    fn read_from_stick(&self, stick: &str, path: &str) -> Result<(u64, OwnedFd), Refused> {
        let file = self.at_sticks().open(stick, path)?;
        let size = file.metadata().map(|found| found.len()).unwrap_or(0);
        Ok((size, file.into()))
    }

    fn write_to_stick(&self, stick: &str, name: &str, by: &Principal, file: Option<OwnedFd>) -> Answer {
        let file = file.ok_or_else(|| refused(Refusal::NoDescriptor, "no file was handed over"))?;
        let size = self.at_sticks().write(stick, name, &file)?;
        info!(stick, name, size, by = by.name, "written to a stick");
        Ok(UpdaterResponse::Written { size })
    }

    fn at_sticks(&self) -> Locked<'_> {
        Locked { _one: lock(&self.0.stick), sticks: &self.0.sticks }
    }

    fn works(&self) -> bool {
        lock(&self.0.work).as_ref().is_some_and(|work| is_open(work.step))
    }

    fn unless_busy(&self) -> Result<(), Refused> {
        if self.works() { Err(busy()) } else { Ok(()) }
    }

    fn progress(&self, step: Step, done: u64, total: u64) {
        if let Some(work) = lock(&self.0.work).as_mut() {
            // That it is installed is said after it was written down.
            work.step = if step == Step::Installed { work.step } else { step };
            (work.done, work.total) = (done, total);
        }
    }

    fn ended(&self, step: Step, reason: Option<String>) {
        if let Some(work) = lock(&self.0.work).as_mut() {
            (work.step, work.reason) = (step, reason);
        }
    }

    fn write_down(&self, last: &LastUpdate) {
        if let Err(error) = record::write(&self.0.options.state_dir, last) {
            warn!(%error, "how the update ended could not be written down");
        }
    }
}

/// Sticks, by the one who may mount them now.
struct Locked<'a> {
    _one: MutexGuard<'a, ()>,
    sticks: &'a Sticks,
}

impl std::ops::Deref for Locked<'_> {
    type Target = Sticks;
    fn deref(&self) -> &Sticks {
        self.sticks
    }
}

/// Slots as they are told.
pub fn slots(places: &[SlotPlace], entries: &[Entry]) -> Vec<Slot> {
    let told = |place: &SlotPlace| {
        let version = place.version();
        let entry = entries.iter().find(|entry| Some(&entry.version) == version.as_ref());
        let state = match (&version, entry.map(|entry| entry.counted)) {
            (None, _) => SlotState::Empty,
            (_, Some(Counted::Good | Counted::Aside)) => SlotState::Good,
            (_, Some(Counted::Trying(tries_left, _))) => SlotState::Trying { tries_left },
            (_, Some(Counted::Bad(_)) | None) => SlotState::Bad,
        };
        let label = if place.root.label.is_empty() { EMPTY.to_owned() } else { place.root.label.clone() };
        Slot { label, version: version.map(|version| version.to_string()), state, booted: place.booted }
    };
    places.iter().map(told).collect()
}

fn regular(file: Option<OwnedFd>) -> Result<File, Refused> {
    let file = File::from(file.ok_or_else(|| refused(Refusal::NoDescriptor, "no file was handed over"))?);
    match file.metadata() {
        Ok(found) if found.is_file() => Ok(file),
        _ => Err(refused(Refusal::NoDescriptor, "what was handed over is not a file")),
    }
}

fn rewind_whole(file: &mut File) -> Result<(), Refused> {
    std::io::Seek::rewind(file).map_err(|error| refused(Refusal::Damaged, format!("the file cannot be read from its beginning: {error}")))
}

fn is_open(step: Step) -> bool {
    !matches!(step, Step::Installed | Step::Refused | Step::Failed)
}

fn busy() -> Refused {
    refused(Refusal::Busy, "an update is under way; wait until it has ended")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
