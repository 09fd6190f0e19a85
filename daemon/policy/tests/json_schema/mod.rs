//! A validator for the part of JSON Schema 2020-12 that our schema uses. It refuses a schema with any other keyword, so that it never
//! passes over something that an editor would enforce. (The full validators weigh more than the crate under test.)

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::{Map, Value};

pub struct Validator {
    root: Value,
    patterns: BTreeMap<String, Regex>,
}

impl Validator {
    pub fn new(root: Value) -> Self {
        let mut patterns = BTreeMap::new();
        collect_patterns(&root, &mut patterns);
        Validator { root, patterns }
    }

    pub fn validate(&self, instance: &Value) -> Result<(), String> {
        self.check(&self.root, instance, "")
    }

    fn check(&self, schema: &Value, instance: &Value, at: &str) -> Result<(), String> {
        let Value::Object(keywords) = schema else { panic!("{schema} is no schema") };
        keywords.iter().try_for_each(|(keyword, value)| self.keyword(keywords, keyword, value, instance, at))
    }

    fn keyword(&self, all: &Map<String, Value>, keyword: &str, value: &Value, instance: &Value, at: &str) -> Result<(), String> {
        let number = |value: &Value| value.as_f64().unwrap();
        let schemas = || value.as_array().unwrap().iter();
        let fine = match (keyword, instance) {
            ("$schema" | "$defs" | "title" | "description" | "default" | "examples", _) => true,
            ("$ref", _) => {
                let pointer = value.as_str().unwrap().strip_prefix('#').unwrap();
                return self.check(self.root.pointer(pointer).unwrap(), instance, at);
            }
            ("type", _) => match value.as_str().unwrap() {
                "object" => instance.is_object(),
                "array" => instance.is_array(),
                "string" => instance.is_string(),
                "boolean" => instance.is_boolean(),
                "integer" => instance.as_f64().is_some_and(|number| number.fract() == 0.0),
                other => panic!("type {other}"),
            },
            ("const", _) => instance == value,
            ("allOf", _) => return schemas().try_for_each(|schema| self.check(schema, instance, at)),
            ("anyOf", _) => schemas().any(|schema| self.check(schema, instance, at).is_ok()),
            ("oneOf", _) => schemas().filter(|schema| self.check(schema, instance, at).is_ok()).count() == 1,
            ("not", _) => self.check(value, instance, at).is_err(),
            ("required", Value::Object(fields)) => schemas().all(|name| fields.contains_key(name.as_str().unwrap())),
            ("properties", Value::Object(fields)) => {
                let known = value.as_object().unwrap();
                let present = fields.iter().filter_map(|(name, field)| known.get(name).map(|schema| (name, schema, field)));
                return present.into_iter().try_for_each(|(name, schema, field)| self.check(schema, field, &format!("{at}/{name}")));
            }
            ("additionalProperties", Value::Object(fields)) => {
                assert_eq!(value, &Value::Bool(false));
                fields.keys().all(|name| all["properties"].as_object().unwrap().contains_key(name))
            }
            ("items", Value::Array(items)) => return items.iter().try_for_each(|item| self.check(value, item, at)),
            ("minItems", Value::Array(items)) => items.len() as f64 >= number(value),
            ("pattern", Value::String(text)) => self.patterns[value.as_str().unwrap()].is_match(text),
            ("minLength", Value::String(text)) => text.chars().count() as f64 >= number(value),
            ("maxLength", Value::String(text)) => text.chars().count() as f64 <= number(value),
            ("minimum", Value::Number(found)) => found.as_f64().unwrap() >= number(value),
            ("maximum", Value::Number(found)) => found.as_f64().unwrap() <= number(value),
            (
                "required"
                | "properties"
                | "additionalProperties"
                | "items"
                | "minItems"
                | "pattern"
                | "minLength"
                | "maxLength"
                | "minimum"
                | "maximum",
                _,
            ) => true,
            (other, _) => panic!("this validator does not know the keyword {other}"),
        };
        if fine { Ok(()) } else { Err(format!("{at}: {keyword} {:.60} is not kept by {instance:.60}", value.to_string())) }
    }
}

fn collect_patterns(schema: &Value, patterns: &mut BTreeMap<String, Regex>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(pattern)) = fields.get("pattern") {
                patterns.insert(pattern.clone(), Regex::new(pattern).unwrap());
            }
            fields.values().for_each(|schema| collect_patterns(schema, patterns));
        }
        Value::Array(schemas) => schemas.iter().for_each(|schema| collect_patterns(schema, patterns)),
        _ => (),
    }
}
