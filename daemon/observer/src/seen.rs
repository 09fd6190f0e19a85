//! One thing that was seen, as it comes from a source and before it is stored.

use std::net::IpAddr;

use policy::messages::observer::{EventKind, Severity};

/// Its line lies in the batch that carries it, at `line`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Microseconds since the epoch.
    pub at: i64,
    pub kind: EventKind,
    pub source: Option<IpAddr>,
    pub source_port: Option<u16>,
    pub destination: Option<IpAddr>,
    pub destination_port: Option<u16>,
    /// IANA's number.
    pub protocol: Option<u8>,
    pub severity: Severity,
    pub flow: Option<u64>,
    pub signature: Option<u64>,
    /// A signature's words, a name that was asked for, a host; empty where there is nothing to say.
    pub message: Box<str>,
    /// What the sensor or the firewall did: the packet went no further.
    pub blocked: bool,
    /// Both ends said more than the one packet by which a port is refused; true where nothing is known.
    pub talked: bool,
    pub line: std::ops::Range<u32>,
}

/// What a source has read in one go: the lines as they came, and what they say.
#[derive(Debug, Default)]
pub struct Batch {
    pub lines: Vec<u8>,
    pub seen: Vec<Seen>,
    /// Lines that are no events.
    pub garbled: u64,
    /// Microseconds since the epoch, of the first line's arrival.
    pub arrived: i64,
}

impl Batch {
    /// What it holds in memory, in bytes.
    pub fn weight(&self) -> usize {
        self.lines.capacity() + self.seen.capacity() * size_of::<Seen>() + self.seen.iter().map(|seen| seen.message.len()).sum::<usize>()
    }
}
