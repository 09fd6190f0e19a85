//! The applier's socket: one connection, one request, one answer.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use policy::messages::{ApplierRequest, ApplierResponse, MAX_MESSAGE, Principal};

use crate::trouble::Trouble;

/// Where the applier listens.
pub struct Applier {
    pub socket: PathBuf,
}

impl Applier {
    pub fn ask(&self, request: &ApplierRequest) -> Result<ApplierResponse, Trouble> {
        let answer = self.exchange(request).map_err(|error| Trouble::Unreachable(self.socket.clone(), error))?;
        match serde_json::from_slice(&answer).map_err(|error| Trouble::Garbled(error.to_string()))? {
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

    fn exchange(&self, request: &ApplierRequest) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        // An apply compiles, installs and reads back; ten seconds are hundreds of times what it needs.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        let body = serde_json::to_vec(request)?;
        let length = u32::try_from(body.len()).ok().filter(|length| *length <= MAX_MESSAGE);
        let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the policy is larger than one message may be"))?;
        stream.write_all(&length.to_be_bytes())?;
        stream.write_all(&body)?;

        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer of {length} bytes is announced")));
        }
        let mut answer = vec![0; length as usize];
        stream.read_exact(&mut answer)?;
        Ok(answer)
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
