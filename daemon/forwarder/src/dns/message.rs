//! As much of DNS messages (RFC 1035, RFC 6891) as carrying them takes: what a question is, whether an answer is its answer, and the
//! answers that we give ourselves. No I/O; everything comes from strangers.

use std::ops::Range;

pub const HEADER: usize = 12;
/// Larger ones are nobody's question.
pub const QUESTION_MAX: usize = 4 << 10;
/// Without EDNS (RFC 1035 section 4.2.1).
const SIZE_WITHOUT_EDNS: usize = 512;
/// What travels without being cut, whatever a client says that it takes; what is larger is asked for again over TCP.
const SIZE_MAX: usize = 1232;
const NAME_MAX: usize = 255;
const LABEL_MAX: u8 = 63;
const OPT: u16 = 41;

const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    ServFail = 2,
    Refused = 5,
}

/// A whole message that asks one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    message: Vec<u8>,
    /// Name, type and class.
    asks: Range<usize>,
    /// What the client takes over UDP; None without EDNS.
    edns: Option<u16>,
}

impl Question {
    /// None: it is no question, or not only one.
    pub fn read(message: &[u8]) -> Option<Question> {
        if message.len() > QUESTION_MAX {
            return None;
        }
        let flags = *message.get(2)?;
        let is_query = flags & (RESPONSE | 0x78) == 0;
        let [questions, answers, authorities, additionals] = counts(message)?;
        if !is_query || questions != 1 || answers != 0 || authorities != 0 || additionals > 4 {
            return None;
        }
        let end = question_end(message)?;
        let mut place = end;
        let mut edns = None;
        for _ in 0..additionals {
            let record = Record::read(message, place)?;
            if record.kind == OPT && edns.replace(record.class).is_some() {
                return None;
            }
            place = record.end;
        }
        (place == message.len()).then(|| Question { message: message.to_vec(), asks: HEADER..end, edns })
    }

    pub fn id(&self) -> u16 {
        self.message.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))
    }

    #[cfg(test)]
    pub fn length(&self) -> usize {
        self.message.len()
    }

    /// The message with another id.
    pub fn with_id(&self, id: u16) -> Vec<u8> {
        renamed(&self.message, id)
    }

    /// Whether this is a whole answer to it. The id is looked at by whoever gave one.
    pub fn is_answered_by(&self, answer: &[u8]) -> bool {
        let Some([questions, ..]) = counts(answer) else { return false };
        let is_response = answer.get(2).is_some_and(|flags| flags & RESPONSE != 0);
        let failed = answer.get(3).is_some_and(|flags| flags & 0x0f != 0);
        let same = || question_end(answer).is_some_and(|end| answer[HEADER..end].eq_ignore_ascii_case(&self.message[self.asks.clone()]));
        // Some servers leave the question out of an error.
        is_response && ((questions == 1 && same()) || (questions == 0 && failed))
    }

    /// As it goes to the client: with its id, and, over UDP, not larger than it takes.
    pub fn answer(&self, answer: &[u8], datagram: bool) -> Vec<u8> {
        if datagram && answer.len() > self.datagram_max() {
            let flags = |index: usize| answer.get(index).copied().unwrap_or_default();
            return self.head_only(flags(2) | TRUNCATED, flags(3));
        }
        renamed(answer, self.id())
    }

    /// What we say when nobody else does.
    pub fn refusal(&self, code: Code) -> Vec<u8> {
        let desired = self.message.get(2).copied().unwrap_or_default() & RECURSION_DESIRED;
        self.head_only(RESPONSE | desired, RECURSION_AVAILABLE | code as u8)
    }

    fn datagram_max(&self) -> usize {
        self.edns.map_or(SIZE_WITHOUT_EDNS, |size| usize::from(size).clamp(SIZE_WITHOUT_EDNS, SIZE_MAX))
    }

    fn head_only(&self, flags: u8, more_flags: u8) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.asks.end + 11);
        head.extend_from_slice(&self.id().to_be_bytes());
        head.extend_from_slice(&[flags, more_flags, 0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        head.extend_from_slice(&self.message[self.asks.clone()]);
        // RFC 6891 section 6.1.1: who is asked with EDNS answers with it.
        if self.edns.is_some() {
            head.push(0);
            head.extend_from_slice(&OPT.to_be_bytes());
            head.extend_from_slice(&(SIZE_MAX as u16).to_be_bytes());
            head.extend_from_slice(&[0; 6]);
        }
        head
    }
}

