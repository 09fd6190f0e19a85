//! Why a command did not do what it was asked, and the exit code that says so.

use std::path::PathBuf;
use std::process::ExitCode;

use policy::Problems;

use crate::paint;

#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Exit 1: the administrator's text has to change.
    #[error("{0}")]
    Problems(Problems),
    /// Exit 2: the command line has to change.
    #[error("{0}")]
    Usage(String),
    /// Exit 2.
    #[error("cannot read {}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// Exit 3: the box said no, and nothing was changed.
    #[error("refused: {0}")]
    Refused(String),
    /// Exit 3: the box tried, and is back where it was.
    #[error("went back to generation {generation}: {reason}")]
    WentBack { reason: String, generation: u64 },
    /// Exit 4: nobody answers.
    #[error("cannot talk to the {0} at {path}", path = .1.display())]
    Unreachable(&'static str, PathBuf, #[source] std::io::Error),
    /// Exit 4.
    #[error("the answer makes no sense: {0}")]
    Garbled(String),
    /// Exit 4: the output went nowhere.
    #[error("cannot write")]
    Output(#[from] std::io::Error),
}

/// What `--help` says about them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the policy has problems; each is listed with file, line and remedy
  2  wrong usage, or a file cannot be read
  3  the box refused, or tried and went back; nothing has changed
  4  the applier or the forwarder cannot be reached or answered nonsense

Where PATH is asked for: a file, a folder of *.yaml and *.yml files, - for standard input,
@running for what the box runs, or @7 for generation 7 as the box keeps it.";

impl Trouble {
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Trouble::Problems(_) => 1,
            Trouble::Usage(_) | Trouble::File(..) => 2,
            Trouble::Refused(_) | Trouble::WentBack { .. } => 3,
            Trouble::Unreachable(..) | Trouble::Garbled(_) | Trouble::Output(_) => 4,
        })
    }

    /// Says it on standard error, with every cause.
    pub fn tell(&self) {
        // `portcullis plan x | head` is no trouble that anyone wants to hear about.
        if matches!(self, Trouble::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe) {
            return;
        }
        let paint = paint::for_stderr();
        if let Trouble::Problems(problems) = self {
            for problem in &problems.0 {
                eprintln!("{}", paint.problem(problem));
            }
            eprintln!("{}", paint.bad(&format!("{} {}", problems.0.len(), if problems.0.len() == 1 { "problem" } else { "problems" })));
            return;
        }
        eprintln!("portcullis: {}", paint.bad(&self.to_string()));
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            eprintln!("  because: {error}");
            cause = error.source();
        }
    }
}
