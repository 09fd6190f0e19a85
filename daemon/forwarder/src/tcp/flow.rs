//! One client's connection: it waits for its upstream, shakes hands with it, and is then carried until both sides have ended.

use std::sync::Arc;
use std::time::Instant;

use policy::name::Name;
use rustix::io::Errno;

use super::pump::{End, Half, Lent, Pumped, Side, Trouble};
use super::sealed::Sealed;
use super::wheel::Tick;
use crate::dial::{Handshake, Progress, Refused};
use crate::flows::Entry;

pub struct Flow {
    pub client: Side,
    pub far: Option<Far>,
    pub entry: Arc<Entry>,
    pub phase: Phase,
    pub up: Half,
    pub down: Half,
    pub due: Tick,
    /// When its entry in the wheel comes up.
    pub comes: Tick,
    pub began: Instant,
    /// Upstreams that did not work for this flow.
    pub tried: Vec<Name>,
    /// It waits for its next turn.
    pub queued: bool,
    pub kept_alive: bool,
    /// The board knows that it is carried.
    pub praised: bool,
}

/// A flow before it has a place.
pub struct Begun {
    pub entry: Arc<Entry>,
    pub tried: Vec<Name>,
    pub began: Instant,
    pub reached: Option<Reached>,
}

/// A connection to an upstream that is on its way, and what will be said there.
pub struct Reached {
    pub far: Far,
    pub handshake: Box<Handshake>,
}

pub enum Phase {
    Connecting(Box<Handshake>),
    /// `heard`: the upstream has said something.
    Asking {
        handshake: Box<Handshake>,
        heard: bool,
    },
    Carrying,
}

/// The socket to the upstream.
pub enum Far {
    Plain(Side),
    Sealed(Box<Sealed>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Waiting,
    /// The upstream is connected, or said something: it has new time.
    Heard,
    /// The tunnel stands, or bytes went through.
    Carried,
    /// More could be moved now.
    Again,
    /// Both sides ended in order.
    Ended,
    /// One side broke off: so do we on the other.
    Broken,
    /// There will be no tunnel by this upstream.
    Refused(Refused),
}

/// Read at once while shaking hands: what comes after the answer has to be held.
const ANSWER: usize = 4 << 10;

impl Flow {
    pub fn new(client: Side, begun: Begun, due: Tick) -> Flow {
        let (far, phase) = match begun.reached {
            Some(Reached { far, handshake }) => (Some(far), Phase::Connecting(handshake)),
            None => (None, Phase::Carrying),
        };
        Flow {
            client,
            far,
            entry: begun.entry,
            phase,
            up: Half::default(),
            down: Half::default(),
            due,
            comes: due,
            began: begun.began,
            tried: begun.tried,
            queued: false,
            kept_alive: false,
            praised: false,
        }
    }

    /// Lets go of what it holds.
    pub fn forget(&mut self, lent: &mut Lent) {
        self.up.end(lent);
        self.down.end(lent);
    }

    /// Goes as far as the sockets let it.
    pub fn advance(&mut self, lent: &mut Lent) -> Outcome {
        let mut new = Outcome::Waiting;
        if let Phase::Connecting(_) = self.phase {
            match self.far.as_mut().map(Far::side) {
                Some(side) if side.writable => {}
                _ => return Outcome::Waiting,
            }
            self.phase = match std::mem::replace(&mut self.phase, Phase::Carrying) {
                Phase::Connecting(handshake) => Phase::Asking { handshake, heard: false },
                other => other,
            };
            new = Outcome::Heard;
        }
        if let Phase::Asking { .. } = self.phase {
            match self.ask(lent) {
                Ok(Outcome::Carried) => new = Outcome::Carried,
                Ok(Outcome::Heard) => return Outcome::Heard,
                Ok(_) => return new,
                Err(Trouble::Upstream(refused)) => return Outcome::Refused(refused),
                Err(Trouble::Socket(error)) => return Outcome::Refused(Refused::upstream(format!("it broke the connection off: {error}"))),
            }
        }
        match self.carry(lent) {
            Ok(Outcome::Waiting) => new,
            Ok(outcome) => outcome,
            Err(_) => Outcome::Broken,
        }
    }

