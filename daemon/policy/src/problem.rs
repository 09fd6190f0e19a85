//! What is wrong with a policy, in words for the administrator.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::source::Origin;

/// One thing that the administrator has to change: where, what is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// None only where no single place is at fault (a kind that is missing altogether).
    pub origin: Option<Origin>,
    /// The path inside the resource, `FirewallPolicy/lan-out.spec.rules[2].services[0]`.
    pub path: String,
    /// Plain words: what is wrong and the remedy, `unknown service "htps"; did you mean "https"?`.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything found wrong, collected while reading and checking go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn at(&mut self, origin: &Origin, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { origin: Some(origin.clone()), path: path.into(), message: message.into() });
    }

    /// A problem of the revision as a whole.
    pub fn general(&mut self, message: impl Into<String>) {
        self.0.push(Problem { origin: None, path: String::new(), message: message.into() });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| writeln!(f, "{problem}"))
    }
}
