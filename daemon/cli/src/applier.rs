//! The applier's socket: one connection, one request, one answer.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policy::messages::{ApplierRequest, ApplierResponse, BadMessage, Inbox, Principal, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::trouble::Trouble;

/// Where the applier listens.
pub struct Applier {
    pub socket: PathBuf,
}

impl Applier {
    pub fn ask(&self, request: &ApplierRequest) -> Result<ApplierResponse, Trouble> {
        match exchange("applier", &self.socket, request)? {
            ApplierResponse::Refused { reason, problems } if problems.is_empty() => Err(Trouble::Refused(reason)),
            ApplierResponse::Refused { problems, .. } => Err(Trouble::Problems(problems)),
            ApplierResponse::Failed { reason, generation } => Err(Trouble::WentBack { reason, generation }),
            answer => Ok(answer),
        }
    }

    pub fn unexpected(answer: ApplierResponse) -> Trouble {
        let text = format!("{answer:?}");
        Trouble::Garbled(text.chars().take(200).collect())
    }
}

/// `who` is for the words of trouble.
pub fn exchange<Answer: DeserializeOwned>(who: &'static str, socket: &Path, request: &impl Serialize) -> Result<Answer, Trouble> {
    let unreachable = |error| Trouble::Unreachable(who, socket.to_owned(), error);
    let request = encode(request).map_err(|error| Trouble::Usage(error.to_string()))?;
    let mut stream = connect(socket).map_err(unreachable)?;
    stream.write_all(&request).map_err(unreachable)?;
    receive(&mut stream).map_err(unreachable)?.map_err(|error| Trouble::Garbled(error.to_string()))
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    // An apply compiles, installs and reads back; a minute is hundreds of times what it needs.
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

fn receive<Answer: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<Result<Answer, BadMessage>> {
    let mut inbox = Inbox::default();
    let mut piece = [0; 64 << 10];
    loop {
        match inbox.take() {
            Ok(Some(answer)) => return Ok(Ok(answer)),
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without an answer; its log says why")),
            length => inbox.push(&piece[..length]),
        }
    }
}

/// Who asks, for the record: the person behind sudo, or the console.
pub fn myself() -> Principal {
    let sudo = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    let login = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    let name = sudo.or_else(login).filter(|name| name != "root").unwrap_or_else(|| "console".to_owned());
    // connected_at stays empty: for a local caller the new connection to the applier is the proof.
    Principal { name, address: None, connected_at: None }
}
