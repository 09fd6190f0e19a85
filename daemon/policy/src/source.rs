//! The text that people write, and where in it a thing was said.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One complete revision as its author wrote it: file name to YAML text.
///
/// This is what crosses the privilege boundary, lies in generations and in config.db, and is exported: the text
/// keeps comments, order and line numbers, and every reader derives the same [`crate::Plan`] from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sources(pub BTreeMap<String, String>);

impl Sources {
    /// A revision that consists of one file.
    pub fn single(file: impl Into<String>, text: impl Into<String>) -> Self {
        Sources(BTreeMap::from([(file.into(), text.into())]))
    }
}

/// The place in [`Sources`] that a resource or rule comes from. `line` counts from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    pub file: String,
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
