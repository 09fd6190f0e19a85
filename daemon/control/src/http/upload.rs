//! A file that is too large for memory: written to the disk as it comes, under no name, so that it goes with its last reader.
//!
//! The fields of a form that stand before its file are kept; what stands after it is not read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use nix::sys::statvfs::fstatvfs;

use super::fields::percent_encode;
use super::multipart;
use crate::trouble::Trouble;

/// The largest file; the front refuses more by its announced length.
pub const MAX_UPLOAD: u64 = 1 << 30;
/// What the data partition keeps for everybody else.
const RESERVE: u64 = 64 << 20;
const PIECE: usize = 256 << 10;
/// Fields and the head of the file's part.
const MOST_HEAD: usize = 16 << 10;

#[derive(Debug)]
pub struct Upload {
    pub file: File,
    pub size: u64,
    /// As a form without a file would have sent them.
    pub fields: Vec<u8>,
}

/// Reads a body to the end of its file.
pub fn keep(content_type: &str, body: &mut dyn Read, folder: &Path) -> Result<Upload, Trouble> {
    let mut file = nameless(folder).map_err(no_room)?;
    let (size, fields) = if content_type.starts_with("multipart/form-data") {
        form(content_type, body, &mut Bounded::new(&mut file)?)?
    } else {
        (plain(body, &mut Bounded::new(&mut file)?)?, Vec::new())
    };
    file.rewind().map_err(no_room)?;
    Ok(Upload { file, size, fields })
}

fn plain(body: &mut dyn Read, to: &mut Bounded) -> Result<u64, Trouble> {
    let mut piece = vec![0; PIECE];
    loop {
        match body.read(&mut piece).map_err(early)? {
            0 => return Ok(to.size),
            length => to.write(&piece[..length])?,
        }
    }
}

fn form(content_type: &str, body: &mut dyn Read, to: &mut Bounded) -> Result<(u64, Vec<u8>), Trouble> {
    let boundary = multipart::boundary(content_type).ok_or_else(|| Trouble::field("form", "names no boundary"))?;
    let (mut held, mut piece) = (Vec::new(), vec![0; PIECE]);
    let (before, content) = loop {
        if let Some(found) = head_of_file(&held, &boundary) {
            break found;
        }
        let length = body.read(&mut piece).map_err(early)?;
        if length == 0 || held.len() > MOST_HEAD {
            return Err(Trouble::field("file", "is missing: choose one"));
        }
        held.extend_from_slice(&piece[..length]);
    };
    let fields = [&held[..before], format!("--{boundary}--\r\n").as_bytes()].concat();
    let fields = if before == 0 { Vec::new() } else { multipart::parse(content_type, &fields)? };
    let fields = fields.iter().map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value)));
    let fields = fields.collect::<Vec<_>>().join("&").into_bytes();
    let mut held = held.split_off(content);
    let end = format!("\r\n--{boundary}").into_bytes();
    loop {
        if let Some(at) = multipart::find(&held, &end) {
            to.write(&held[..at])?;
            return Ok((to.size, fields));
        }
        // The end may have come in part.
        let sure = held.len().saturating_sub(end.len());
        to.write(&held[..sure])?;
        held.drain(..sure);
        match body.read(&mut piece).map_err(early)? {
            0 => return Err(Trouble::field("file", "ended early: send it again")),
            length => held.extend_from_slice(&piece[..length]),
        }
    }
}

/// Where the part with the file begins, and where its content does.
fn head_of_file(held: &[u8], boundary: &str) -> Option<(usize, usize)> {
    let mark = format!("--{boundary}\r\n").into_bytes();
    let mut start = 0;
    while let Some(at) = multipart::find(&held[start..], &mark) {
        let part = start + at;
        let head = part + mark.len();
        let length = multipart::find(&held[head..], b"\r\n\r\n")?;
        if multipart::find(&held[head..head + length], b"filename=").is_some() {
            return Some((part, head + length + 4));
        }
        start = head;
    }
    None
}

/// Never more than the box can hold.
struct Bounded<'a> {
    file: &'a mut File,
    size: u64,
    most: u64,
}

impl<'a> Bounded<'a> {
    fn new(file: &'a mut File) -> Result<Self, Trouble> {
        let found = fstatvfs(&*file).map_err(|error| no_room(error.into()))?;
        let free = found.blocks_available() * found.fragment_size();
        Ok(Bounded { file, size: 0, most: free.saturating_sub(RESERVE).min(MAX_UPLOAD) })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.size += bytes.len() as u64;
        if self.size > MAX_UPLOAD {
            return Err(Trouble::TooLarge(MAX_UPLOAD as usize));
        }
        if self.size > self.most {
            return Err(Trouble::Conflict(format!(
                "the data partition has room for {} bytes of this file: nothing was changed",
                self.most
            )));
        }
        self.file.write_all(bytes).map_err(no_room)
    }
}

fn no_room(error: io::Error) -> Trouble {
    Trouble::Conflict(format!("the file cannot be kept: {error}"))
}

fn early(error: io::Error) -> Trouble {
    Trouble::field("file", format!("ended early ({error}): send it again"))
}

fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join("upload");
    let _ = fs::remove_file(&path);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=----x";

    /// Gives its bytes in pieces of this size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(to.len());
            to[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn body(content: &[u8]) -> Vec<u8> {
        let head = b"------x\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\nt&k\r\n------x\r\nContent-Disposition: form-data; \
            name=\"file\"; filename=\"a.bundle\"\r\nContent-Type: application/octet-stream\r\n\r\n";
        [head.as_slice(), content, b"\r\n------x--\r\n"].concat()
    }

    fn content(upload: &mut Upload) -> Vec<u8> {
        let mut content = Vec::new();
        upload.file.read_to_end(&mut content).unwrap();
        content
    }

    #[test]
    fn a_file_of_a_form_arrives_whole_however_it_is_cut_and_leaves_no_name() {
        let folder = tempfile::tempdir().unwrap();
        // Looks like an end here and there, and is none.
        let wanted: Vec<u8> = b"\x00\xff\r\n------\r\n\r\n------".iter().cycle().take(3000).copied().collect();
        for size in [1, 7, 64, 100_000] {
            let mut upload = keep(TYPE, &mut Pieces(&body(&wanted), size), folder.path()).unwrap();
            assert_eq!(content(&mut upload), wanted, "in pieces of {size}");
            assert_eq!(upload.fields, b"csrf=t%26k");
            assert_eq!(upload.size, wanted.len() as u64);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_form_that_is_cut_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let whole = body(b"0123456789");
        // Behind the end of the file nothing is read.
        for end in 0..whole.len() - 4 {
            assert!(keep(TYPE, &mut Pieces(&whole[..end], 64), folder.path()).is_err(), "cut at {end} passed");
        }
    }

    #[test]
    fn a_plain_body_is_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut upload = keep("application/octet-stream", &mut Pieces(b"PORTCULLIS", 3), folder.path()).unwrap();
        assert_eq!(content(&mut upload), b"PORTCULLIS");
    }

    #[test]
    fn what_the_box_cannot_hold_is_refused_before_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = nameless(folder.path()).unwrap();
        let mut bounded = Bounded::new(&mut file).unwrap();
        bounded.most = 10;
        bounded.write(b"0123456789").unwrap();
        assert!(matches!(bounded.write(b"x"), Err(Trouble::Conflict(_))));
        assert_eq!(file.metadata().unwrap().len(), 10);
    }
}
