//! What the machine hears, and what it has done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::messages::{ApplierRequest, ApplierResponse, DriftFinding};
use policy::name::Name;
use policy::{Digest, Problems, Sources};

use super::Number;
use crate::mapped::Secret;

/// One request of one connection: where the answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub id: u64,
    /// When its unix connection was accepted (boot clock).
    pub opened: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// What was found on disk when the process started.
    Started(Found),
    Request(Caller, ApplierRequest),
    Judged(Result<Verdict, Refusal>),
    Saved(Result<(), String>),
    Recorded(Result<(), String>),
    Installed(Result<Installed, String>),
    /// Whether everything that a change maps anew can be carried. Err names what cannot, and why.
    Probed(Result<(), String>),
    Pointed(Result<(), String>),
    Unrecorded(Result<(), String>),
    LockedDown(Result<(), String>),
    Compared(Result<Vec<DriftFinding>, String>),
    Repaired(Result<(), String>),
    /// Somebody else changed the packet filter.
    TablesChanged,
    Tick,
    /// SIGTERM.
    Shutdown,
}

// A handful live at once, each for one turn of the loop.
#[expect(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Read, check, compile and prove; compare the digest. Result: `Judged`.
    Judge {
        sources: Judged,
        digest: Option<Digest>,
    },
    /// Store what was judged as a generation, durably. Result: `Saved`.
    Save {
        number: Number,
        by: String,
        at: u64,
    },
    /// Note durably that a trial begins, and where it would go back to. Result: `Recorded`.
    Record {
        number: Number,
        back_to: Option<Number>,
        by: String,
    },
    /// Stage, check, install, read back. Result: `Installed`.
    Install(Number),
    /// Find out whether these mappings of what was just installed can be carried. Result, some seconds later: `Probed`.
    Probe(BTreeSet<Name>),
    /// Install safe mode on this generation's addresses; without one it is lockdown. Result: `Installed`.
    InstallSafeMode(Option<Number>),
    /// Note whether safe mode is on, so that a restart finds it. A disk that fails is told, and keeps nobody from safe mode.
    KeepSafeMode(Option<String>),
    /// Make this the generation that a restart restores, durably. Result: `Pointed`.
    Point {
        to: Option<Number>,
        by: String,
    },
    /// Remove the note of a trial. Result: `Unrecorded`.
    Unrecord,
    /// Drop everything but loopback, stop forwarding. Result: `LockedDown`.
    LockDown,
    /// Lock down if nothing of ours stands in the kernel, else leave it for an atomic replacement. No result.
    Guard,
    /// Compare the kernel with what stands. Result: `Compared`.
    Compare,
    /// Put right what differs from what stands. Result: `Repaired`.
    Repair,
    /// Open and close what the time of day opens and closes.
    Schedules,
    /// A generation that never stood and never will.
    Discard(Number),
    /// Remove the oldest generations beyond the limit.
    Prune,
    Reply(Caller, ApplierResponse),
    /// A question that changes nothing, answered from the kernel or the store.
    Answer(Caller, Question),
    /// Keep it sealed, answer, and say what was done.
    SetSecret {
        caller: Caller,
        name: String,
        value: Secret,
        text: String,
    },
    ProbeUpstreams(Caller, Vec<String>),
    Say(String),
    Warn(String),
    Exit,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    These(Sources),
    /// The sources of a kept generation.
    Kept(Number),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    Status,
    Sources(Option<Number>),
    Counters,
    KernelRuleset,
    Proxy,
    Ports,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub confirmed: Option<Number>,
    pub trial: Option<Interrupted>,
    /// The next number that no generation ever had.
    pub next: Number,
    /// Who had switched safe mode on.
    pub safe_mode: Option<String>,
    /// What was found damaged, and what was done about it.
    pub remarks: Vec<String>,
}

/// A trial that was on when the process or the machine died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    /// None when the record cannot be read.
    pub number: Option<Number>,
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the policy itself says about how long a trial lasts.
    pub confirm_within: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub problems: Problems,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub digest: Digest,
    pub by: String,
    /// Whether drift is repaired or only reported.
    pub repair: bool,
    /// Mappings that differ from what stood before.
    pub to_prove: BTreeSet<Name>,
    /// Microseconds.
    pub phases: BTreeMap<String, u64>,
    /// What an administrator should know although it worked.
    pub remarks: Vec<String>,
}
