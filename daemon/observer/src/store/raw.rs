//! The lines as they came: compressed blocks in a file that only grows. A row says block, start and length.
//!
//! A block is `u32 length of what follows compressed | u32 length when unpacked | LZ4 block`, little-endian.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What one block holds before it is compressed: enough to compress well, little enough to unpack for one line.
const BLOCK: usize = 128 << 10;
const HEAD: usize = 8;

pub struct Writer {
    file: File,
    /// Where the block that is being filled will lie.
    offset: u64,
    block: Vec<u8>,
    packed: Vec<u8>,
}

/// Where a line lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub block: u64,
    pub start: u32,
    pub length: u32,
}

impl Writer {
    /// Goes on at the end of a file that is there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let offset = file.metadata()?.len();
        Ok(Writer { file, offset, block: Vec::with_capacity(BLOCK), packed: Vec::new() })
    }

    pub fn add(&mut self, line: &[u8]) -> io::Result<Place> {
        if !self.block.is_empty() && self.block.len() + line.len() > BLOCK {
            self.flush()?;
        }
        let place = Place { block: self.offset, start: self.block.len() as u32, length: line.len() as u32 };
        self.block.extend_from_slice(line);
        Ok(place)
    }

    /// Everything that was added is in the file, if not yet on the disk: the rows that speak of it follow.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.packed.clear();
        self.packed.resize(HEAD + lz4_flex::block::get_maximum_output_size(self.block.len()), 0);
        let length = lz4_flex::block::compress_into(&self.block, &mut self.packed[HEAD..]).map_err(io::Error::other)?;
        self.packed[..4].copy_from_slice(&(length as u32).to_le_bytes());
        self.packed[4..HEAD].copy_from_slice(&(self.block.len() as u32).to_le_bytes());
        self.block.clear();
        let written = self.file.write_all(&self.packed[..HEAD + length]);
        // Also after half a write the next block lies behind whatever is there.
        self.offset = self.file.metadata()?.len();
        written
    }

    pub fn bytes(&self) -> u64 {
        self.offset
    }
}

/// The line that lies there, or an error that says that it does not.
pub fn read(path: &Path, place: Place) -> io::Result<String> {
    let file = File::open(path)?;
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, place.block)?;
    let length = |range: Range<usize>| head.get(range).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes) as usize;
    let (packed, unpacked) = (length(0..4), length(4..8));
    // A single line may be longer than a block; nothing is longer than the longest line and a block.
    if unpacked > BLOCK + crate::eve::MOST_LINE || packed > lz4_flex::block::get_maximum_output_size(unpacked) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the block is damaged"));
    }
    let mut bytes = vec![0; packed];
    file.read_exact_at(&mut bytes, place.block + HEAD as u64)?;
    let block = lz4_flex::block::decompress(&bytes, unpacked).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let start = place.start as usize;
    let line = block.get(start..start.saturating_add(place.length as usize));
    let line = line.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the line is not in its block"))?;
    Ok(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_comes_back_over_blocks_and_a_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("raw");
        let line = |n: usize| format!("{{\"line\":{n},\"pad\":\"{}\"}}", "x".repeat(n % 2_000));
        let mut places = Vec::new();
        for half in [0..500, 500..1_000] {
            let mut writer = Writer::open(&path).unwrap();
            places.extend(half.map(|n| writer.add(line(n).as_bytes()).unwrap()));
            writer.flush().unwrap();
        }
        for (n, place) in places.iter().enumerate() {
            assert_eq!(read(&path, *place).unwrap(), line(n));
        }
    }

    #[test]
    fn a_cut_or_spoilt_file_is_an_error_and_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("raw");
        let mut writer = Writer::open(&path).unwrap();
        let place = writer.add(&[b'a'; 5_000]).unwrap();
        writer.flush().unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read(&path, place).is_err());
        }
        for spoilt in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[spoilt] ^= 0xFF;
            std::fs::write(&path, &bytes).unwrap();
            let _ = read(&path, place);
        }
    }
}
