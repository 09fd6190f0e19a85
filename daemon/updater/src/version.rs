//! `0.1.0`: what slots, boot entries and bundles are told apart by.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One to four numbers. Compared number by number, so that 0.10.0 is newer than 0.9.0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u32>);

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a version: one to four numbers with dots between, like 0.1.0");
        let numbers = text.split('.').map(|part| {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
            part.parse().ok().filter(|_| plain).ok_or_else(wrong)
        });
        let numbers: Vec<u32> = numbers.collect::<Result<_, _>>()?;
        if numbers.len() > 4 { Err(wrong()) } else { Ok(Version(numbers)) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let ordered: Vec<Version> = ["0.1", "0.1.0", "0.9.9", "0.10.0", "1.0.0"].iter().map(|text| text.parse().unwrap()).collect();
        assert!(ordered.is_sorted());
        assert_eq!(ordered[3].to_string(), "0.10.0");
    }

    #[test]
    fn what_could_be_a_path_or_mean_two_things_is_no_version() {
        for bad in ["", ".", "1.", "1..2", "01.2", "1.2.3.4.5", "1/2", "../x", "1+3", "1.2-rc", " 1", "99999999999"] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?} passed");
        }
    }
}
