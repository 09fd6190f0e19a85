//! Secrets: kept sealed, given to the forwarder and to nobody else.
//!
//! ```text
//! secrets/key          32 random bytes, made when the first secret is set
//! secrets/NAME.sealed  a nonce of 12 bytes, and the value under AES-256-GCM with the name as its associated data
//! ```
//!
//! The key lies beside what it seals: it keeps values out of copies of single files and of logs, and not from root.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, Generate, Key, KeyInit, Nonce, Payload};
use policy::name::Name;

use crate::store::Disk;

/// Prints as dots, wherever it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

pub struct Secrets<D: Disk> {
    disk: D,
    values: BTreeMap<Name, Secret>,
}

const FOLDER: &str = "secrets";
const KEY: &str = "secrets/key";
/// Of a value: what SOCKS and HTTP can carry is shorter.
const LONGEST: usize = 1024;
const NONCE: usize = 12;

impl Secret {
    pub fn new(value: String) -> Secret {
        Secret(value)
    }

    /// On its way to the forwarder.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl<D: Disk> Secrets<D> {
    /// What can be opened, and words about what cannot.
    pub fn open(disk: D) -> (Secrets<D>, Vec<String>) {
        let mut remarks = vec![];
        let mut values = BTreeMap::new();
        let names = disk.list(FOLDER).unwrap_or_default();
        let sealed: Vec<Name> = names.iter().filter_map(|file| Name::try_from(file.strip_suffix(".sealed")?).ok()).collect();
        if !sealed.is_empty() {
            match key(&disk) {
                Err(why) => remarks.push(format!("{why}; secrets cannot be opened and have to be set again")),
                Ok(key) => {
                    for name in sealed {
                        match unseal(&disk, &key, &name) {
                            Ok(value) => drop(values.insert(name, value)),
                            Err(why) => remarks.push(format!("the secret {name} cannot be opened and has to be set again: {why}")),
                        }
                    }
                }
            }
        }
        (Secrets { disk, values }, remarks)
    }

    /// Durable when it returns. An empty value removes it.
    pub fn set(&mut self, name: &str, value: Secret) -> Result<(), String> {
        let name = Name::try_from(name).map_err(|error| error.to_string())?;
        if value.0.len() > LONGEST {
            return Err(format!("a secret has at most {LONGEST} bytes"));
        }
        if value.0.chars().any(char::is_control) {
            return Err("a secret has no control characters".into());
        }
        let done = if value.0.is_empty() { self.remove(&name) } else { self.keep(&name, &value) };
        done.map_err(|error| format!("the secret {name} could not be stored: {error}"))?;
        match value.0.is_empty() {
            true => drop(self.values.remove(&name)),
            false => drop(self.values.insert(name, value)),
        }
        Ok(())
    }

    pub fn names(&self) -> BTreeSet<String> {
        self.values.keys().map(|name| name.as_str().to_owned()).collect()
    }

    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.values.get(&Name::try_from(name).ok()?)
    }

    fn keep(&mut self, name: &Name, value: &Secret) -> io::Result<()> {
        self.disk.make_folder(FOLDER)?;
        let key = match key(&self.disk) {
            Ok(key) => key,
            // It is lost, and with it what it sealed; whoever sets secrets now needs one that works.
            Err(_) => {
                let key = Key::<Aes256Gcm>::generate();
                self.replace(KEY, &key)?;
                key
            }
        };
        let nonce = Nonce::<Aes256Gcm>::generate();
        let payload = Payload { msg: value.0.as_bytes(), aad: name.as_str().as_bytes() };
        let sealed = Aes256Gcm::new(&key).encrypt(&nonce, payload).map_err(|_| io::Error::other("it could not be sealed"))?;
        self.replace(&place(name), &[nonce.as_slice(), &sealed].concat())
    }

    fn remove(&mut self, name: &Name) -> io::Result<()> {
        match self.disk.remove(&place(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.disk.sync_folder(FOLDER),
        }
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let beside = format!("{path}.new");
        self.disk.write_synced(&beside, bytes)?;
        self.disk.rename(&beside, path)?;
        self.disk.sync_folder(FOLDER)
    }
}

fn key(disk: &impl Disk) -> Result<Key<Aes256Gcm>, String> {
    let bytes = disk.read(KEY).map_err(|error| format!("the key of the secrets cannot be read: {error}"))?;
    Key::<Aes256Gcm>::try_from(bytes.as_slice()).map_err(|_| "the key of the secrets is damaged".into())
}

