//! The shapes of what goes in and out, by name.

mod box_state;
mod observer;
mod people;
mod policies;
mod proxy;
mod update;

use serde_json::{Map, Value, json};

pub fn all() -> Value {
    let groups = [
        general(),
        people::people(),
        policies::policies(),
        box_state::applier(),
        proxy::proxy(),
        observer::observer(),
        box_state::log(),
        update::update(),
    ];
    Value::Object(groups.into_iter().flatten().collect::<Map<_, _>>())
}

type Shapes = Vec<(String, Value)>;

fn general() -> Shapes {
    vec![
        shape("Any", json!({})),
        shape("Text", object(&["text"], json!({ "text": text() }))),
        shape(
            "Problem",
            json!({
                "type": "object",
                "required": ["type", "title", "status", "detail"],
                "properties": {
                    "type": text(), "title": text(), "status": integer(), "detail": text(),
                    "errors": list(object(&["field", "message"], json!({ "field": text(), "message": text() }))),
                    "problems": of("PolicyProblems"),
                },
            }),
        ),
        shape(
            "PolicyProblems",
            list(object(
                &["origin", "path", "message"],
                json!({
                    "origin": optional(object(&["file", "line"], json!({ "file": text(), "line": integer() }))),
                    "path": text(),
                    "message": text(),
                }),
            )),
        ),
        shape("Role", json!({ "type": "string", "enum": ["admin", "operator", "viewer", "auditor"] })),
        shape("Digest", json!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })),
        shape("Sources", json!({ "type": "object", "description": "File name to YAML text", "additionalProperties": text() })),
    ]
}

fn shape(name: &str, schema: Value) -> (String, Value) {
    (name.to_owned(), schema)
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn optional(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn of(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn integer() -> Value {
    json!({ "type": "integer" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}
