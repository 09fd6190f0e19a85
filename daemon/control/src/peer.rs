//! One question to another process of the box and its answer, over a connection of its own.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use policy::messages::{Inbox, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// `patience` is for the answer; connecting and asking take no time worth mentioning.
pub fn exchange<Answer: DeserializeOwned>(socket: &Path, request: &impl Serialize, patience: Duration) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience.min(Duration::from_secs(10))))?;
    stream.write_all(&encode(request).map_err(io::Error::other)?)?;
    let mut inbox = Inbox::default();
    let mut piece = vec![0; 64 << 10];
    loop {
        if let Some(answer) = inbox.take().map_err(io::Error::other)? {
            return Ok(answer);
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => inbox.push(&piece[..length]),
        }
    }
}
