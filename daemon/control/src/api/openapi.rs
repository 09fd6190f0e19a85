//! The OpenAPI 3.1 document, made from the table of operations: what is not in the table is neither served nor described.

use serde_json::{Map, Value, json};

use super::{Answer, Operation, operations, schemas};
use crate::http::{Access, Method, Response, Visit};
use crate::role::Role;
use crate::trouble::Trouble;

pub const OPERATIONS: &[Operation] = &[Operation {
    method: Method::Get,
    path: "/openapi.json",
    access: Access::Anyone,
    handler: serve,
    summary: "This document.",
    query: &[],
    body: None,
    answer: Answer::Json(200, "Any"),
}];

fn serve(_: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&document()))
}

pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.name().to_ascii_lowercase()] = describe(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portcullis",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything that the pages do. Times are milliseconds since the epoch. At most `System.requestsPerMinute` requests a minute and client address.",
            "license": { "name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later" },
        },
        "servers": [{ "url": "/api/v1" }],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "responses": {
                "Problem": {
                    "description": "Why it was not done, with field and remedy",
                    "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
                },
            },
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "An API key (`pck_…`) or a token from `POST /tokens`" },
                "session": { "type": "apiKey", "in": "cookie", "name": crate::session::COOKIE, "description": "With header `X-CSRF-Token` for changes" },
            },
        },
    })
}

fn describe(operation: &Operation) -> Value {
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = operation.query.iter().map(
        |parameter| json!({ "name": parameter.name, "in": "query", "description": parameter.about, "schema": { "type": parameter.kind } }),
    );
    let (status, answer) = match operation.answer {
        Answer::Json(status, schema) => {
            (status, json!({ "description": "Done", "content": { "application/json": { "schema": reference(schema) } } }))
        }
        Answer::File(kind) => (200, json!({ "description": "Done", "content": { kind: { "schema": { "type": "string" } } } })),
        Answer::Nothing => (204, json!({ "description": "Done" })),
    };
    let mut description = json!({
        "operationId": name(operation),
        "summary": operation.summary,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": { status.to_string(): answer, "default": { "$ref": "#/components/responses/Problem" } },
    });
    match operation.access {
        Access::Anyone => description["security"] = json!([]),
        Access::May(action) => {
            let roles: Vec<&str> = Role::ALL.into_iter().filter(|role| role.may(action)).map(Role::name).collect();
            description["description"] = json!(format!("For {}.", roles.join(", ")));
            description["security"] = json!([{ "bearer": [] }, { "session": [] }]);
        }
    }
    if let Some(body) = operation.body {
        description["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": reference(body) } } });
    }
    description
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// `get-users-name`
fn name(operation: &Operation) -> String {
    let path: String =
        operation.path.chars().filter(|c| !matches!(c, '{' | '}')).map(|c| if matches!(c, '/' | '.') { '-' } else { c }).collect();
    format!("{}{path}", operation.method.name().to_ascii_lowercase())
}
