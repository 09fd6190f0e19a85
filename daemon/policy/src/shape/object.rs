//! JSON Schema (2020-12) of things with fields, and of choices.

use serde_json::{Map, Value, json};

use super::{Cx, Fields, camel, missing_value};
use crate::problem::{nearest, quote};
use crate::read::node::{Node, Value as NodeValue};

/// The schemas of named types, each described once: `#/$defs/<name>`.
#[derive(Default)]
pub struct Definitions(pub Map<String, Value>);

impl Definitions {
    /// What the documentation of a named type says.
    pub fn description_of(&self, name: &str) -> Value {
        self.0.get(name).and_then(|schema| schema.get("description")).cloned().unwrap_or(Value::Null)
    }

    pub fn named(&mut self, name: &str, describe: impl FnOnce(&mut Self) -> Value) -> Value {
        if !self.0.contains_key(name) {
            // Stands in while the type's own parts are described.
            self.0.insert(name.to_owned(), Value::Null);
            let schema = describe(self);
            self.0.insert(name.to_owned(), schema);
        }
        json!({ "$ref": format!("#/$defs/{name}") })
    }
}

/// A closed object: no property beyond those that are declared.
#[derive(Default)]
pub struct Object {
    description: String,
    properties: Map<String, Value>,
    required: Vec<Value>,
    /// When there are any, exactly one of them holds, together with what stands above.
    variants: Vec<Object>,
}

impl Object {
    pub fn new(docs: &[&str]) -> Self {
        Object { description: documentation(docs), ..Object::default() }
    }

    pub fn property(&mut self, name: &str, docs: &[&str], mut schema: Value, required: bool, default: Option<Value>) {
        let name = camel(name);
        if let Some(schema) = schema.as_object_mut() {
            let description = documentation(docs);
            if !description.is_empty() {
                schema.insert("description".into(), description.into());
            }
            if let Some(default) = default {
                schema.insert("default".into(), default);
            }
        }
        if required {
            self.required.push(name.clone().into());
        }
        self.properties.insert(name, schema);
    }

    /// The field that tells this variant from the others; it may be left out of the one that is the default.
    pub fn tag(&mut self, tag: &str, variant: &str, default: bool) {
        let schema = json!({ "const": word_of(variant), "description": self.description });
        self.property(tag, &[], schema, !default, default.then(|| word_of(variant).into()));
    }

    pub fn variant(&mut self, variant: Object) {
        self.variants.push(variant);
    }

    pub fn schema(self) -> Value {
        if self.variants.is_empty() {
            return json!({
                "type": "object", "description": self.description, "properties": self.properties,
                "required": self.required, "additionalProperties": false,
            });
        }
        let whole = |variant: &Object| {
            let mut properties = self.properties.clone();
            properties.extend(variant.properties.clone());
            let required: Vec<&Value> = self.required.iter().chain(&variant.required).collect();
            json!({
                "type": "object", "description": variant.description, "properties": properties,
                "required": required, "additionalProperties": false,
            })
        };
        json!({ "description": self.description, "oneOf": self.variants.iter().map(whole).collect::<Vec<_>>() })
    }
}

impl Fields<'_, '_> {
    /// Which variant the field `tag` names, or its absence means.
    pub fn tag(
        &mut self,
        tag: &'static str,
        variants: &[&'static str],
        default: Option<&'static str>,
        cx: &mut Cx,
    ) -> Option<&'static str> {
        let pairs: Vec<(&'static str, &'static str)> = variants.iter().map(|variant| (*variant, *variant)).collect();
        match self.node(tag) {
            Some(node) => cx.field(tag, |cx| choose(node, &pairs, cx)),
            None if default.is_some() => default,
            None => {
                cx.problem(self.line, format!("the field `{tag}` is missing; write one of: {}", words(&pairs)));
                None
            }
        }
    }
}

/// The variant whose word stands here.
pub fn choose<T: Clone>(node: &Node, variants: &[(&'static str, T)], cx: &mut Cx) -> Option<T> {
    match &node.value {
        NodeValue::Unusable => return None,
        _ if node.is_null() => return missing_value(node, cx),
        NodeValue::Scalar { text, .. } => {
            if let Some((_, value)) = variants.iter().find(|(variant, _)| word_of(variant) == text.as_ref()) {
                return Some(value.clone());
            }
            let known: Vec<String> = variants.iter().map(|(variant, _)| word_of(variant)).collect();
            let near = nearest(text, known.iter().map(String::as_str));
            cx.problem(node.line, format!("{} is not possible here; write one of: {}{near}", quote(text), words(variants)));
        }
        _ => cx.problem(node.line, format!("here must stand one of: {}; found {}", words(variants), node.sort())),
    }
    None
}

/// The schema of a choice between words, each with its own explanation.
pub fn choice(docs: &[&str], variants: &[(&str, &[&str])]) -> Value {
    let described = |(variant, docs): &(&str, &[&str])| match documentation(docs) {
        none if none.is_empty() => json!({ "const": word_of(variant) }),
        description => json!({ "const": word_of(variant), "description": description }),
    };
    json!({ "description": documentation(docs), "oneOf": variants.iter().map(described).collect::<Vec<_>>() })
}

fn words<T>(variants: &[(&str, T)]) -> String {
    variants.iter().map(|(variant, _)| word_of(variant)).collect::<Vec<_>>().join(", ")
}

/// `PortForward` → `portForward`
pub fn word_of(variant: &str) -> String {
    let mut chars = variant.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

/// Doc comment lines as one text.
pub fn documentation(docs: &[&str]) -> String {
    docs.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned()
}
