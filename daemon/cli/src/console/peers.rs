//! The processes that are asked. Each may be down or hang: then it is said which, and the console goes on.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use policy::messages::rescue::{RescueRequest, RescueResponse, RescueStatus};
use policy::messages::updater::{UpdaterRequest, UpdaterResponse, UpdaterStatus};
use policy::messages::{ApplierRequest, ApplierResponse, Principal, Status};

use crate::applier::exchange_within;
use crate::trouble::Trouble;

pub struct Peers {
    pub run_dir: PathBuf,
}

/// For what is shown: nobody waits longer for a menu.
const GLANCE: Duration = Duration::from_secs(3);
/// For a change: it is judged, installed and read back.
const CHANGE: Duration = Duration::from_secs(60);
/// A stick may be slow.
const COPY: Duration = Duration::from_secs(120);

/// In words for whoever sits at the console.
pub type Said<T> = Result<T, String>;

impl Peers {
    pub fn status(&self) -> Said<Status> {
        match self.glance(&ApplierRequest::Status)? {
            ApplierResponse::Status(status) => Ok(status),
            other => Err(unexpected("applier", &other)),
        }
    }

    /// Changes nothing.
    pub fn glance(&self, request: &ApplierRequest) -> Said<ApplierResponse> {
        self.applier(request, GLANCE)
    }

    pub fn change(&self, request: &ApplierRequest) -> Said<ApplierResponse> {
        self.applier(request, CHANGE)
    }

    fn applier(&self, request: &ApplierRequest, patience: Duration) -> Said<ApplierResponse> {
        match exchange_within("applier", &self.run_dir.join("applier.sock"), request, None, patience) {
            Ok(ApplierResponse::Refused { reason, problems }) if problems.is_empty() => Err(format!("refused: {reason}")),
            Ok(ApplierResponse::Refused { problems, .. }) => Err(format!("the policy has problems:\n{problems}")),
            Ok(ApplierResponse::Failed { reason, generation: 0 }) => Err(format!("failed, nothing is forwarded now: {reason}")),
            Ok(ApplierResponse::Failed { reason, generation }) => Err(format!("failed, back at generation {generation}: {reason}")),
            Ok(answer) => Ok(answer),
            Err(trouble) => Err(words(&trouble)),
        }
    }

    pub fn users(&self) -> Said<RescueStatus> {
        match self.rescue(&RescueRequest::Status, GLANCE * 2)? {
            RescueResponse::Status(status) => Ok(status),
            other => Err(unexpected("rescue program", &other)),
        }
    }

    pub fn rescued(&self, request: &RescueRequest) -> Said<String> {
        match self.rescue(request, CHANGE)? {
            RescueResponse::Done { text } => Ok(text),
            RescueResponse::Refused { reason } => Err(format!("refused: {reason}")),
            other => Err(unexpected("rescue program", &other)),
        }
    }

    fn rescue(&self, request: &RescueRequest, patience: Duration) -> Said<RescueResponse> {
        exchange_within("rescue program", &self.run_dir.join("rescue.sock"), request, None, patience).map_err(|trouble| words(&trouble))
    }

    pub fn image(&self) -> Said<UpdaterStatus> {
        match self.updater(&UpdaterRequest::Status, None, GLANCE)? {
            UpdaterResponse::Status(status) => Ok(status),
            other => Err(unexpected("updater", &other)),
        }
    }

    pub fn updater(&self, request: &UpdaterRequest, descriptor: Option<BorrowedFd>, patience: Duration) -> Said<UpdaterResponse> {
        match exchange_within("updater", &self.run_dir.join("updater.sock"), request, descriptor, patience) {
            Ok(UpdaterResponse::Refused { reason, .. }) => Err(format!("refused: {reason}")),
            Ok(UpdaterResponse::Failed { reason }) => Err(format!("failed: {reason}")),
            Ok(answer) => Ok(answer),
            Err(trouble) => Err(words(&trouble)),
        }
    }

    pub fn updated(&self, request: &UpdaterRequest, descriptor: Option<BorrowedFd>) -> Said<UpdaterResponse> {
        self.updater(request, descriptor, COPY)
    }
}

/// Who asks, whatever this process is called: the applier lets whoever stands at the box keep anybody's change.
pub fn console() -> Principal {
    Principal { name: "console".into(), address: None, connected_at: None }
}

pub fn unexpected(who: &str, answer: &impl std::fmt::Debug) -> String {
    let text: String = format!("{answer:?}").chars().take(120).collect();
    format!("the {who} gave an answer that makes no sense here: {text}")
}

fn words(trouble: &Trouble) -> String {
    use std::io::ErrorKind;
    match trouble {
        Trouble::Unreachable(who, _, error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!("the {who} is down"),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => format!("the {who} hangs: it does not answer in time"),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                format!("the {who} ended the connection, or refuses this user")
            }
            ErrorKind::PermissionDenied => format!("this user may not speak to the {who}"),
            _ => format!("the {who} cannot be reached: {error}"),
        },
        other => other.to_string(),
    }
}