fn unseal(disk: &impl Disk, key: &Key<Aes256Gcm>, name: &Name) -> Result<Secret, String> {
    let bytes = disk.read(&place(name)).map_err(|error| error.to_string())?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE).ok_or("it is damaged")?;
    let nonce = Nonce::<Aes256Gcm>::try_from(nonce).map_err(|_| "it is damaged")?;
    let payload = Payload { msg: sealed, aad: name.as_str().as_bytes() };
    let value = Aes256Gcm::new(key).decrypt(&nonce, payload).map_err(|_| "it is damaged, or was sealed with another key")?;
    String::from_utf8(value).map(Secret).map_err(|_| "it is damaged".into())
}

fn place(name: &Name) -> String {
    format!("{FOLDER}/{name}.sealed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Flaky, Folder};

    const VALUE: &str = "correct horse battery staple";

    fn secret(value: &str) -> Secret {
        Secret::new(value.into())
    }

    #[test]
    fn a_secret_is_kept_over_a_restart_and_its_file_never_holds_the_value() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Secrets::open(Folder(folder.path().into()));
        let (mut secrets, remarks) = open();
        assert_eq!((secrets.names().len(), remarks.len()), (0, 0));
        secrets.set("london", secret(VALUE)).unwrap();
        for file in std::fs::read_dir(folder.path().join(FOLDER)).unwrap() {
            let file = file.unwrap();
            let bytes = std::fs::read(file.path()).unwrap();
            assert!(!bytes.windows(7).any(|window| VALUE.as_bytes().windows(7).any(|part| part == window)), "{:?}", file.path());
            let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
        }
        let (mut secrets, remarks) = open();
        assert_eq!((secrets.get("london").unwrap().reveal(), remarks.len()), (VALUE, 0));
        secrets.set("london", secret("")).unwrap();
        assert_eq!(open().0.names().len(), 0);
    }

    #[test]
    fn a_secret_prints_as_dots() {
        let shown = format!("{:?} {}", secret(VALUE), secret(VALUE));
        assert_eq!(shown, "••• •••");
    }

    #[test]
    fn another_key_and_another_name_are_told_and_open_nothing() {
        let mut disk = kept().disk;
        disk.files.insert("secrets/paris.sealed".into(), disk.files["secrets/london.sealed"].clone());
        let (secrets, remarks) = Secrets::open(disk.clone());
        assert_eq!((secrets.names(), remarks.len()), (["london".to_owned()].into(), 1));
        for (key, said) in [(vec![7; 32], "another key"), (vec![7; 31], "damaged")] {
            disk.files.insert(KEY.into(), key);
            let (mut secrets, remarks) = Secrets::open(disk.clone());
            assert!(secrets.names().is_empty() && remarks[0].contains(said), "{remarks:?}");
            secrets.set("london", secret("again")).unwrap();
            assert_eq!(Secrets::open(secrets.disk.clone()).0.get("london"), Some(&secret("again")));
        }
    }

    #[test]
    fn a_power_cut_leaves_the_old_value_or_the_new() {
        let mut secrets = kept();
        let begun = secrets.disk.log.len();
        secrets.set("london", secret("new")).unwrap();
        for at in begun..=secrets.disk.log.len() {
            for luck in 0..64_u64 {
                let disk = secrets.disk.after_power_cut(at, luck.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let (after, remarks) = Secrets::open(disk);
                let value = after.get("london").map(Secret::reveal);
                assert!(value == Some(VALUE) || value == Some("new"), "cut at {at}: {remarks:?}");
                assert!(at < secrets.disk.log.len() || value == Some("new"), "it was durable");
            }
        }
    }

    #[test]
    fn a_full_disk_refuses_and_keeps_the_old() {
        let mut secrets = kept();
        secrets.disk.full = true;
        assert!(secrets.set("london", secret("new")).unwrap_err().contains("could not be stored"));
        assert_eq!(secrets.get("london"), Some(&secret(VALUE)));
    }

    #[test]
    fn names_and_values_that_cannot_be_are_refused() {
        let mut secrets = kept();
        for (name, value) in [("../key", "x"), ("", "x"), ("london", "two\nlines"), ("london", &"x".repeat(LONGEST + 1))] {
            assert!(secrets.set(name, secret(value)).is_err(), "{name:?}");
        }
    }

    fn kept() -> Secrets<Flaky> {
        let (mut secrets, _) = Secrets::open(Flaky::default());
        secrets.set("london", secret(VALUE)).unwrap();
        secrets
    }
}
