//! Shapes that are one word of text: addresses, ports, names.

use serde_json::{Value, json};

use super::{Cx, Definitions, Shape, missing_value};
use crate::problem::quote;
use crate::read::node::{Node, Value as NodeValue};

/// A value that is written as one word, also outside of YAML.
pub trait Word: Sized {
    /// In the schema and in "here must stand …": `an address`.
    const WHAT: &'static str;
    /// What the schema asks of the text; the parser asks the same and more.
    const PATTERN: &'static str;
    const EXAMPLES: &'static [&'static str];
    /// Plain numbers within these bounds are words too.
    const NUMBERS: Option<(u64, u64)> = None;
    /// See [`Shape::ABSENT_MEANS`].
    const ABSENT_MEANS: Option<&'static str> = None;

    /// The error is a whole sentence with the remedy.
    fn parse(text: &str) -> Result<Self, String>;

    fn text(&self) -> Option<String> {
        None
    }
}

impl<T: Word> Shape for T {
    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            NodeValue::Unusable => None,
            _ if node.is_null() => missing_value(node, cx),
            NodeValue::Scalar { text, quoted } => match T::parse(text) {
                Ok(_) if !quoted && T::NUMBERS.is_none() && looks_like_another_type(text) => {
                    let text = quote(text);
                    cx.problem(node.line, format!("without quotes, YAML takes this for a number or a truth value; write {text}"));
                    None
                }
                parsed => parsed.map_err(|message| cx.problem(node.line, message)).ok(),
            },
            _ => {
                cx.problem(node.line, format!("here must stand {}; found {}", T::WHAT, node.sort()));
                None
            }
        }
    }

    fn schema(definitions: &mut Definitions) -> Value {
        let name = std::any::type_name::<T>().rsplit("::").next().unwrap_or("Word");
        definitions.named(name, |_| {
            let text = json!({ "type": "string", "description": T::WHAT, "pattern": T::PATTERN, "examples": T::EXAMPLES });
            match T::NUMBERS {
                None => text,
                Some((least, most)) => {
                    json!({ "description": T::WHAT, "anyOf": [text, { "type": "integer", "minimum": least, "maximum": most }] })
                }
            }
        })
    }

    fn shown(&self) -> Option<Value> {
        self.text().map(Value::from)
    }

    const ABSENT_MEANS: Option<&'static str> = <T as Word>::ABSENT_MEANS;
}

/// Whether YAML's core schema (1.2.2, section 10.3.2) resolves a plain scalar to something else than a text. An editor that
/// validates against our schema sees a number there, so we must not see a name.
pub fn looks_like_another_type(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let special = matches!(text, "" | "~" | "null" | "Null" | "NULL" | "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
        || matches!(unsigned, ".inf" | ".Inf" | ".INF")
        || matches!(text, ".nan" | ".NaN" | ".NAN");
    let based = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix).is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)))
    };
    special || based("0o", 8) || based("0x", 16) || is_decimal(unsigned)
}

/// `[0-9]+`, `1.5`, `.5`, `1.`, `1e9`
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(mantissa, exponent)| (mantissa, Some(exponent)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.is_none_or(|text| {
        let text = text.strip_prefix(['-', '+']).unwrap_or(text);
        !text.is_empty() && digits(text)
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_truth_values_are_told_from_words() {
        for text in ["1", "-1", "+1.5", ".5", "1.", "1e9", "0x1f", "0o17", "true", "~", "", ".inf", "-.INF", ".nan"] {
            assert!(looks_like_another_type(text), "{text} is no text in YAML");
        }
        for text in ["1.2.3.4", "08:00", "80-90", "lan", "e", "1e", ".", "-", "0x", "yes", "1_000", "fd00::1", "2001:db8::/32"] {
            assert!(!looks_like_another_type(text), "{text} is a text in YAML");
        }
    }
}
