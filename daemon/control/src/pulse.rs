//! Whether the pages still answer: control asks itself, over its own socket, as HAProxy would.
//!
//! The service manager hears of the process while it does, and starts another one (`WatchdogSec`) when it has heard nothing for too long.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

const ROUND: Duration = Duration::from_secs(10);
/// Every worker may be busy with a large policy for a while.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn run(socket: &Path) -> ! {
    loop {
        match answers(socket, PATIENCE) {
            Ok(()) => _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]),
            Err(error) => tracing::warn!(%error, "the pages do not answer"),
        }
        thread::sleep(ROUND);
    }
}

fn answers(socket: &Path, patience: Duration) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: control\r\nConnection: close\r\n\r\n")?;
    let mut said = [0; 12];
    stream.read_exact(&mut said)?;
    if said == *b"HTTP/1.1 200" { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(&said).into_owned())) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn served_by(said: &'static [u8]) -> io::Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 8]).unwrap();
            stream.write_all(said).unwrap();
            // Open until the other side has had enough, as a worker that hangs would leave it.
            _ = stream.read_to_end(&mut vec![]);
        });
        let answer = answers(&socket, Duration::from_millis(200));
        server.join().unwrap();
        answer
    }

    #[test]
    fn pages_that_answer_live_and_pages_that_hang_or_fail_do_not() {
        served_by(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        assert!(served_by(b"HTTP/1.1 503 no\r\n\r\n").unwrap_err().to_string().contains("503"));
        assert!(served_by(b"").is_err(), "silence");
        assert!(answers(Path::new("/nonexistent/control.sock"), PATIENCE).is_err());
    }
}