pub fn id(message: &[u8]) -> Option<u16> {
    message.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn renamed(message: &[u8], id: u16) -> Vec<u8> {
    let mut message = message.to_vec();
    if let Some(place) = message.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
    message
}

struct Record {
    kind: u16,
    class: u16,
    end: usize,
}

impl Record {
    fn read(message: &[u8], place: usize) -> Option<Record> {
        let after = name_end(message, place)?;
        let (head, _) = message.get(after..)?.split_first_chunk::<10>()?;
        let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
        let end = after + head.len() + length;
        let (kind, class) = (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
        (end <= message.len()).then_some(Record { kind, class, end })
    }
}

fn counts(message: &[u8]) -> Option<[u16; 4]> {
    let (words, _) = message.get(4..HEADER)?.as_chunks::<2>();
    words.iter().map(|word| u16::from_be_bytes(*word)).collect::<Vec<_>>().try_into().ok()
}

fn question_end(message: &[u8]) -> Option<usize> {
    let end = name_end(message, HEADER)? + 4;
    (end <= message.len()).then_some(end)
}

/// Where a name that is written out ends. A pointer has nothing to point at in a question.
fn name_end(message: &[u8], start: usize) -> Option<usize> {
    let mut place = start;
    loop {
        match *message.get(place)? {
            0 if place + 1 - start <= NAME_MAX => return Some(place + 1),
            length @ 1..=LABEL_MAX if place - start < NAME_MAX => place += 1 + usize::from(length),
            _ => return None,
        }
    }
}

#[cfg(test)]
pub mod samples {
    /// A question for the address of `name`; with `edns` it takes so much.
    pub fn question(id: u16, name: &str, edns: Option<u16>) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.extend_from_slice(&[0, 0, 1, 0, 1]);
        if let Some(size) = edns {
            message.extend_from_slice(&[0, 0, 41]);
            message.extend_from_slice(&size.to_be_bytes());
            message.extend_from_slice(&[0; 6]);
        }
        message
    }

    /// An answer to it with so many addresses.
    pub fn answer(question: &[u8], addresses: u8) -> Vec<u8> {
        let end = super::question_end(question).unwrap();
        let mut message = question[..end].to_vec();
        message[2] |= 0x80;
        message[3] = 0x80;
        message[6..12].copy_from_slice(&[0, addresses, 0, 0, 0, 0]);
        for address in 0..addresses {
            message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, address]);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{answer, question};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_question_is_read_and_its_answer_known() {
        let asked = Question::read(&question(0x1234, "www.Example.test", Some(1400))).unwrap();
        assert_eq!((asked.id(), asked.edns, asked.asks.clone()), (0x1234, Some(1400), 12..34));
        assert!(asked.is_answered_by(&answer(&question(9, "WWW.example.test", None), 1)));
        assert!(!asked.is_answered_by(&answer(&question(9, "www.example.tes2", None), 1)), "of another name");
        assert!(!asked.is_answered_by(&question(9, "www.example.test", None)), "a question");
        assert!(asked.is_answered_by(&[0, 0, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]), "FORMERR without the question");
        assert!(!asked.is_answered_by(&[0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let good = question(1, "a.test", Some(1232));
        assert!(Question::read(&good).is_some());
        let with = |index: usize, byte: u8| {
            let mut changed = good.clone();
            changed[index] = byte;
            Question::read(&changed)
        };
        assert_eq!(with(2, 0x81), None, "an answer");
        assert_eq!(with(2, 0x29), None, "an update");
        assert_eq!(with(5, 2), None, "two questions");
        assert_eq!(with(5, 0), None, "none");
        assert_eq!(with(7, 1), None, "with an answer");
        assert_eq!(with(12, 0xc0), None, "a pointer");
        assert_eq!(with(12, 200), None, "a label that goes beyond the end");
        assert_eq!(Question::read(&[good.as_slice(), b"x"].concat()), None, "something behind it");
        assert_eq!(Question::read(&good[..good.len() - 1]), None, "cut off");
        assert_eq!(Question::read(&question(1, &["a"; 127].join("."), None)).map(|asked| asked.asks.len()), Some(259));
        assert_eq!(Question::read(&question(1, &["a"; 128].join("."), None)), None, "a name of 257 bytes");
    }

    #[test]
    fn a_datagram_holds_what_the_client_takes_and_else_says_that_there_is_more() {
        let sizes = |edns: Option<u16>, addresses: u8| {
            let asked = question(7, "a.test", edns);
            let given = Question::read(&asked).unwrap().answer(&answer(&question(0, "a.test", None), addresses), true);
            assert_eq!(id(&given), Some(7));
            (given.len(), given[2] & TRUNCATED != 0)
        };
        assert_eq!(sizes(None, 30), (504, false));
        assert_eq!(sizes(None, 31), (24, true));
        assert_eq!(sizes(Some(100), 30), (504, false), "less than everybody takes");
        assert_eq!(sizes(Some(1232), 75), (1224, false));
        assert_eq!(sizes(Some(4096), 76), (35, true), "fragments are not sent");
        let asked = Question::read(&question(7, "a.test", None)).unwrap();
        assert_eq!(asked.answer(&answer(&question(0, "a.test", None), 200), false).len(), 3224, "over TCP all of it");
    }

    #[test]
    fn a_refusal_is_the_question_with_a_code() {
        let asked = Question::read(&question(0xabcd, "a.test", Some(1232))).unwrap();
        let said = asked.refusal(Code::ServFail);
        assert_eq!(said[..12], [0xab, 0xcd, 0x81, 0x82, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert!(asked.is_answered_by(&said));
        assert_eq!(said.len(), asked.length());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut message in prop::collection::vec(any::<u8>(), 0..80), like_a_question: bool) {
            if like_a_question && message.len() > 12 {
                let additional = message[11] & 1;
                message[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, additional]);
            }
            let asked = Question::read(&question(1, "a.test", None)).unwrap();
            _ = asked.is_answered_by(&message);
            _ = asked.answer(&message, true);
            if let Some(read) = Question::read(&message) {
                prop_assert_eq!(read.with_id(read.id()), message);
                prop_assert!(Question::read(&read.refusal(Code::Refused)).is_none());
                prop_assert!(read.is_answered_by(&read.refusal(Code::Refused)));
            }
        }
    }
}
