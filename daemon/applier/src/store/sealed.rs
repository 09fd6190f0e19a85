//! Small files that prove themselves: one line of JSON, one line with its SHA-256.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Digest as _;

pub fn seal(value: &impl Serialize) -> Vec<u8> {
    // Only plain structs of numbers and strings are sealed; they always have a JSON form.
    let json = serde_json::to_string(value).unwrap_or_default();
    format!("{json}\n{}\n", hash(json.as_bytes())).into_bytes()
}

/// None: torn, overwritten, or never one of ours.
pub fn open<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (json, rest) = text.split_once('\n')?;
    if rest.strip_suffix('\n')? != hash(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

pub fn hash(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_and_no_other_byte_passes() {
        let whole = seal(&7);
        assert_eq!(open::<u64>(&whole), Some(7));
        for end in 0..whole.len() {
            assert_eq!(open::<u64>(&whole[..end]), None, "cut at {end}");
        }
        for place in 0..whole.len() {
            let mut other = whole.clone();
            other[place] ^= 1;
            assert_eq!(open::<u64>(&other), None, "changed at {place}");
        }
    }
}
