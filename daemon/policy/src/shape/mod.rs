//! What a type of the model looks like as text: one declaration gives reading and JSON Schema.
//!
//! ```text
//! shape! { /// doc            ──▶ the struct itself, the vocabulary
//!          pub struct X {..} } ──▶ X::read(node)   every problem with its place and remedy
//!                              ──▶ X::schema()     doc comments become descriptions
//! ```
//!
//! Words (addresses, ports, names) are shapes by their [`Word`]; lists, options and numbers in `basic`.

mod basic;
mod declare;
mod object;
mod word;

use serde_json::Value;

use crate::problem::{Problems, nearest, quote};
use crate::read::node::{Key, Node, Value as NodeValue};
use crate::source::Origin;

pub use basic::MOST_TEXT;
pub(crate) use declare::shape;
pub use object::{Definitions, Object, choice, choose, documentation, word_of};
pub use word::{Word, looks_like_another_type};

/// A type that can be read from a [`Node`] and described by JSON Schema.
pub trait Shape: Sized {
    /// None after at least one problem was said.
    fn read(node: &Node, cx: &mut Cx) -> Option<Self>;

    /// As JSON Schema; named types put themselves into the definitions and return a reference.
    fn schema(definitions: &mut Definitions) -> Value;

    /// How an owner with fields gets this one. A choice by `type:` overrides it, since its fields stand beside its owner's.
    fn from_fields(fields: &mut Fields, name: &'static str, default: Option<fn() -> Self>, cx: &mut Cx) -> Option<Self> {
        fields.take(name, default, cx)
    }

    /// The counterpart of `from_fields` in the schema.
    fn into_object(object: &mut Object, name: &'static str, docs: &[&str], default: Option<fn() -> Self>, definitions: &mut Definitions) {
        object.property(name, docs, Self::schema(definitions), default.is_none(), default.and_then(|default| default().shown()));
    }

    /// How it reads where it may be absent: a word like `false` may then stand for its absence.
    fn read_optional(node: &Node, cx: &mut Cx) -> Option<Option<Self>> {
        Self::read(node, cx).map(Some)
    }

    /// As JSON, for the schema's `default`. None where that says no more than leaving the field out.
    fn shown(&self) -> Option<Value> {
        None
    }

    /// What leaving a list of these out means, when that is more than nothing. Such a list is never written empty: it would read as "none".
    const ABSENT_MEANS: Option<&'static str> = None;

    /// Whether a list goes on without its unreadable entries, so that the others can be checked. The policy as a whole is refused anyway.
    const DROPPED_IF_UNREADABLE: bool = false;
}

/// Where reading is, and what it found wrong so far.
pub struct Cx<'p> {
    pub problems: &'p mut Problems,
    file: String,
    /// `FirewallPolicy/lan-out`
    resource: String,
    steps: Vec<Step>,
    /// Go on with a default where an optional field cannot be read, so that what else is wrong can be found too. Not inside rules,
    /// where a default would mean something else than what was written.
    pub goes_on: bool,
}

enum Step {
    Field(&'static str),
    Index(usize),
}

impl<'p> Cx<'p> {
    pub fn new(file: &str, problems: &'p mut Problems) -> Self {
        Cx { problems, file: file.to_owned(), resource: String::new(), steps: Vec::new(), goes_on: true }
    }

    /// Paths begin with this from now on.
    pub fn enter_resource(&mut self, resource: String) {
        self.resource = resource;
    }

    pub fn field<T>(&mut self, name: &'static str, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.within(Step::Field(name), inside)
    }

    pub fn index<T>(&mut self, index: usize, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.within(Step::Index(index), inside)
    }

    fn within<T>(&mut self, step: Step, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.steps.push(step);
        let result = inside(self);
        self.steps.pop();
        result
    }

    pub fn origin(&self, line: u32) -> Origin {
        Origin { file: self.file.clone(), line }
    }

    pub fn problem(&mut self, line: u32, message: impl Into<String>) {
        if !self.problems.is_full() {
            let (origin, path) = (self.origin(line), self.path());
            self.problems.at(&origin, path, message);
        }
    }

