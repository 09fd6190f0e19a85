use std::io;

use nftnl::{MsgType, NlMsg};

use crate::Error;
use crate::netlink::{Attributes, Enough, Fault, HEADER, Messages, Talk, read_fault};

/// What a message of the batch is about, so that a refusal can name it.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    Table(&'a str),
    Chain {
        table: &'a str,
        chain: &'a str,
    },
    Set {
        table: &'a str,
        set: &'a str,
    },
    /// `first` is the place of the message's first element in the set.
    Elements {
        table: &'a str,
        set: &'a str,
        first: usize,
    },
    Rule {
        table: &'a str,
        chain: &'a str,
        index: usize,
        source: Option<&'a policy::ruleset::Source>,
        comment: Option<&'a str>,
    },
}

/// One transaction: the kernel does all of it or nothing.
pub struct Batch<'a> {
    messages: Messages,
    first: u32,
    subjects: Vec<Subject<'a>>,
    /// Ids given to sets.
    sets: u32,
}

/// How a batch ended when it was not committed.
#[derive(Debug)]
pub enum Trouble {
    /// Somebody else changed the tables since the generation that the batch was made for.
    Overtaken,
    Failed(Error),
}

pub const FAMILY: u8 = libc::NFPROTO_INET as u8;
const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
const NO_SEQUENCES: u32 = 1 << 20;

