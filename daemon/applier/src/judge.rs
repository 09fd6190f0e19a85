//! Judging takes as long as a policy is large, so it happens on a thread of its own: time, drift and status go on meanwhile.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::catch_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use policy::{Digest, Problems, Sources, judge};

use crate::machine::Refusal;

pub struct Judge {
    answers: Receiver<Answer>,
    sender: Sender<Answer>,
    /// Readable when an answer has come; the other end belongs to the threads.
    bell: UnixStream,
    rope: UnixStream,
}

pub struct Question {
    pub sources: Sources,
    /// What the asker's own compilation came to; None for a policy that was agreed on before.
    pub digest: Option<Digest>,
}

pub struct Answer {
    pub sources: Sources,
    pub result: Result<policy::Judged, Refusal>,
    pub took: Duration,
}

/// The prover walks deep diagrams.
const STACK: usize = 64 << 20;

impl Judge {
    pub fn new() -> io::Result<Judge> {
        let (sender, answers) = channel();
        let (bell, rope) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        Ok(Judge { answers, sender, bell, rope })
    }

    pub fn ask(&self, question: Question) -> Result<(), String> {
        let sender = self.sender.clone();
        let mut rope = self.rope.try_clone().map_err(|error| format!("the policy could not be judged: {error}"))?;
        let work = move || {
            let begun = Instant::now();
            // A fault of ours in judging must not take the machine with it: it is a refusal like any other.
            let result = catch_unwind(|| decide(&question)).unwrap_or_else(|_| {
                Err(refusal(
                    "judging this policy failed by a fault of the applier; nothing was changed; please report it",
                    Problems::default(),
                ))
            });
            sender.send(Answer { sources: question.sources, result, took: begun.elapsed() }).ok();
            rope.write_all(&[1]).ok();
        };
        let thread = thread::Builder::new().name("judge".into()).stack_size(STACK).spawn(work);
        thread.map(drop).map_err(|error| format!("the policy could not be judged: {error}"))
    }

    pub fn answer(&mut self) -> Option<Answer> {
        let mut rings = [0; 16];
        while self.bell.read(&mut rings).is_ok_and(|count| count > 0) {}
        self.answers.try_recv().ok()
    }
}

impl AsFd for Judge {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn decide(question: &Question) -> Result<policy::Judged, Refusal> {
    let judged = judge(&question.sources).map_err(|problems| refusal("the policy has problems", problems))?;
    match &question.digest {
        Some(shown) if *shown != judged.digest => Err(refusal(
            &format!("the plan that was shown has digest {shown}, but the applier compiles this policy to {}", judged.digest),
            Problems::default(),
        )),
        _ => Ok(judged),
    }
}

fn refusal(reason: &str, problems: Problems) -> Refusal {
    Refusal { reason: reason.into(), problems }
}
