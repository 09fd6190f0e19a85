//! Where a problem is: resource, field, entry, written as the path that the administrator follows.

use std::fmt::Display;

use crate::model::{Located, Resource};
use crate::problem::Problems;
use crate::source::Origin;

/// Takes problems with their place.
pub struct Report<'p>(pub &'p mut Problems);

impl Report<'_> {
    pub fn resource<'a, T>(&'a mut self, kind: &'a str, name: &'a dyn Display, resource: &'a Resource<T>) -> Spot<'a> {
        Spot { problems: self.0, kind, name, origin: &resource.origin, line: resource.origin.line, steps: Steps::default() }
    }
}

/// A place inside a resource; its path is only written out when there is something to say.
pub struct Spot<'a> {
    problems: &'a mut Problems,
    kind: &'a str,
    name: &'a dyn Display,
    origin: &'a Origin,
    line: u32,
    steps: Steps,
}

/// `.rules[2].services[0]`
#[derive(Default, Clone)]
struct Steps {
    rule: Option<usize>,
    field: &'static str,
    index: Option<usize>,
}

impl Spot<'_> {
    pub fn rule<T>(&mut self, at: usize, rule: &Located<T>) -> Spot<'_> {
        Spot { line: rule.line, steps: Steps { rule: Some(at), ..self.steps.clone() }, ..self.again() }
    }

    /// A field by its name in the text.
    pub fn field(&mut self, field: &'static str) -> Spot<'_> {
        Spot { steps: Steps { field, ..self.steps.clone() }, ..self.again() }
    }

    /// One entry of a field that is a list.
    pub fn index(&mut self, field: &'static str, index: usize) -> Spot<'_> {
        Spot { steps: Steps { field, index: Some(index), ..self.steps.clone() }, ..self.again() }
    }

    pub fn say(&mut self, message: impl Into<String>) {
        if self.problems.is_full() {
            return;
        }
        let mut path = format!("{}/{}.spec", self.kind, self.name);
        if let Some(rule) = self.steps.rule {
            path.push_str(&format!(".rules[{rule}]"));
        }
        if !self.steps.field.is_empty() {
            path.push_str(&format!(".{}", self.steps.field));
        }
        if let Some(index) = self.steps.index {
            path.push_str(&format!("[{index}]"));
        }
        self.problems.at(&Origin { file: self.origin.file.clone(), line: self.line }, path, message);
    }

    fn again(&mut self) -> Spot<'_> {
        Spot { problems: self.problems, kind: self.kind, name: self.name, origin: self.origin, line: self.line, steps: self.steps.clone() }
    }
}
