//! Keys and bundles for tests.

use std::io::Cursor;

use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};

use crate::bundle::{MAGIC, Manifest, Part, PartName, Signed, hex};
use crate::keys::Keys;
use crate::version::Version;

pub fn version(text: &str) -> Version {
    text.parse().unwrap()
}

pub fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

pub fn keys(pair: &Ed25519KeyPair) -> Keys {
    let mut keys = Keys::default();
    keys.add("release".into(), pair.public_key().as_ref().try_into().unwrap());
    keys
}

/// Bytes that differ from version to version and from place to place.
pub fn bytes(version: &str, name: PartName, size: usize) -> Vec<u8> {
    let seed: u32 =
        version.bytes().chain(format!("{name:?}").bytes()).fold(17, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    (0..size as u32).map(|at| (seed.wrapping_add(at).wrapping_mul(2_654_435_761) >> 24) as u8 | 1).collect()
}

pub const ROOT: usize = 5000;
pub const VERITY: usize = 700;
pub const KERNEL: usize = 3000;

pub fn uuid(version: &str, name: PartName) -> String {
    let hash = hex(&Sha256::digest(format!("{version}{name:?}")));
    format!("{}-{}-{}-{}-{}", &hash[..8], &hash[8..12], &hash[12..16], &hash[16..20], &hash[20..32])
}

pub fn manifest(of: &str) -> Manifest {
    let part = |name, size| Part {
        name,
        size: size as u64,
        sha256: hex(&Sha256::digest(bytes(of, name, size))),
        uuid: (name != PartName::Kernel).then(|| uuid(of, name)),
    };
    Manifest {
        product: "portcullis".into(),
        version: version(of),
        recipe: "0123".into(),
        config_schema: 1,
        least_version: version("0.1.0"),
        parts: vec![part(PartName::Root, ROOT), part(PartName::Verity, VERITY), part(PartName::Kernel, KERNEL)],
    }
}

/// A whole bundle of this manifest, whose parts are those of its version.
pub fn sign(manifest: &Manifest, pair: &Ed25519KeyPair) -> Vec<u8> {
    let json = serde_json::to_vec(manifest).unwrap();
    let mut bundle = MAGIC.to_vec();
    bundle.extend((json.len() as u32).to_be_bytes());
    bundle.extend(json);
    let signature = pair.sign(&bundle);
    bundle.extend(Sha256::digest(pair.public_key().as_ref()));
    bundle.extend(signature.as_ref());
    for (name, size) in [(PartName::Root, ROOT), (PartName::Verity, VERITY), (PartName::Kernel, KERNEL)] {
        bundle.extend(bytes(&manifest.version.to_string(), name, size));
    }
    bundle
}

/// A good bundle, opened, standing at its parts.
pub fn opened(of: &str) -> (Signed, Cursor<Vec<u8>>) {
    let pair = key(1);
    let mut file = Cursor::new(sign(&manifest(of), &pair));
    let signed = Signed::read(&mut file, &keys(&pair)).unwrap();
    (signed, file)
}