    /// `Carried` when the tunnel stands.
    fn ask(&mut self, lent: &mut Lent) -> Result<Outcome, Trouble> {
        let (Some(far), Phase::Asking { handshake, heard }) = (&mut self.far, &mut self.phase) else { return Ok(Outcome::Waiting) };
        let mut outcome = Outcome::Waiting;
        loop {
            far.flush()?;
            while far.is_writable() && !handshake.to_send().is_empty() {
                let sent = far.write(handshake.to_send())?;
                handshake.sent(sent);
            }
            if !far.is_readable() {
                return Ok(outcome);
            }
            let mut answer = [0; ANSWER];
            let read = match far.read(&mut answer)? {
                // With TLS, its own handshake may have gone on.
                None if far.is_writable() && !handshake.to_send().is_empty() => continue,
                None => return Ok(outcome),
                Some(0) => return Err(handshake.ended().into()),
                Some(read) => &answer[..read],
            };
            *heard = true;
            outcome = Outcome::Heard;
            if let Progress::Done { used, .. } = handshake.received(read)? {
                self.down.hold(read.get(used..).unwrap_or_default(), lent);
                self.phase = Phase::Carrying;
                return Ok(Outcome::Carried);
            }
        }
    }

    fn carry(&mut self, lent: &mut Lent) -> Result<Outcome, Trouble> {
        let told = (self.up.is_done(), self.down.is_done());
        let Some(far) = &mut self.far else { return Ok(Outcome::Waiting) };
        let (up, down) = match far {
            Far::Plain(far) => (self.up.pump(&mut self.client, far, lent)?, self.down.pump(far, &mut self.client, lent)?),
            Far::Sealed(far) => {
                far.flush()?;
                (self.up.pump(&mut self.client, &mut **far, lent)?, self.down.pump(&mut **far, &mut self.client, lent)?)
            }
        };
        self.entry.carried(up.1, down.1);
        // When both have ended, closing the sockets says so; what is inside TLS has its own words for it.
        let over = self.up.is_done() && self.down.is_done();
        if self.up.is_done() && !told.0 && !(over && far.bare().is_some()) {
            far.finish();
        }
        if self.down.is_done() && !told.1 && !over {
            self.client.finish();
        }
        Ok(match (up, down) {
            _ if over => Outcome::Ended,
            ((Pumped::Again, _), _) | (_, (Pumped::Again, _)) => Outcome::Again,
            ((_, 0), (_, 0)) if told == (self.up.is_done(), self.down.is_done()) => Outcome::Waiting,
            _ => Outcome::Carried,
        })
    }

    pub fn is_half_closed(&self) -> bool {
        self.up.is_done() || self.down.is_done()
    }

    /// For want of an answer in time. A server that took the connection and never said a word is dead; one that is silent after
    /// it began to answer may be waiting for a destination that is.
    pub fn late(&self) -> Refused {
        match &self.phase {
            Phase::Connecting(_) => Refused::upstream("it does not answer"),
            Phase::Asking { heard: false, .. } if self.answers_at_once() => Refused::upstream("it takes connections and says nothing"),
            _ => Refused::destination("the destination did not answer in time"),
        }
    }

    /// SOCKS answers the greeting before it connects anywhere; an HTTP proxy says nothing until it has connected.
    pub fn answers_at_once(&self) -> bool {
        use policy::plan::proxy::UpstreamKind::{Socks5, Socks5Tls};
        matches!(self.entry.route().upstream.kind, Socks5 | Socks5Tls)
    }
}

impl Far {
    pub fn side(&mut self) -> &mut Side {
        match self {
            Far::Plain(side) => side,
            Far::Sealed(sealed) => &mut sealed.side,
        }
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        match self {
            Far::Plain(_) => Ok(()),
            Far::Sealed(sealed) => sealed.flush(),
        }
    }
}

impl End for Far {
    fn is_readable(&self) -> bool {
        match self {
            Far::Plain(side) => side.is_readable(),
            Far::Sealed(sealed) => sealed.is_readable(),
        }
    }

    fn is_writable(&self) -> bool {
        match self {
            Far::Plain(side) => side.is_writable(),
            Far::Sealed(sealed) => sealed.is_writable(),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Trouble> {
        match self {
            Far::Plain(side) => side.read(into),
            Far::Sealed(sealed) => sealed.read(into),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Trouble> {
        match self {
            Far::Plain(side) => side.write(bytes),
            Far::Sealed(sealed) => sealed.write(bytes),
        }
    }

    fn finish(&mut self) {
        match self {
            Far::Plain(side) => side.finish(),
            Far::Sealed(sealed) => sealed.finish(),
        }
    }

    fn bare(&mut self) -> Option<&mut Side> {
        match self {
            Far::Plain(side) => Some(side),
            Far::Sealed(_) => None,
        }
    }
}

/// Why a connection to an upstream could not even be begun, if it is a want of ours and none of the upstream's.
pub fn is_our_want(error: Errno) -> bool {
    matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::ADDRNOTAVAIL | Errno::AGAIN)
}
