//! JSON Schema of the policy language, for editors: completion, descriptions and most mistakes while typing.
//!
//! It is generated from the same declarations as the reader. It says the same about every single document; what needs the whole
//! policy (does the zone exist?) only `check` can tell.

use serde_json::{Value, json};

use crate::read::{API_VERSION, KINDS, KindOf};
use crate::shape::Definitions;

/// JSON Schema 2020-12 for one document of a policy: exactly one kind matches, told by `kind`.
pub fn schema() -> Value {
    let mut definitions = Definitions::default();
    let kinds: Vec<Value> = KINDS.iter().map(|kind| resource(kind, &mut definitions)).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Portcullis policy",
        "description": "One resource of a Portcullis policy. A file holds several, separated by lines `---`.",
        "type": "object",
        "oneOf": kinds,
        "$defs": definitions.0,
    })
}

fn resource(kind: &KindOf, definitions: &mut Definitions) -> Value {
    let spec = (kind.spec)(definitions);
    let description = definitions.description_of(kind.kind);
    json!({
        "title": kind.kind,
        "description": description,
        "type": "object",
        "properties": {
            "apiVersion": { "const": API_VERSION, "description": "The version of the policy language." },
            "kind": { "const": kind.kind, "description": description },
            "metadata": {
                "type": "object",
                "description": "What the resource is called.",
                "properties": {
                    "name": { "type": "string", "pattern": kind.name_pattern, "description": kind.name_says },
                    "description": { "$ref": "#/$defs/Text", "description": "For people." },
                },
                "required": ["name"],
                "additionalProperties": false,
            },
            "spec": spec,
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
    })
}
