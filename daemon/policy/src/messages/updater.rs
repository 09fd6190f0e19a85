//! What the updater can be asked: the two slots, sticks, and what ends with a reboot.
//!
//! Files cross as descriptors (SCM_RIGHTS), sent with the first byte of the message that speaks of them, at most one. A request that needs one
//! says so below; so does the one answer that brings one.

use serde::{Deserialize, Serialize};

use super::Principal;

/// What has to be typed for everything to be forgotten.
pub const FACTORY_RESET_PHRASE: &str = "forget everything";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "request", deny_unknown_fields)]
pub enum UpdaterRequest {
    Status,
    /// Reads a bundle to its end and says what it is, or why it would be refused. Changes nothing.
    /// Answer: `Good`. With a descriptor when the source is `Descriptor`.
    Check {
        source: Source,
        /// Also older than what runs.
        downgrade: bool,
    },
    /// Begins to install. Answer: `Begun`, at once; how it goes on is told by `Status`. With a descriptor when the source is `Descriptor`.
    Install {
        source: Source,
        downgrade: bool,
        by: Principal,
    },
    /// Chooses the other slot for the next boot and reboots. Answer: `Done`.
    BootOther {
        by: Principal,
    },
    Reboot {
        by: Principal,
    },
    PowerOff {
        by: Principal,
    },
    /// Forgets the data partition at the next boot, and reboots. Refused unless the phrase is [`FACTORY_RESET_PHRASE`]. Answer: `Done`.
    FactoryReset {
        phrase: String,
        by: Principal,
    },
    /// Answer: `Sticks`.
    Sticks,
    /// Answer: `File`, with a descriptor to read from. `path` is relative to the stick's root.
    ReadFromStick {
        stick: String,
        path: String,
    },
    /// Copies what the descriptor, sent along, holds from its beginning into a new file of the stick's root, and waits until it lies there.
    /// A file of that name is replaced. Answer: `Written`.
    WriteToStick {
        stick: String,
        name: String,
        by: Principal,
    },
}

/// Where a bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "from", deny_unknown_fields)]
pub enum Source {
    /// A regular file, open for reading, sent along.
    Descriptor,
    Stick {
        stick: String,
        path: String,
    },
    /// Only `https://`.
    Address {
        url: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "response")]
pub enum UpdaterResponse {
    Status(UpdaterStatus),
    /// The bundle could be installed.
    Good(BundleFacts),
    /// It is being installed.
    Begun,
    Sticks {
        sticks: Vec<Stick>,
    },
    /// Comes with a descriptor, open for reading.
    File {
        size: u64,
    },
    Written {
        size: u64,
    },
    Done,
    /// Nothing was changed.
    Refused {
        why: Refusal,
        reason: String,
    },
    /// Something failed on the way; `reason` says what, and what stands now.
    Failed {
        reason: String,
    },
}

/// Why not, for programs; the sentence beside it is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    NotABundle,
    WrongSignature,
    UnknownKey,
    WrongProduct,
    Downgrade,
    /// It needs a newer version to be installed first.
    TooOldForIt,
    SameVersion,
    Truncated,
    Damaged,
    TooBigForSlot,
    TooLittleSpace,
    /// An update, or a trial of one, is under way.
    Busy,
    NoOtherSlot,
    WrongPhrase,
    NoSuchStick,
    NoSuchFile,
    BadAddress,
    NoDescriptor,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdaterStatus {
    /// Milliseconds since the epoch.
    pub now: u64,
    pub product: String,
    /// What runs.
    pub version: String,
    /// The hash of everything the image was made of; empty when it is not known.
    pub recipe: String,
    /// Names of the release keys that a bundle may be signed with.
    pub keys: Vec<String>,
    /// In the order of the disk; empty when the box does not run from an image.
    pub slots: Vec<Slot>,
    /// The update under way, or the last one that ended since this process began.
    pub work: Option<Work>,
    /// How the last update ended; survives reboots.
    pub last_update: Option<LastUpdate>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// The root partition's label: `portcullis_0.1.0`, or `_empty`.
    pub label: String,
    /// None when it is empty.
    pub version: Option<String>,
    pub state: SlotState,
    /// It is what runs.
    pub booted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "is")]
pub enum SlotState {
    Good,
    /// Was never found to be good; it has so many boots left.
    Trying {
        tries_left: u32,
    },
    /// Did not become good; it is not booted by itself any more.
    Bad,
    Empty,
}

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleFacts {
    pub product: String,
    pub version: String,
    pub recipe: String,
    /// Of config.db.
    pub config_schema: u32,
    pub size: u64,
    /// The name of the key that it is signed with.
    pub key: String,
}

/// An update under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    pub step: Step,
    /// Known once the manifest was read.
    pub version: Option<String>,
    /// Bytes of this step.
    pub done: u64,
    /// 0 while it is not known.
    pub total: u64,
    /// With `Failed` and `Refused`: why.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Fetching,
    Checking,
    Writing,
    ReadingBack,
    /// The next boot tries it.
    Installed,
    /// Nothing was changed.
    Refused,
    /// The slot is empty; what runs is as it was.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastUpdate {
    /// Milliseconds since the epoch.
    pub at: u64,
    pub from: String,
    pub version: String,
    pub by: String,
    pub outcome: Outcome,
    /// In plain words, unless it is good.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// On the disk; not booted yet.
    Installed,
    /// Booted, not yet found to be good.
    Trying,
    Good,
    /// It was not good, and the old version runs again.
    TakenBack,
    /// It did not get as far as a boot entry.
    Failed,
}

/// A removable volume with a file system that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stick {
    /// What requests call it: the kernel's name of its device, `sda1`.
    pub name: String,
    pub label: String,
    pub file_system: String,
    pub size: u64,
    pub free: u64,
    pub writable: bool,
    /// Of its root folder, the first 200 by name.
    pub files: Vec<StickFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StickFile {
    pub name: String,
    pub size: u64,
}
