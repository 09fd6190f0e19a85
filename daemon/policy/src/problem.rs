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

/// Nobody reads more at once, and a hostile file could fill the memory with them.
const MOST_PROBLEMS: usize = 1000;

impl Problems {
    pub fn at(&mut self, origin: &Origin, path: impl Into<String>, message: impl Into<String>) {
        self.push(Problem { origin: Some(origin.clone()), path: path.into(), message: message.into() });
    }

    /// A problem of the revision as a whole.
    pub fn general(&mut self, message: impl Into<String>) {
        self.push(Problem { origin: None, path: String::new(), message: message.into() });
    }

    /// Whether further problems would not be kept, so that looking for them is in vain.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MOST_PROBLEMS
    }

    /// In the order of the text; what has no place comes last.
    pub fn sort(&mut self) {
        self.0.sort_by(|left, right| (left.origin.is_none(), &left.origin).cmp(&(right.origin.is_none(), &right.origin)));
    }

    fn push(&mut self, problem: Problem) {
        if self.0.len() + 1 < MOST_PROBLEMS {
            self.0.push(problem);
        } else if !self.is_full() {
            let message = "there are more problems; correct these first".to_owned();
            self.0.push(Problem { origin: None, path: String::new(), message });
        }
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

/// A text of the administrator's inside a message: quoted, escaped, and cut where it gets long.
pub fn quote(text: &str) -> String {
    const MOST_SHOWN: usize = 60;
    match text.char_indices().nth(MOST_SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// `; did you mean "https"?` when one of the known words is near, otherwise nothing.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    if text.len() > 60 {
        return String::new();
    }
    let distance = |word: &str| strsim::osa_distance(&text.to_lowercase(), &word.to_lowercase());
    let near = known.into_iter().map(|word| (distance(word), word)).min();
    match near {
        Some((distance, word)) if distance <= 1 + word.len().min(text.len()) / 4 => format!("; did you mean {word:?}?"),
        _ => String::new(),
    }
}
