//! Names that can only hold valid values. Whoever has one need not ask again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::problem::quote;

/// Why a text is not a name; the message says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadName(pub String);

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $pattern:literal, $valid:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The same rule as a regular expression, for JSON Schema.
            pub const PATTERN: &'static str = $pattern;

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $type {
            type Error = BadName;
            fn try_from(text: &str) -> Result<Self, BadName> {
                $valid(text).map(|()| $type(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                $valid(&text).map(|()| $type(text))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a resource or rule: 1 to 40 of `a-z 0-9 -`, beginning and ending with a letter or digit.
    Name,
    "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
    resource_name
);
name!(
    /// A network interface as the kernel calls it: 1 to 15 of `A-Z a-z 0-9 . _ -` (IFNAMSIZ, include/uapi/linux/if.h).
    IfName,
    "^[A-Za-z0-9._-]{1,15}$",
    interface_name
);

fn resource_name(text: &str) -> Result<(), BadName> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > 40 || !text.chars().all(allowed) || text.starts_with('-') || text.ends_with('-') {
        return Err(BadName(format!(
            "{} is not a name; use 1 to 40 lower-case letters, digits and hyphens, beginning and ending with a letter or digit",
            quote(text)
        )));
    }
    Ok(())
}

fn interface_name(text: &str) -> Result<(), BadName> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > 15 || !text.chars().all(allowed) || text == "." || text == ".." || text == "all" || text == "default"
    {
        return Err(BadName(format!(
            "{} is not an interface name; use 1 to 15 letters, digits, dots, hyphens and underscores, as `ip link` shows it",
            quote(text)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_paths_are_no_names() {
        for bad in ["", "-a", "a-", "A", "a\n", "a b", "../x", &"a".repeat(41)] {
            assert!(Name::try_from(bad).is_err(), "{bad:?} passed");
        }
        for bad in ["", "..", "a/b", "sixteen-letters-", "eth0\0", "all", "default"] {
            assert!(IfName::try_from(bad).is_err(), "{bad:?} passed");
        }
    }
}
