//! One YAML document as a tree that remembers where everything stands.
//!
//! Only what a policy needs of YAML: maps with plain keys, lists and scalars. Anchors, aliases and tags are refused, so
//! the tree is never bigger than the text; size and depth are bounded while the parser runs, not afterwards.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::input::{Bounded, Held};
use super::text::forbidden;
use crate::problem::{Problems, quote};
use crate::source::Origin;

/// Values in all files together: 50,000 rules have about 1.3 million.
pub const MOST_NODES: usize = 2_000_000;
/// Entries of one list or map.
pub const MOST_ENTRIES: usize = 200_000;
/// Lists and maps inside each other. A policy needs eight.
const MOST_DEPTH: usize = 32;

#[derive(Debug, Clone, PartialEq)]
pub struct Node<'a> {
    /// Both from 1.
    pub line: u32,
    pub column: u32,
    pub value: Value<'a>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// The text as written, escapes resolved; `quoted` tells `"80"` from `80`.
    Scalar {
        text: Cow<'a, str>,
        quoted: bool,
    },
    List(Vec<Node<'a>>),
    /// In the order of the text, each key once.
    Map(Vec<(Key<'a>, Node<'a>)>),
    /// Already reported; whoever reads it says nothing more.
    Unusable,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Key<'a> {
    pub text: Cow<'a, str>,
    pub line: u32,
}

impl Node<'_> {
    /// `~`, `null`, or nothing at all behind a colon.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, quoted: false } if matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for a sentence that says what was expected instead.
    pub fn sort(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a group of fields",
            _ => "a single value",
        }
    }
}

/// How much more may be read.
pub struct Budget(pub usize);

/// Parses one document that begins on `first_line` of `file`. None means that there is nothing in it.
pub fn parse<'a>(
    text: &'a str,
    file: &str,
    first_line: u32,
    budget: &mut Budget,
    problems: &mut Problems,
) -> Result<Option<Node<'a>>, GivenUp> {
    let mut builder = Builder { file, first_line, budget, problems, open: Vec::new(), root: None };
    // A parser is big; whatever it gets wrong must end in a sentence, not in a dead process.
    let outcome = catch_unwind(AssertUnwindSafe(|| builder.run(text)));
    match outcome {
        Ok(finished) => finished.map(|()| builder.root),
        Err(_) => Err(builder.give_up(first_line, "this document breaks the YAML parser; write it more simply".to_owned())),
    }
}

struct Builder<'a, 'b> {
    file: &'b str,
    first_line: u32,
    budget: &'b mut Budget,
    problems: &'b mut Problems,
    open: Vec<Open<'a>>,
    root: Option<Node<'a>>,
}

/// A list or map whose end has not come yet.
struct Open<'a> {
    line: u32,
    column: u32,
    contents: Contents<'a>,
}

