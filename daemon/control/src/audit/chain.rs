//! One entry, its bytes, and how it hangs on the one before.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::secret::hex;

pub const CHECKPOINT_EVERY: u64 = 1000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without gaps.
    pub number: u64,
    /// Milliseconds since the epoch.
    pub at: u64,
    pub user: String,
    pub address: Option<String>,
    pub action: String,
    pub subject: String,
    pub before: Option<String>,
    pub after: Option<String>,
    pub detail: String,
    /// 64 hexadecimal digits.
    pub hash: String,
}

impl Entry {
    /// The hash that this entry must have behind one with hash `previous`.
    pub fn link(&self, previous: &str) -> String {
        hex(&Sha256::new().chain_update(unhex(previous)).chain_update(self.canonical()).finalize())
    }

    /// Every field with its length, so that no two different entries have the same bytes.
    fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.at.to_be_bytes());
        let fields = [
            Some(&self.user),
            self.address.as_ref(),
            Some(&self.action),
            Some(&self.subject),
            self.before.as_ref(),
            self.after.as_ref(),
            Some(&self.detail),
        ];
        for field in fields {
            match field {
                None => bytes.push(0),
                Some(text) => {
                    bytes.push(1);
                    bytes.extend((text.len() as u32).to_be_bytes());
                    bytes.extend(text.as_bytes());
                }
            }
        }
        bytes
    }
}

/// What the first entry hangs on.
pub fn genesis() -> String {
    hex(&Sha256::digest(b"portcullis audit 1"))
}

/// RFC 6962 section 2.1: leaves and nodes are hashed with different first bytes, so that a node cannot pass for a leaf.
pub fn merkle_root(hashes: &[String]) -> String {
    hex(&tree(&hashes.iter().map(|hash| unhex(hash)).collect::<Vec<_>>()))
}

fn tree(leaves: &[Vec<u8>]) -> Vec<u8> {
    match leaves {
        [] => Sha256::digest(b"").to_vec(),
        [leaf] => Sha256::new().chain_update([0]).chain_update(leaf).finalize().to_vec(),
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Sha256::new().chain_update([1]).chain_update(tree(left)).chain_update(tree(right)).finalize().to_vec()
        }
    }
}

/// What is not hexadecimal stands for itself, so that a spoilt hash is simply a different one.
fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    digits.collect::<Option<Vec<u8>>>().unwrap_or_else(|| text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merkle_roots_are_those_of_rfc_6962() {
        // Leaves are raw bytes in the RFC's reference vectors (certificate-transparency, merkle tree tests).
        let leaves =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"].map(str::to_owned);
        assert_eq!(merkle_root(&leaves[..1]), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(merkle_root(&leaves[..2]), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
        assert_eq!(merkle_root(&leaves[..3]), "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
        assert_eq!(merkle_root(&leaves), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn moving_bytes_between_fields_changes_the_hash() {
        let entry = |user: &str, action: &str, before: Option<&str>| Entry {
            number: 1,
            at: 2,
            user: user.into(),
            address: None,
            action: action.into(),
            subject: String::new(),
            before: before.map(str::to_owned),
            after: None,
            detail: String::new(),
            hash: String::new(),
        };
        let hashes = [entry("ab", "c", None), entry("a", "bc", None), entry("ab", "c", Some(""))].map(|entry| entry.link(&genesis()));
        assert!(hashes[0] != hashes[1] && hashes[0] != hashes[2] && hashes[1] != hashes[2]);
    }
}
