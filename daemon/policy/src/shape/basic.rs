//! The shapes that are no type of ours: truth values, numbers, texts, lists, what may be absent.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Cx, Definitions, Shape, Word, looks_like_another_type, missing_value};
use crate::model::Located;
use crate::problem::quote;
use crate::read::node::{Node, Value as NodeValue};

/// Characters of a description, comment or other free text.
pub const MOST_TEXT: usize = 500;

impl Shape for bool {
    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            NodeValue::Scalar { text, quoted: false } if text == "true" => return Some(true),
            NodeValue::Scalar { text, quoted: false } if text == "false" => return Some(false),
            NodeValue::Unusable => return None,
            _ if node.is_null() => return missing_value(node, cx),
            NodeValue::Scalar { text, .. } => cx.problem(node.line, format!("{} is neither; write true or false", quote(text))),
            _ => cx.problem(node.line, format!("here must stand true or false; found {}", node.sort())),
        }
        None
    }

    fn schema(_: &mut Definitions) -> Value {
        json!({ "type": "boolean" })
    }

    fn shown(&self) -> Option<Value> {
        Some((*self).into())
    }
}

macro_rules! number {
    ($type:ty, $least:literal) => {
        impl Shape for $type {
            fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
                let possible = $least..=<$type>::MAX;
                match &node.value {
                    NodeValue::Unusable => return None,
                    _ if node.is_null() => return missing_value(node, cx),
                    NodeValue::Scalar { text, quoted } => match text.parse::<$type>() {
                        Ok(number) if !quoted && possible.contains(&number) => return Some(number),
                        Ok(number) if possible.contains(&number) => cx.problem(node.line, format!("this must be a number; write {number} without quotes")),
                        _ => cx.problem(node.line, format!("{} is not possible; write a whole number from {} to {}", quote(text), $least, <$type>::MAX)),
                    },
                    _ => cx.problem(node.line, format!("here must stand a whole number; found {}", node.sort())),
                }
                None
            }

            fn schema(_: &mut Definitions) -> Value {
                json!({ "type": "integer", "minimum": $least, "maximum": <$type>::MAX })
            }

            fn shown(&self) -> Option<Value> {
                Some((*self).into())
            }
        }
    };
}

number!(u32, 0);
number!(u64, 0);
// Sixteen bits are ports here, and port 0 does not exist.
number!(u16, 1);

/// One line of free text.
impl Shape for String {
    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            NodeValue::Unusable => return None,
            _ if node.is_null() => return missing_value(node, cx),
            NodeValue::Scalar { text, quoted: false } if looks_like_another_type(text) => {
                cx.problem(node.line, format!("without quotes, YAML takes this for a number or a truth value; write {}", quote(text)));
            }
            NodeValue::Scalar { text, .. } => {
                // A block text (`|`, `>`) ends in a line break that nobody meant.
                let text = text.trim_end_matches('\n');
                if text.is_empty() {
                    cx.problem(node.line, "this text is empty; write one or remove the field");
                } else if text.contains(['\n', '\t']) {
                    cx.problem(node.line, "this text has a line break or a tab in it; keep it on one line (`>-` joins lines), or make it a YAML comment with `#`");
                } else if text.chars().count() > MOST_TEXT {
                    cx.problem(node.line, format!("this text is longer than {MOST_TEXT} characters; shorten it"));
                } else {
                    return Some(text.to_owned());
                }
            }
            _ => cx.problem(node.line, format!("here must stand a text; found {}", node.sort())),
        }
        None
    }

    fn schema(definitions: &mut Definitions) -> Value {
        definitions.named("Text", |_| {
            // One line; the line break with which a block text (`|`, `>`) ends does not count.
            json!({ "type": "string", "minLength": 1, "maxLength": MOST_TEXT + 1, "pattern": "^[^\\n\\t]+\\n*$" })
        })
    }

    fn shown(&self) -> Option<Value> {
        Some(self.as_str().into())
    }
}

/// A single value stands for a list of one.
impl<T: Shape> Shape for Vec<T> {
    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            NodeValue::Unusable => None,
            NodeValue::List(nodes) if nodes.is_empty() && T::ABSENT_MEANS.is_some() => {
                let meaning = T::ABSENT_MEANS.unwrap_or_default();
                cx.problem(
                    node.line,
                    format!(
                        "an empty list can never match; to mean {meaning}, remove the field where it may be left out, or name what is meant"
                    ),
                );
                None
            }
            NodeValue::List(nodes) => {
                // All are read before any is missed, so that every problem is said.
                let read: Vec<Option<T>> = nodes.iter().enumerate().map(|(at, node)| cx.index(at, |cx| T::read(node, cx))).collect();
                if T::DROPPED_IF_UNREADABLE { Some(read.into_iter().flatten().collect()) } else { read.into_iter().collect() }
            }
            _ if node.is_null() => missing_value(node, cx),
            _ => T::read(node, cx).map(|one| vec![one]),
        }
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let one = T::schema(definitions);
        let least = usize::from(T::ABSENT_MEANS.is_some());
        json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": least }] })
    }
}

/// Absent is None; present without a value is a problem.
impl<T: Shape> Shape for Option<T> {
    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        T::read_optional(node, cx)
    }

    fn schema(definitions: &mut Definitions) -> Value {
        T::schema(definitions)
    }
}

impl<T: Shape> Shape for Located<T> {
    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let goes_on = std::mem::replace(&mut cx.goes_on, false);
        let read = T::read(node, cx);
        cx.goes_on = goes_on;
        read.map(|value| Located { line: node.line, value })
    }

    const DROPPED_IF_UNREADABLE: bool = true;

    fn schema(definitions: &mut Definitions) -> Value {
        T::schema(definitions)
    }
}

impl Word for Duration {
    const WHAT: &'static str = "a time span with its unit: seconds, minutes or hours";
    const PATTERN: &'static str = "^[0-9]{1,6}(s|m|h)$";
    const EXAMPLES: &'static [&'static str] = &["60s", "5m", "1h"];

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{} is not a time span; write a number and s, m or h, as in 60s", quote(text));
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
        let number: u64 = Some(number)
            .filter(|text| text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or_else(wrong)?;
        match unit {
            "s" => Ok(Duration::from_secs(number)),
            "m" => Ok(Duration::from_secs(number * 60)),
            "h" => Ok(Duration::from_secs(number * 3600)),
            _ => Err(wrong()),
        }
    }

    fn text(&self) -> Option<String> {
        Some(format!("{}s", self.as_secs()))
    }
}
