//! Whether an answer has the shape that the document promises.

use serde_json::{Value, json};

use super::super::openapi;

pub fn assert_valid(value: &Value, schema: &str, what: &str) {
    let document = openapi::document();
    let reference = json!({ "$ref": format!("#/components/schemas/{schema}") });
    if let Err(why) = validate(value, &reference, &document, schema) {
        panic!("{what} does not answer as documented: {why}\n{value:#}");
    }
}

/// As much of JSON Schema as the document uses; what it does not know it refuses.
fn validate(value: &Value, schema: &Value, document: &Value, at: &str) -> Result<(), String> {
    let schema = schema.as_object().ok_or("a schema is an object")?;
    for (word, wanted) in schema {
        match word.as_str() {
            "description" => {}
            "$ref" => {
                let pointer = wanted.as_str().unwrap_or("").trim_start_matches('#');
                validate(value, document.pointer(pointer).ok_or(format!("{wanted} leads nowhere"))?, document, at)?;
            }
            "anyOf" => {
                let options = wanted.as_array().ok_or("anyOf is a list")?;
                if !options.iter().any(|option| validate(value, option, document, at).is_ok()) {
                    return Err(format!("{at}: {value} fits none of {wanted}"));
                }
            }
            "enum" if !wanted.as_array().is_some_and(|options| options.contains(value)) => {
                return Err(format!("{at}: {value} is not one of {wanted}"));
            }
            "type" if !wanted.as_array().map_or(&[wanted.clone()][..], Vec::as_slice).iter().any(|kind| is(value, kind)) => {
                return Err(format!("{at}: {value} is not of type {wanted}"));
            }
            "pattern" if !value.as_str().is_some_and(|text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())) => {
                return Err(format!("{at}: {value} is not a digest"));
            }
            "required" => {
                let missing = wanted.as_array().into_iter().flatten().find(|name| value.get(name.as_str().unwrap_or("")).is_none());
                if let Some(name) = missing {
                    return Err(format!("{at}: {name} is missing"));
                }
            }
            "items" => value
                .as_array()
                .into_iter()
                .flatten()
                .enumerate()
                .try_for_each(|(n, item)| validate(item, wanted, document, &format!("{at}[{n}]")))?,
            "properties" => wanted.as_object().into_iter().flatten().try_for_each(|(name, schema)| match value.get(name) {
                Some(value) => validate(value, schema, document, &format!("{at}.{name}")),
                None => Ok(()),
            })?,
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                for (name, value) in
                    value.as_object().into_iter().flatten().filter(|(name, _)| !known.is_some_and(|known| known.contains_key(*name)))
                {
                    if wanted == &Value::Bool(false) {
                        return Err(format!("{at}: {name} is not documented"));
                    }
                    validate(value, wanted, document, &format!("{at}.{name}"))?;
                }
            }
            "enum" | "type" | "pattern" => {}
            other => return Err(format!("{at}: the test does not know {other}")),
        }
    }
    Ok(())
}

fn is(value: &Value, kind: &Value) -> bool {
    match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => false,
    }
}