    fn path(&self) -> String {
        let mut path = self.resource.clone();
        for step in &self.steps {
            match step {
                Step::Field(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&camel(name));
                }
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}

/// The fields of one node while its owner picks them up by name.
pub struct Fields<'n, 'a> {
    pub line: u32,
    entries: &'n [(Key<'a>, Node<'a>)],
    /// Every name that was asked for; what remains in the end is unknown.
    known: Vec<&'static str>,
    /// Names that would be known had another choice been made: the name, the field that chooses, its word.
    elsewhere: Vec<(&'static str, &'static str, &'static str)>,
}

impl<'n, 'a> Fields<'n, 'a> {
    pub fn of(node: &'n Node<'a>, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            NodeValue::Map(entries) => Some(Fields { line: node.line, entries, known: Vec::with_capacity(16), elsewhere: Vec::new() }),
            NodeValue::Unusable => None,
            _ if node.is_null() => missing_value(node, cx),
            _ => {
                cx.problem(node.line, format!("here must stand fields, each as `name: value` on its own line; found {}", node.sort()));
                None
            }
        }
    }

    /// The node under this name, without reading it.
    pub fn node(&mut self, name: &'static str) -> Option<&'n Node<'a>> {
        self.known.push(name);
        self.entries.iter().find(|(key, _)| is_camel(&key.text, name)).map(|(_, node)| node)
    }

    pub fn take<T: Shape>(&mut self, name: &'static str, default: Option<fn() -> T>, cx: &mut Cx) -> Option<T> {
        match (self.node(name), default) {
            (Some(node), default) => {
                let read = cx.field(name, |cx| T::read(node, cx));
                read.or_else(|| default.filter(|_| cx.goes_on).map(|default| default()))
            }
            (None, Some(default)) => Some(default()),
            (None, None) => {
                cx.problem(self.line, format!("the field `{}` is missing; it is required here", camel(name)));
                None
            }
        }
    }

    /// Fields of other choices, so that one of them is answered with more than "unknown".
    pub fn known_elsewhere(&mut self, name: &'static str, tag: &'static str, choice: &'static str) {
        self.elsewhere.push((name, tag, choice));
    }

    /// Call last: what nobody asked for is a mistake, most often of spelling.
    pub fn finish(self, cx: &mut Cx) {
        for (key, _) in self.entries {
            if cx.problems.is_full() || self.known.iter().any(|name| is_camel(&key.text, name)) {
                continue;
            }
            let choices: Vec<String> = self
                .elsewhere
                .iter()
                .filter(|(name, ..)| is_camel(&key.text, name))
                .map(|(_, tag, choice)| format!("`{tag}: {}`", word_of(choice)))
                .collect();
            let names: Vec<String> = self.known.iter().map(|name| camel(name)).collect();
            let remedy = match nearest(&key.text, names.iter().map(String::as_str)) {
                _ if !choices.is_empty() => {
                    let tag = self.elsewhere.iter().find(|(name, ..)| is_camel(&key.text, name)).map_or("type", |(_, tag, _)| tag);
                    format!("; it belongs to {}: remove it or change the {tag}", choices.join(" or "))
                }
                near if near.is_empty() => format!("; known here: {}", names.join(", ")),
                near => near,
            };
            cx.problem(key.line, format!("unknown field {}{remedy}", quote(&key.text)));
        }
    }
}

/// A field that is there and says nothing: more likely forgotten than meant.
pub(crate) fn missing_value<T>(node: &Node, cx: &mut Cx) -> Option<T> {
    cx.problem(node.line, "no value stands here; write one or remove the field");
    None
}

/// `rate_limit` → `rateLimit`, `r#type` → `type`.
pub fn camel(snake: &str) -> String {
    let mut result = String::with_capacity(snake.len());
    for (at, word) in snake.trim_start_matches("r#").split('_').enumerate() {
        match word.chars().next() {
            Some(first) if at > 0 => result.extend(std::iter::once(first.to_ascii_uppercase()).chain(word.chars().skip(1))),
            _ => result.push_str(word),
        }
    }
    result
}

/// `key == camel(snake)` without building it: this runs for every field of every rule.
fn is_camel(key: &str, snake: &str) -> bool {
    let mut key = key.bytes();
    let mut upper = false;
    for byte in snake.trim_start_matches("r#").bytes() {
        if byte == b'_' {
            upper = true;
            continue;
        }
        let wanted = if std::mem::take(&mut upper) { byte.to_ascii_uppercase() } else { byte };
        if key.next() != Some(wanted) {
            return false;
        }
    }
    key.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_written_in_camel_case() {
        for (snake, text) in
            [("rate_limit", "rateLimit"), ("r#type", "type"), ("icmpv6", "icmpv6"), ("requests_per_minute", "requestsPerMinute")]
        {
            assert_eq!(camel(snake), text);
            assert!(is_camel(text, snake));
            assert!(!is_camel(snake, "other") && !is_camel(&format!("{text}x"), snake));
        }
        assert!(!is_camel("rate_limit", "rate_limit"));
    }
}
