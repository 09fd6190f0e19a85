//! The keys that a bundle may be signed with: `*.pub` files, one ed25519 key each, in the PEM form that openssl writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64ct::{Base64, Encoding};
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};

/// SHA-256 of the 32 bytes of a public key.
pub type KeyId = [u8; 32];

#[derive(Debug, Default, Clone)]
pub struct Keys(BTreeMap<KeyId, Key>);

#[derive(Debug, Clone)]
struct Key {
    /// The file's name without `.pub`.
    name: String,
    bytes: [u8; 32],
}

impl Keys {
    /// A file that cannot be read is told, and the others count.
    pub fn read(folder: &Path) -> (Keys, Vec<String>) {
        let (mut keys, mut remarks) = (Keys::default(), vec![]);
        let files = match fs::read_dir(folder) {
            Ok(files) => files,
            Err(error) => return (keys, vec![format!("no keys can be read from {}: {error}", folder.display())]),
        };
        for path in files.flatten().map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "pub")) {
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            match fs::read_to_string(&path).map_err(|error| error.to_string()).and_then(|text| public_key(&text)) {
                Ok(bytes) => keys.add(name, bytes),
                Err(why) => remarks.push(format!("{} is not used: {why}", path.display())),
            }
        }
        (keys, remarks)
    }

    pub fn add(&mut self, name: String, bytes: [u8; 32]) {
        self.0.insert(Sha256::digest(bytes).into(), Key { name, bytes });
    }

    pub fn names(&self) -> Vec<String> {
        self.0.values().map(|key| key.name.clone()).collect()
    }

    pub fn knows(&self, id: &KeyId) -> bool {
        self.0.contains_key(id)
    }

    /// The name of the key, when it made this signature.
    pub fn verify(&self, id: &KeyId, message: &[u8], signature: &[u8]) -> Option<&str> {
        let key = self.0.get(id)?;
        UnparsedPublicKey::new(&ED25519, key.bytes).verify(message, signature).ok().map(|()| key.name.as_str())
    }
}

/// SubjectPublicKeyInfo of an ed25519 key (RFC 8410) is these bytes and then the key.
const HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

fn public_key(pem: &str) -> Result<[u8; 32], String> {
    let body = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----").and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"));
    let body: String = body.ok_or("it is not a public key in PEM form")?.split_whitespace().collect();
    let bytes = Base64::decode_vec(&body).map_err(|_| "its base64 is broken")?;
    let key = bytes.strip_prefix(HEAD.as_slice()).ok_or("it is not an ed25519 key")?;
    key.try_into().map_err(|_| "it is not 32 bytes long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_as_openssl_writes_it_is_read_and_others_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let good = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        fs::write(folder.path().join("release.pub"), good).unwrap();
        fs::write(folder.path().join("short.pub"), good.replace("lshQ", "")).unwrap();
        fs::write(folder.path().join("notes.txt"), "not a key").unwrap();
        let (keys, remarks) = Keys::read(folder.path());
        assert_eq!(keys.names(), ["release"]);
        assert!(remarks.len() == 1 && remarks[0].contains("short.pub"), "{remarks:?}");
    }
}