impl<'a> Batch<'a> {
    /// `generation` binds the batch to the state that it was made for.
    pub fn new(mut messages: Messages, talk: &mut Talk, generation: Option<u32>) -> Batch<'a> {
        messages.clear();
        let first = talk.sequence(NO_SEQUENCES);
        messages.begin(libc::NFNL_MSG_BATCH_BEGIN as u16, libc::NLM_F_REQUEST as u16, first, &batch_header());
        if let Some(generation) = generation {
            messages.be32(libc::NFNL_BATCH_GENID as u16, generation);
        }
        messages.end();
        Batch { messages, first, subjects: Vec::new(), sets: 0 }
    }

    /// Writes one message of nf_tables.
    pub fn message(&mut self, kind: i32, flags: i32, subject: Subject<'a>, write: impl FnOnce(&mut Messages)) {
        let seq = self.next(subject);
        self.messages.begin(SUBSYSTEM | kind as u16, (libc::NLM_F_REQUEST | flags) as u16, seq, &[FAMILY, 0, 0, 0]);
        write(&mut self.messages);
        self.messages.end();
    }

    /// Lets libnftnl write a message, and `more` attributes behind it.
    pub fn nftnl(&mut self, object: &impl NlMsg, subject: Subject<'a>, more: impl FnOnce(&mut Messages)) {
        let seq = self.next(subject);
        let room = nftnl::nft_nlmsg_maxsize() as usize;
        let write = |at: *mut u8| {
            // SAFETY: `at` has room for nft_nlmsg_maxsize() bytes, which is what nftnl asks for.
            unsafe { object.write(at.cast(), seq, MsgType::Add) }
        };
        // SAFETY: nftnl writes one whole message, beginning with its header, and says its length there.
        unsafe { self.messages.foreign(room, write) };
        self.messages.drop_ack();
        more(&mut self.messages);
        self.messages.end();
    }

    /// An id for a set; within the batch it stands for the name that an anonymous set does not have yet.
    pub fn set_id(&mut self) -> u32 {
        self.sets += 1;
        self.sets
    }

    /// The messages themselves, not to be sent.
    pub fn into_messages(self) -> Messages {
        self.messages
    }

    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// Sends the batch; `commit` false only lets the kernel check it. Gives the memory back for the next one.
    pub fn send(mut self, talk: &mut Talk, commit: bool) -> (Result<(), Trouble>, Messages) {
        if self.is_empty() {
            return (Ok(()), self.messages);
        }
        // One answer for everything: an answer to each message would overrun the receive queue although all was done.
        self.messages.want_ack();
        let last = self.first + self.subjects.len() as u32;
        if commit {
            self.messages.begin(libc::NFNL_MSG_BATCH_END as u16, libc::NLM_F_REQUEST as u16, last + 1, &batch_header());
            self.messages.end();
        }
        let outcome = self.send_and_listen(talk, last);
        (outcome, self.messages)
    }

    fn send_and_listen(&self, talk: &mut Talk, last: u32) -> Result<(), Trouble> {
        let io =
            |source: io::Error| Trouble::Failed(Error::Io { what: format!("send {} changes to the kernel", self.subjects.len()), source });
        talk.send(self.messages.bytes()).map_err(io)?;
        let mut faults: Vec<Fault> = Vec::new();
        let heard = talk.receive(|kind, flags, seq, body| {
            if i32::from(kind) != libc::NLMSG_ERROR || seq < self.first || seq > last {
                return Enough::No;
            }
            let fault = read_fault(flags, seq, body);
            let done = seq == last || (seq == self.first && fault.errno == libc::ERESTART);
            if fault.errno != 0 && faults.len() < 16 {
                faults.push(fault);
            }
            if done { Enough::Yes } else { Enough::No }
        });
        match heard {
            // A success is one answer, which fits; an overrun queue therefore means many refusals. Name the first ones.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) && !faults.is_empty() => {}
            other => other.map_err(io)?,
        }
        if faults.iter().any(|fault| fault.seq == self.first && fault.errno == libc::ERESTART) {
            return Err(Trouble::Overtaken);
        }
        match faults.first() {
            None => Ok(()),
            Some(fault) => Err(Trouble::Failed(fault.refused(self.name(fault)))),
        }
    }

    fn next(&mut self, subject: Subject<'a>) -> u32 {
        self.subjects.push(subject);
        self.first + self.subjects.len() as u32
    }

    /// What a refusal is about, down to the element where the kernel says.
    fn name(&self, fault: &Fault) -> String {
        let index = (fault.seq - self.first) as usize;
        let Some(subject) = index.checked_sub(1).and_then(|index| self.subjects.get(index)) else {
            return "the whole change".to_owned();
        };
        let element = |first: usize| fault.offset.and_then(|offset| self.element_at(index, offset as usize)).map(|place| first + place);
        match subject {
            Subject::Table(table) => format!("table inet {table}"),
            Subject::Chain { table, chain } => format!("table inet {table}, chain {chain}"),
            Subject::Set { table, set } => format!("table inet {table}, set {set}"),
            Subject::Elements { table, set, first } => match element(*first) {
                Some(place) => format!("table inet {table}, set {set}, element {}", place + 1),
                None => format!("table inet {table}, set {set}, its elements"),
            },
            Subject::Rule { table, chain, index, source, comment } => {
                let which = match (source, comment) {
                    (Some(source), _) => format!(" ({}, {})", source.id, source.origin),
                    (None, Some(comment)) => format!(" ({comment})"),
                    (None, None) => String::new(),
                };
                format!("table inet {table}, chain {chain}, rule {}{which}", index + 1)
            }
        }
    }

    /// The place, within the message, of the element that holds the attribute at this offset.
    fn element_at(&self, message: usize, offset: usize) -> Option<usize> {
        const ELEMENTS: u16 = 3; // NFTA_SET_ELEM_LIST_ELEMENTS
        let mut rest = self.messages.bytes();
        for _ in 0..message {
            let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
            rest = rest.get(length.next_multiple_of(4)..)?;
        }
        let base = rest.as_ptr() as usize;
        let attributes = Attributes(rest.get(HEADER + 4..)?);
        let mut place = None;
        for (index, (_, value)) in attributes.inside(ELEMENTS).enumerate() {
            if value.as_ptr() as usize - base - 4 > offset {
                break;
            }
            place = Some(index);
        }
        place
    }
}

/// `struct nfgenmsg` of a batch's first and last message: the subsystem in network order (include/uapi/linux/netfilter/nfnetlink.h).
fn batch_header() -> [u8; 4] {
    let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    [libc::AF_UNSPEC as u8, 0, high, low]
}