enum Contents<'a> {
    List(Vec<Node<'a>>),
    Map { entries: Vec<(Key<'a>, Node<'a>)>, key: Option<Key<'a>> },
}

/// The document was given up; the problem has been said.
pub struct GivenUp;

impl<'a> Builder<'a, '_> {
    fn run(&mut self, text: &'a str) -> Result<(), GivenUp> {
        let held = Held::default();
        let mut parser = Parser::new(Bounded::new(text, &held));
        let mut ended = false;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.syntax(&error, &held))?;
            held.nothing();
            if ended && !matches!(event, Event::StreamEnd) {
                // Only `...` without a following `---` gets here; anything more would have been cut off as its own document.
                return Err(self.give_up(self.line(&span), "begin every further document with a line `---`".to_owned()));
            }
            match event {
                Event::StreamEnd => break,
                Event::DocumentEnd => ended = true,
                event => self.take(event, &span)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'a>, span: &Span) -> Result<(), GivenUp> {
        let (line, column) = (self.line(span), span.start.col() as u32 + 1);
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.plain_yaml(anchor != 0, tag.is_some(), line);
                self.scalar(text, style != ScalarStyle::Plain, line)
            }
            Event::Alias(_) => {
                self.say(line, "`*name` repeats another value; aliases are not supported: write the value out".to_owned());
                Value::Unusable
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain_yaml(anchor != 0, tag.is_some(), line);
                return self.begin(Open { line, column, contents: Contents::List(Vec::new()) });
            }
            Event::MappingStart(anchor, tag) => {
                self.plain_yaml(anchor != 0, tag.is_some(), line);
                return self.begin(Open { line, column, contents: Contents::Map { entries: Vec::new(), key: None } });
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => {
                    let value = self.finished(open.contents);
                    return self.put(Node { line: open.line, column: open.column, value });
                }
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        self.put(Node { line, column, value })
    }

    fn begin(&mut self, open: Open<'a>) -> Result<(), GivenUp> {
        if self.open.len() >= MOST_DEPTH {
            return Err(self.give_up(open.line, format!("lists and fields are nested more than {MOST_DEPTH} deep; a policy needs eight")));
        }
        self.open.push(open);
        Ok(())
    }

    /// Adds a finished value to the innermost open list or map.
    fn put(&mut self, node: Node<'a>) -> Result<(), GivenUp> {
        let Some(left) = self.budget.0.checked_sub(1) else {
            return Err(self.give_up(node.line, format!("the policy has more than {MOST_NODES} values; shorten it")));
        };
        self.budget.0 = left;
        let line = node.line;
        let count = match self.open.last_mut() {
            None => {
                self.root = Some(node);
                1
            }
            Some(Open { contents: Contents::List(nodes), .. }) => {
                nodes.push(node);
                nodes.len()
            }
            Some(Open { contents: Contents::Map { entries, key }, .. }) => {
                match (key.take(), node.value) {
                    (Some(key), value) => entries.push((key, Node { value, ..node })),
                    (None, Value::Scalar { text, .. }) => *key = Some(Key { text, line }),
                    (None, _) => {
                        *key = Some(Key { text: Cow::Borrowed(""), line });
                        self.problems.at(&origin(self.file, line), "", "a field's name must be a plain word; write `name: value`");
                    }
                }
                entries.len()
            }
        };
        if count > MOST_ENTRIES {
            return Err(
                self.give_up(line, format!("this list has more than {MOST_ENTRIES} entries; shorten it or use prefixes and ranges"))
            );
        }
        Ok(())
    }

    fn finished(&mut self, contents: Contents<'a>) -> Value<'a> {
        match contents {
            Contents::List(nodes) => Value::List(nodes),
            Contents::Map { mut entries, .. } => {
                self.refuse_duplicates(&mut entries);
                Value::Map(entries)
            }
        }
    }

    /// YAML leaves open which of two equal keys counts, and a reviewer would see only one of them.
    fn refuse_duplicates(&mut self, entries: &mut Vec<(Key<'a>, Node<'a>)>) {
        let twice: Vec<(String, u32)> = if entries.len() <= 16 {
            let repeated = |(at, (key, _)): (usize, &(Key, Node))| {
                entries[..at].iter().any(|(earlier, _)| earlier.text == key.text).then(|| (key.text.to_string(), key.line))
            };
            entries.iter().enumerate().filter_map(repeated).collect()
        } else {
            let mut seen = BTreeSet::new();
            entries.iter().filter(|(key, _)| !seen.insert(&key.text)).map(|(key, _)| (key.text.to_string(), key.line)).collect()
        };
        for (key, line) in &twice {
            self.say(*line, format!("the field {} stands here twice; keep one of them", quote(key)));
        }
        if !twice.is_empty() {
            let mut seen = BTreeSet::new();
            entries.retain(|(key, _)| seen.insert(key.text.to_string()));
        }
    }

    fn scalar(&mut self, text: Cow<'a, str>, quoted: bool, line: u32) -> Value<'a> {
        let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if let Some(bad) = text.chars().find(|c| !plain && forbidden(*c)) {
            self.say(line, format!("{} contains the character U+{:04X} by an escape; leave it out", quote(&text), bad as u32));
            return Value::Unusable;
        }
        Value::Scalar { text, quoted }
    }

    fn plain_yaml(&mut self, anchor: bool, tag: bool, line: u32) {
        if anchor {
            self.say(line, "`&name` marks a value for repetition; anchors are not supported: remove the mark".to_owned());
        }
        if tag {
            self.say(line, "`!type` tags are not supported: remove the tag (a text that begins with `!` needs quotes)".to_owned());
        }
    }

    fn syntax(&mut self, error: &ScanError, held: &Held) -> GivenUp {
        let marker = error.marker();
        let line = self.first_line + (marker.line() as u32).saturating_sub(1);
        if held.too_much() {
            return self
                .give_up(line, "a list or map in brackets is too long; write long ones with an entry a line, as `- entry`".to_owned());
        }
        let info: String = error.info().chars().filter(|c| !c.is_control()).take(120).collect();
        self.give_up(
            line,
            format!("this is not YAML: {info} (column {}); look at indentation, quotes and brackets up to here", marker.col() + 1),
        )
    }

    fn give_up(&mut self, line: u32, message: String) -> GivenUp {
        self.say(line, message);
        GivenUp
    }

    fn say(&mut self, line: u32, message: String) {
        self.problems.at(&origin(self.file, line), "", message);
    }

    fn line(&self, span: &Span) -> u32 {
        self.first_line + (span.start.line() as u32).saturating_sub(1)
    }
}

fn origin(file: &str, line: u32) -> Origin {
    Origin { file: file.to_owned(), line }
}
