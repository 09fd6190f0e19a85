//! A bundle: one file with a signed manifest and everything a slot holds.
//!
//! ```text
//! PORTCULLISBUNDLE | length of the manifest (u32, big-endian) | manifest (JSON) | id of the key (32) | signature (64) | parts, in the manifest's order
//! ```
//! The signature covers everything before the key's id. Nothing of a part is believed before it: sizes and hashes come from the manifest.

use std::io::{self, Read, Seek, SeekFrom};

use policy::messages::updater::Refusal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::keys::{KeyId, Keys};
use crate::version::Version;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    pub product: String,
    pub version: Version,
    /// The hash of everything that the image was made of.
    pub recipe: String,
    /// Of config.db.
    pub config_schema: u32,
    /// What has to run for this to be installed.
    pub least_version: Version,
    /// Root, verity and kernel, in this order.
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub name: PartName,
    pub size: u64,
    /// In hexadecimal.
    pub sha256: String,
    /// Of the partition; the kernel's command line finds it by that. None for the kernel.
    pub uuid: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartName {
    Root,
    Verity,
    /// The unified kernel image.
    Kernel,
}

pub const PARTS: [PartName; 3] = [PartName::Root, PartName::Verity, PartName::Kernel];
pub const MAGIC: &[u8; 16] = b"PORTCULLISBUNDLE";
const MOST_MANIFEST: u32 = 64 << 10;
/// Beyond this nothing is read or fetched.
pub const MOST_BUNDLE: u64 = 2 << 30;
const PIECE: usize = 1 << 20;

/// A manifest whose signature was found to be good, and the bytes that prove it.
#[derive(Debug, Clone)]
pub struct Signed {
    pub manifest: Manifest,
    /// Everything before the parts.
    pub head: Vec<u8>,
    /// The name of the key.
    pub key: String,
}

/// Why a bundle is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    pub why: Refusal,
    pub reason: String,
}

pub fn refused(why: Refusal, reason: impl Into<String>) -> Refused {
    Refused { why, reason: reason.into() }
}

impl Signed {
    pub fn read(from: &mut impl Read, keys: &Keys) -> Result<Signed, Refused> {
        let mut head = vec![0; MAGIC.len()];
        fill(from, &mut head, "its first line")?;
        if head != MAGIC {
            return Err(refused(Refusal::NotABundle, "this file is not a Portcullis update"));
        }
        let mut length = [0; 4];
        fill(from, &mut length, "its manifest")?;
        head.extend(length);
        let length = u32::from_be_bytes(length);
        if length > MOST_MANIFEST {
            return Err(refused(
                Refusal::NotABundle,
                format!("its manifest claims to have {length} bytes; at most {MOST_MANIFEST} are believed"),
            ));
        }
        let start = head.len();
        head.resize(start + length as usize, 0);
        fill(from, &mut head[start..], "its manifest")?;
        let (mut id, mut signature): (KeyId, [u8; 64]) = ([0; 32], [0; 64]);
        fill(from, &mut id, "its signature")?;
        fill(from, &mut signature, "its signature")?;
        if !keys.knows(&id) {
            let known = keys.names().join(", ");
            let known = if known.is_empty() { "none".to_owned() } else { known };
            return Err(refused(
                Refusal::UnknownKey,
                format!("it is signed with key {}, which this box does not know; it knows {known}", &hex(&id)[..16]),
            ));
        }
        let key = keys.verify(&id, &head, &signature).map(str::to_owned);
        let key = key.ok_or_else(|| {
            refused(Refusal::WrongSignature, "its signature does not fit its manifest: it was changed after it was signed")
        })?;
        let manifest: Manifest = serde_json::from_slice(&head[start..]).map_err(|error| {
            refused(
                Refusal::NotABundle,
                format!("its manifest is signed and cannot be understood ({error}); a newer format needs a newer version first"),
            )
        })?;
        manifest.check()?;
        head.extend(id);
        head.extend(signature);
        Ok(Signed { manifest, head, key })
    }

    pub fn size(&self) -> u64 {
        self.head.len() as u64 + self.manifest.parts.iter().map(|part| part.size).sum::<u64>()
    }
}

impl Manifest {
    fn check(&self) -> Result<(), Refused> {
        let wrong = |what: String| Err(refused(Refusal::NotABundle, what));
        if self.parts.iter().map(|part| part.name).ne(PARTS) {
            return wrong("its manifest must name root, verity and kernel, once and in this order".into());
        }
        for part in &self.parts {
            if part.size == 0 || part.size > MOST_BUNDLE {
                return wrong(format!("its manifest says that {:?} has {} bytes", part.name, part.size));
            }
            if part.sha256.len() != 64 || !part.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return wrong(format!("its manifest has no SHA-256 for {:?}", part.name));
            }
            if part.uuid.as_deref().is_some_and(is_uuid) != (part.name != PartName::Kernel) {
                return wrong(format!("its manifest must have a UUID for root and verity and for nothing else, see {:?}", part.name));
            }
        }
        Ok(())
    }

    pub fn part(&self, name: PartName) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Reads every part to its end and compares. The parts begin where `from` stands.
pub fn check_parts(signed: &Signed, from: &mut impl Read, mut told: impl FnMut(u64)) -> Result<(), Refused> {
    let mut seen = signed.head.len() as u64;
    for part in &signed.manifest.parts {
        let found = digest(from, part.size, |bytes| {
            seen += bytes;
            told(seen);
        });
        let found = found.map_err(|error| ended(error, &format!("{:?}", part.name)))?;
        if found != part.sha256.to_ascii_lowercase() {
            return Err(refused(
                Refusal::Damaged,
                format!("its part {:?} is damaged: its bytes are not those that were signed", part.name),
            ));
        }
    }
    match from.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(refused(Refusal::Damaged, "something follows after its last part")),
        Err(error) => Err(ended(error, "its end")),
    }
}

/// SHA-256 of the next `size` bytes, in hexadecimal.
pub fn digest(from: &mut impl Read, size: u64, mut told: impl FnMut(u64)) -> io::Result<String> {
    let mut hash = Sha256::new();
    let (mut piece, mut left) = (vec![0; PIECE], size);
    while left > 0 {
        let want = left.min(PIECE as u64) as usize;
        from.read_exact(&mut piece[..want])?;
        hash.update(&piece[..want]);
        left -= want as u64;
        told(want as u64);
    }
    Ok(hex(&hash.finalize()))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fill(from: &mut impl Read, to: &mut [u8], what: &str) -> Result<(), Refused> {
    from.read_exact(to).map_err(|error| ended(error, what))
}

fn ended(error: io::Error, what: &str) -> Refused {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => refused(Refusal::Truncated, format!("the file ends within {what}: it is not all there")),
        _ => refused(Refusal::Damaged, format!("{what} cannot be read: {error}")),
    }
}

/// The parts again, from their beginning.
pub fn rewind(signed: &Signed, from: &mut impl Seek) -> io::Result<()> {
    from.seek(SeekFrom::Start(signed.head.len() as u64)).map(drop)
}
