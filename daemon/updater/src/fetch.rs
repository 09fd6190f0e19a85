//! A bundle from an address, by curl, as a user who may nothing else. Bounded by bytes, by what the disk holds, and by time without progress.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::statvfs::fstatvfs;
use policy::messages::updater::Refusal;

use crate::bundle::{MOST_BUNDLE, Refused, refused};
use crate::options::user;

/// What the data partition keeps for everybody else.
const RESERVE: u64 = 64 << 20;
const PIECE: usize = 1 << 20;

pub fn check(url: &str) -> Result<(), Refused> {
    let odd = url.len() > 2000 || url.chars().any(|letter| letter.is_control() || letter.is_whitespace());
    match url.strip_prefix("https://") {
        Some(rest) if !odd && !rest.is_empty() && !rest.starts_with('/') => Ok(()),
        _ => {
            Err(refused(Refusal::BadAddress, format!("{url:?} is no address of an update: it must begin with https:// and have no spaces")))
        }
    }
}

/// The answer's body, in a file that has no name any more.
pub fn fetch(url: &str, by: &str, folder: &Path, mut told: impl FnMut(u64)) -> Result<File, Refused> {
    check(url)?;
    let failed = |what: String| refused(Refusal::BadAddress, what);
    let user = user(by).map_err(|why| failed(format!("nothing is fetched as root, and {why}")))?;
    let mut file = nameless(folder)
        .map_err(|error| refused(Refusal::TooLittleSpace, format!("no file can be made in {}: {error}", folder.display())))?;
    let mut child = Command::new("curl")
        .args(["--proto", "=https", "--proto-redir", "=https", "--location", "--max-redirs", "5", "--fail", "--silent", "--show-error"])
        .args(["--connect-timeout", "20", "--speed-limit", "1024", "--speed-time", "60", "--"])
        .arg(url)
        .uid(user)
        .gid(user)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("curl cannot be started: {error}")))?;
    let copied = match child.stdout.take() {
        Some(mut body) => keep(&mut body, &mut file, &mut told),
        None => Ok(()),
    };
    if copied.is_err() {
        let _ = child.kill();
    }
    let ended = child.wait_with_output().map_err(|error| failed(format!("curl: {error}")))?;
    copied?;
    if !ended.status.success() {
        let said: String = String::from_utf8_lossy(&ended.stderr).trim().chars().take(300).collect();
        return Err(failed(format!("{url} was not fetched: {said}")));
    }
    file.seek(SeekFrom::Start(0)).map_err(|error| failed(error.to_string()))?;
    Ok(file)
}

fn keep(body: &mut impl Read, file: &mut File, told: &mut impl FnMut(u64)) -> Result<(), Refused> {
    let (mut piece, mut size) = (vec![0; PIECE], 0);
    loop {
        let length = body.read(&mut piece).map_err(|error| refused(Refusal::Truncated, format!("it ended early: {error}")))?;
        if length == 0 {
            return Ok(());
        }
        size += length as u64;
        if size > MOST_BUNDLE {
            return Err(refused(Refusal::Damaged, format!("it is larger than {MOST_BUNDLE} bytes, which no update is")));
        }
        let free = fstatvfs(&*file).map(|found| found.blocks_available() * found.fragment_size()).unwrap_or(u64::MAX);
        let room = || refused(Refusal::TooLittleSpace, "the data partition has too little room for it");
        if free < RESERVE {
            return Err(room());
        }
        file.write_all(&piece[..length]).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => room(),
            _ => refused(Refusal::TooLittleSpace, format!("it cannot be kept: {error}")),
        })?;
        told(size);
    }
}

/// Goes with its last descriptor, whatever happens.
fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join("fetched");
    let _ = fs::remove_file(&path);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_https_addresses_are_asked() {
        check("https://updates.example/portcullis-0.2.0.bundle").unwrap();
        for bad in [
            "",
            "http://a.example/x",
            "file:///etc/shadow",
            "https://",
            "https:///x",
            "https://a.example/x y",
            "https://a\n--output",
            "-o/etc/x",
        ] {
            assert_eq!(check(bad).unwrap_err().why, Refusal::BadAddress, "{bad:?} passed");
        }
    }
}
