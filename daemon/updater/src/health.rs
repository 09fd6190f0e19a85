//! Does this version do its work? The applier holds a policy, control answers, and so do the pages.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use policy::messages::{ApplierRequest, ApplierResponse, Inbox, Status, encode};

const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

/// Asked until all is well or `patience` is over; the error is what was wrong last.
pub fn wait(run_dir: &Path, patience: Duration, mut said: impl FnMut(&str)) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let Err(why) = look(run_dir) else { return Ok(()) };
        said(&why);
        if begun.elapsed() + EVERY > patience {
            return Err(format!("{why} (after {} s)", patience.as_secs()));
        }
        thread::sleep(EVERY);
    }
}

pub fn look(run_dir: &Path) -> Result<(), String> {
    let status = applier(&run_dir.join("applier.sock")).map_err(|error| format!("the applier does not answer: {error}"))?;
    holds_its_policy(&status)?;
    for page in ["/readyz", "/login"] {
        let code = get(&run_dir.join("control.sock"), page).map_err(|error| format!("control does not answer: {error}"))?;
        if !(200..400).contains(&code) {
            return Err(format!("control answers {page} with {code}"));
        }
    }
    front(run_dir)
}

/// A policy stands, or the box never had one. What was confirmed and is not restored is a fault.
fn holds_its_policy(status: &Status) -> Result<(), String> {
    match (&status.running, status.last_confirmed) {
        (Some(_), _) | (None, None) => Ok(()),
        (None, Some(generation)) => Err(format!("generation {generation} was confirmed and could not be restored")),
    }
}

fn applier(socket: &Path) -> io::Result<Status> {
    let mut stream = connect(socket)?;
    stream.write_all(&encode(&ApplierRequest::Status).map_err(io::Error::other)?)?;
    let (mut inbox, mut piece) = (Inbox::default(), vec![0; 16 << 10]);
    loop {
        match inbox.take().map_err(io::Error::other)? {
            Some(ApplierResponse::Status(status)) => return Ok(status),
            Some(_) => return Err(io::Error::other("it answers something else")),
            None => {}
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => inbox.push(&piece[..length]),
        }
    }
}

/// The status of a page.
fn get(socket: &Path, path: &str) -> io::Result<u16> {
    let mut stream = connect(socket)?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: portcullis\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut head = vec![];
    stream.take(12).read_to_end(&mut head)?;
    let code = std::str::from_utf8(&head).ok().and_then(|text| text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    code.ok_or_else(|| io::Error::other("it does not speak HTTP"))
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The front, where the policy asks for one: a page through TLS, as a browser would ask for it.
fn front(run_dir: &Path) -> Result<(), String> {
    let Ok(text) = fs::read_to_string(run_dir.join("files/admin-front/haproxy.cfg")) else { return Ok(()) };
    let Some(port) = port_of(&text) else { return Ok(()) };
    let asked = Command::new("curl")
        .args(["--insecure", "--silent", "--show-error", "--fail", "--max-time", "5", "--output", "/dev/null"])
        .arg(format!("https://127.0.0.1:{port}/login"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output();
    match asked {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("the pages do not answer on port {port}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("curl cannot be started: {error}")),
    }
}

fn port_of(config: &str) -> Option<u16> {
    config.lines().find_map(|line| line.trim().strip_prefix("bind 0.0.0.0:")?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(running: Option<u64>, last_confirmed: Option<u64>) -> Status {
        let generation = |number| policy::messages::Generation {
            number,
            digest: policy::plan::Digest("0".into()),
            by: "anna".into(),
            installed_at: 0,
            confirmed: true,
        };
        Status {
            now: 0,
            running: running.map(generation),
            trial: None,
            last_confirmed,
            last_event: None,
            drift: vec![],
            kept: vec![],
            features: vec![],
            safe_mode: None,
        }
    }

    #[test]
    fn lockdown_is_well_only_where_no_policy_was_ever_confirmed() {
        holds_its_policy(&status(None, None)).unwrap();
        holds_its_policy(&status(Some(4), Some(4))).unwrap();
        assert!(holds_its_policy(&status(None, Some(4))).unwrap_err().contains("generation 4"));
    }

    #[test]
    fn the_front_is_asked_at_the_port_that_its_file_names() {
        assert_eq!(port_of("frontend admin\n    bind 0.0.0.0:8443 ssl crt x\n"), Some(8443));
        assert_eq!(port_of("frontend admin\n"), None);
    }

    #[test]
    fn a_box_where_nothing_answers_is_not_well() {
        let folder = tempfile::tempdir().unwrap();
        let mut heard = 0;
        let why = wait(folder.path(), Duration::from_millis(1500), |_| heard += 1).unwrap_err();
        assert!(why.contains("applier does not answer"), "{why}");
        assert!(heard >= 1);
    }
}
