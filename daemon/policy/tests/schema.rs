//! The schema that editors use and the reader that decides: neither refuses what the other takes.

mod json_schema;

use std::sync::LazyLock;

use json_schema::Validator;
use policy::problem::Problems;
use policy::read::documents::documents;
use policy::read::node::{self, Node, Value as NodeValue};
use policy::{Sources, read::read, schema, starting_points};
use proptest::prelude::*;
use serde_json::{Value, json};

fn validator() -> Validator {
    Validator::new(schema())
}

/// A text's documents as JSON, by YAML's core schema.
fn as_json(text: &str) -> Vec<Value> {
    let parse = |text| node::parse(text, "", 1, &mut node::Budget(100_000), &mut Problems::default()).ok().flatten();
    documents(text)
        .into_iter()
        .filter_map(|document| parse(&text[document.range]))
        .filter(|root| !root.is_null())
        .map(|root| value(&root))
        .collect()
}

fn value(node: &Node) -> Value {
    match &node.value {
        NodeValue::Map(entries) => entries.iter().map(|(key, node)| (key.text.to_string(), value(node))).collect(),
        NodeValue::List(nodes) => nodes.iter().map(value).collect(),
        NodeValue::Scalar { quoted: true, text } => text.as_ref().into(),
        _ if node.is_null() => Value::Null,
        NodeValue::Scalar { text, .. } => match text.as_ref() {
            "true" => true.into(),
            "false" => false.into(),
            text => text.parse::<i64>().map(Value::from).or(text.parse::<f64>().map(Value::from)).unwrap_or(text.into()),
        },
        NodeValue::Unusable => Value::Null,
    }
}

fn reads(document: &Value) -> Result<(), String> {
    let (_, problems) = read(&Sources::single("a.yaml", document.to_string()));
    if problems.is_empty() { Ok(()) } else { Err(problems.to_string()) }
}

fn validates(validator: &Validator, document: &Value) -> Result<(), String> {
    validator.validate(document)
}

#[test]
fn the_schema_knows_every_kind() {
    let kinds: Vec<_> = schema()["oneOf"].as_array().unwrap().iter().map(|kind| kind["title"].clone()).collect();
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}

#[test]
fn every_description_is_there_for_the_editor() {
    let schema = schema();
    let mut missing = Vec::new();
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        for object in [definition].into_iter().chain(definition["oneOf"].as_array().into_iter().flatten()) {
            for (field, property) in object["properties"].as_object().into_iter().flatten() {
                if property["description"].as_str().is_none_or(str::is_empty) {
                    missing.push(format!("{name}.{field}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no description: {missing:?}");
}

#[test]
fn starting_points_and_cases_validate() {
    let validator = validator();
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/plan");
    let mut texts: Vec<(String, String)> = starting_points().iter().map(|point| (point.name.to_owned(), point.text.to_owned())).collect();
    for case in std::fs::read_dir(cases).unwrap() {
        let config = case.unwrap().path().join("config.yaml");
        texts.push((config.display().to_string(), std::fs::read_to_string(&config).unwrap()));
    }
    for (name, text) in texts {
        for document in as_json(&text) {
            assert_eq!(validates(&validator, &document), Ok(()), "{name}: {document}");
            assert_eq!(reads(&document), Ok(()), "{name}: {document}");
        }
    }
}

/// Every place in a document, as a JSON pointer.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| places(value, &format!("{here}/{name}"), found)),
        Value::Array(values) => values.iter().enumerate().for_each(|(at, value)| places(value, &format!("{here}/{at}"), found)),
        _ => (),
    }
}

fn mutated(document: &Value, place: &str, change: &Change) -> Value {
    let mut document = document.clone();
    match change {
        Change::Put(value) => *document.pointer_mut(place).unwrap() = value.clone(),
        Change::Add => {
            if let Some(Value::Object(fields)) = document.pointer_mut(place) {
                fields.insert("surplus".to_owned(), json!(1));
            }
        }
        Change::Remove => {
            let (parent, last) = place.rsplit_once('/').unwrap_or(("", ""));
            if let Some(Value::Object(fields)) = document.pointer_mut(parent) {
                fields.remove(last);
            }
        }
    }
    document
}

enum Change {
    Put(Value),
    Add,
    Remove,
}

/// What the schema's patterns cannot see of a text, the reader does: there the schema may be more generous, nowhere else.
#[test]
fn schema_and_reader_agree_on_thousands_of_mutations() {
    let validator = validator();
    let all = include_str!("../cases/schema.yaml");
    let changes = [
        Change::Add,
        Change::Remove,
        Change::Put(Value::Null),
        Change::Put(json!(true)),
        Change::Put(json!(0)),
        Change::Put(json!(-1)),
        Change::Put(json!(300)),
        Change::Put(json!(70_000)),
        Change::Put(json!(1.5)),
        Change::Put(json!("")),
        Change::Put(json!("two\nlines")),
        Change::Put(json!("No name!")),
        Change::Put(json!("12")),
        Change::Put(json!("x".repeat(600))),
        Change::Put(json!([])),
        Change::Put(json!(["lan"])),
        Change::Put(json!([1, 2])),
        Change::Put(json!([[1]])),
        Change::Put(json!({})),
        Change::Put(json!({ "name": "x" })),
    ];
    let (mut tried, mut refused, mut generous) = (0, 0, 0);
    for document in as_json(all) {
        assert_eq!((validates(&validator, &document), reads(&document)), (Ok(()), Ok(())), "{document}");
        let mut found = Vec::new();
        places(&document, "", &mut found);
        for (place, change) in found.iter().flat_map(|place| changes.iter().map(move |change| (place, change))) {
            let changed = mutated(&document, place, change);
            if changed.is_null() {
                continue; // An empty document is nothing, and editors do not look at it.
            }
            let (schema, reader) = (validates(&validator, &changed), reads(&changed));
            tried += 1;
            refused += usize::from(reader.is_err());
            if reader.is_ok() || !matches!(change, Change::Put(Value::String(_)) | Change::Put(Value::Array(_))) {
                assert_eq!(schema.is_ok(), reader.is_ok(), "{place}: schema {schema:?}, reader {reader:?}\n{changed}");
            }
            generous += usize::from(schema.is_ok() && reader.is_err());
        }
    }
    assert!(tried > 3000 && refused > tried / 2, "{tried} tried, {refused} refused");
    assert!(generous < tried / 50, "the schema let {generous} of {tried} pass that the reader refuses");
}

proptest! {
    /// A text in the place of any other: the schema never complains about what the reader takes.
    #[test]
    fn what_the_reader_takes_the_schema_takes(
        text in "(([0-9]{1,3}\\.){3}[0-9]{1,3}(/[0-9]{1,2})?|[a-z0-9:./ -]{1,12}|(tcp|udp|proto)/[0-9]{1,5}(-[0-9]{1,5})?|[0-9]{1,3}/(second|hour)( burst [0-9])?)",
        pick in any::<prop::sample::Index>(),
    ) {
        static VALIDATOR: LazyLock<Validator> = LazyLock::new(validator);
        let validator = &*VALIDATOR;
        for document in as_json(include_str!("../cases/schema.yaml")) {
            let mut found = Vec::new();
            places(&document, "", &mut found);
            let changed = mutated(&document, &found[pick.index(found.len())], &Change::Put(text.as_str().into()));
            if reads(&changed).is_ok() {
                prop_assert_eq!(validates(validator, &changed), Ok(()), "{}", changed);
            }
        }
    }
}
