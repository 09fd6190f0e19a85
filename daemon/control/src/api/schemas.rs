//! The shapes of what goes in and out, by name.

use serde_json::{Map, Value, json};

pub fn all() -> Value {
    let groups = [general(), people(), policies(), applier(), proxy(), log()];
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

fn people() -> Shapes {
    let key = object(
        &["id", "prefix", "user", "name", "role", "createdAt", "expiresAt", "usedAt"],
        json!({
            "id": integer(), "prefix": text(), "user": text(), "name": text(), "role": of("Role"),
            "createdAt": integer(), "expiresAt": optional(integer()), "usedAt": optional(integer()),
        }),
    );
    vec![
        shape("Setup", object(&["code", "user", "password"], json!({ "code": text(), "user": text(), "password": text() }))),
        shape("Credentials", object(&["user", "password"], json!({ "user": text(), "password": text() }))),
        shape("Token", object(&["token", "expiresIn"], json!({ "token": text(), "expiresIn": integer() }))),
        shape(
            "Account",
            object(&["user", "role", "via", "may"], json!({ "user": text(), "role": of("Role"), "via": text(), "may": list(text()) })),
        ),
        shape("PasswordChange", object(&["old", "password"], json!({ "old": text(), "password": text() }))),
        shape(
            "Sessions",
            list(object(
                &["id", "user", "address", "agent", "createdAt", "seenAt"],
                json!({ "id": integer(), "user": text(), "address": optional(text()), "agent": text(), "createdAt": integer(), "seenAt": integer() }),
            )),
        ),
        shape("Key", key),
        shape("Keys", list(of("Key"))),
        shape("NewKey", object(&["name", "role"], json!({ "name": text(), "role": of("Role"), "days": optional(integer()) }))),
        shape("CreatedKey", object(&["key", "secret"], json!({ "key": of("Key"), "secret": text() }))),
        shape(
            "User",
            object(
                &["name", "role", "disabled", "createdAt", "passwordChangedAt", "lastLoginAt"],
                json!({
                    "name": text(), "role": of("Role"), "disabled": flag(),
                    "createdAt": integer(), "passwordChangedAt": integer(), "lastLoginAt": optional(integer()),
                }),
            ),
        ),
        shape("Users", list(of("User"))),
        shape("NewUser", object(&["name", "role", "password"], json!({ "name": text(), "role": of("Role"), "password": text() }))),
        shape("UserChange", object(&[], json!({ "role": of("Role"), "disabled": flag(), "password": text() }))),
        shape(
            "SigningKey",
            object(&["kid", "createdAt", "retiredAt"], json!({ "kid": text(), "createdAt": integer(), "retiredAt": optional(integer()) })),
        ),
        shape("SigningKeys", list(of("SigningKey"))),
    ]
}

fn policies() -> Shapes {
    vec![
        shape(
            "Candidate",
            object(
                &["version", "base", "sources", "author", "changedAt", "dirty"],
                json!({
                    "version": integer(), "base": optional(integer()), "sources": of("Sources"),
                    "author": text(), "changedAt": integer(), "dirty": flag(),
                }),
            ),
        ),
        shape("CandidateBody", object(&["version", "sources"], json!({ "version": integer(), "sources": of("Sources") }))),
        shape("FileBody", object(&["version", "text"], json!({ "version": integer(), "text": text() }))),
        shape("TakeBody", object(&["version"], json!({ "version": integer(), "revision": integer(), "startingPoint": text() }))),
        shape(
            "SavedCandidate",
            object(
                &["version", "digest", "problems"],
                json!({ "version": integer(), "digest": optional(of("Digest")), "problems": of("PolicyProblems") }),
            ),
        ),
        shape(
            "Preview",
            object(
                &["version", "digest", "running", "textDiff", "changes", "plan"],
                json!({
                    "version": integer(), "digest": of("Digest"), "running": optional(of("Digest")),
                    "textDiff": text(), "changes": text(), "plan": text(),
                }),
            ),
        ),
        shape(
            "ApplyBody",
            object(
                &["digest"],
                json!({
                    "digest": of("Digest"), "message": text(),
                    "confirmWithin": { "type": ["integer", "null"], "description": "Seconds; without it, the policy's own" },
                }),
            ),
        ),
        shape(
            "Applied",
            object(
                &["revision", "generation", "deadline", "phases"],
                json!({
                    "revision": integer(), "generation": integer(), "deadline": integer(),
                    "phases": { "type": "object", "description": "Microseconds by phase", "additionalProperties": integer() },
                }),
            ),
        ),
        shape("GenerationBody", object(&["generation"], json!({ "generation": integer() }))),
        shape("Confirmed", object(&["generation"], json!({ "generation": integer() }))),
        shape(
            "Back",
            object(
                &["outcome", "generation"],
                json!({ "outcome": { "type": "string", "enum": ["went-back", "on-trial"] }, "generation": integer(), "deadline": integer() }),
            ),
        ),
        shape("SourcesBody", object(&["sources"], json!({ "sources": of("Sources") }))),
        shape("Checked", object(&["digest", "problems"], json!({ "digest": optional(of("Digest")), "problems": of("PolicyProblems") }))),
        shape(
            "DiffBody",
            json!({
                "type": "object", "additionalProperties": false,
                "description": "Without `from`, what runs; without `to`, the candidate",
                "properties": { "from": of("Sources"), "to": of("Sources") },
            }),
        ),
        shape(
            "Diff",
            object(
                &["from", "to", "text", "changes"],
                json!({ "from": of("Digest"), "to": of("Digest"), "text": text(), "changes": text() }),
            ),
        ),
        shape(
            "Resource",
            object(
                &["kind", "name", "file", "line", "text"],
                json!({ "kind": text(), "name": text(), "file": text(), "line": integer(), "text": text() }),
            ),
        ),
        shape("Resources", list(of("Resource"))),
        shape("NewResource", object(&["version", "text"], json!({ "version": integer(), "text": text(), "file": text() }))),
        shape(
            "ExplainBody",
            object(
                &["from", "to", "service"],
                json!({
                    "of": { "type": "string", "description": "`candidate` (default), `running`, or the number of a revision" },
                    "from": { "type": "string", "description": "`lan:192.168.2.10`, `lan` or `box`" },
                    "to": { "type": "string", "description": "an address or `box`" },
                    "service": { "type": "string", "description": "`tcp/443`" },
                    "at": { "type": "string", "description": "`mon 18:30`; without it, at any time" },
                }),
            ),
        ),
        shape(
            "Explanation",
            object(
                &["verdict", "text", "explanation"],
                json!({ "verdict": text(), "text": text(), "explanation": { "type": "object", "description": "The way of the packet, step by step" } }),
            ),
        ),
        shape("Plan", object(&["digest", "text"], json!({ "digest": of("Digest"), "text": text() }))),
        shape(
            "StartingPoints",
            list(object(
                &["name", "title", "summary", "text"],
                json!({ "name": text(), "title": text(), "summary": text(), "text": text() }),
            )),
        ),
        shape(
            "Running",
            object(
                &["generation", "digest", "sources"],
                json!({ "generation": integer(), "digest": optional(of("Digest")), "sources": of("Sources") }),
            ),
        ),
        shape(
            "Revision",
            object(
                &["id", "parent", "createdAt", "author", "origin", "message", "digest", "generation", "outcome", "outcomeAt"],
                json!({
                    "id": integer(), "parent": optional(integer()), "createdAt": integer(), "author": text(),
                    "origin": { "type": "string", "enum": ["candidate", "hot-reload", "applier"] },
                    "message": text(), "digest": optional(of("Digest")), "generation": optional(integer()),
                    "outcome": { "type": "string", "enum": ["waiting", "dismissed", "trial", "confirmed", "went-back", "failed"] },
                    "outcomeAt": integer(),
                }),
            ),
        ),
        shape("Revisions", list(of("Revision"))),
        shape("RevisionWithSources", object(&["revision", "sources"], json!({ "revision": of("Revision"), "sources": of("Sources") }))),
    ]
}

/// The applier's own words, passed on as they are: `policy::messages`.
fn applier() -> Shapes {
    let tally = object(&["packets", "bytes"], json!({ "packets": integer(), "bytes": integer() }));
    let link = object(
        &["up", "addresses", "rxBytes", "txBytes", "rxPackets", "txPackets"],
        json!({
            "up": flag(), "addresses": list(text()),
            "rxBytes": integer(), "txBytes": integer(), "rxPackets": integer(), "txPackets": integer(),
        }),
    );
    vec![
        shape(
            "Generation",
            object(
                &["number", "digest", "by", "installedAt", "confirmed"],
                json!({ "number": integer(), "digest": of("Digest"), "by": text(), "installedAt": integer(), "confirmed": flag() }),
            ),
        ),
        shape(
            "Status",
            object(
                &["now", "running", "trial", "lastConfirmed", "lastEvent", "drift", "kept", "features", "safeMode"],
                json!({
                    "now": integer(),
                    "running": optional(of("Generation")),
                    "trial": optional(object(
                        &["generation", "by", "installedAt", "deadline", "backTo"],
                        json!({
                            "generation": integer(), "by": text(), "installedAt": integer(), "deadline": integer(), "backTo": optional(integer()),
                        }),
                    )),
                    "lastConfirmed": optional(integer()),
                    "lastEvent": optional(object(&["at", "text"], json!({ "at": integer(), "text": text() }))),
                    "drift": of("Drift"),
                    "kept": list(of("Generation")),
                    "features": list(text()),
                    "safeMode": optional(text()),
                }),
            ),
        ),
        shape(
            "Drift",
            list(object(
                &["what", "expected", "found", "who", "at", "repaired"],
                json!({ "what": text(), "expected": text(), "found": text(), "who": optional(text()), "at": integer(), "repaired": flag() }),
            )),
        ),
        shape(
            "Counters",
            object(
                &["at", "rules", "links", "connections", "connectionsMax"],
                json!({
                    "at": integer(),
                    "rules": { "type": "object", "additionalProperties": tally },
                    "links": { "type": "object", "additionalProperties": link },
                    "connections": integer(), "connectionsMax": integer(),
                }),
            ),
        ),
    ]
}

/// Mapped clients: `policy::messages::proxy` and `policy::messages::forwarder`, put together.
fn proxy() -> Shapes {
    let forwarder = object(
        &["startedAt", "generation", "flows", "descriptors", "descriptorsMax", "pipes", "healthRounds", "refusedFlows"],
        json!({
            "startedAt": integer(), "generation": optional(integer()), "flows": integer(), "descriptors": integer(),
            "descriptorsMax": integer(), "pipes": integer(), "healthRounds": integer(), "refusedFlows": integer(),
        }),
    );
    let why = object(
        &["because", "text"],
        json!({
            "because": {
                "type": "string",
                "enum": ["no-forwarder", "upstream-down", "wrong-exit", "daily-quota", "monthly-quota", "schedule", "secret-missing"],
            },
            "text": text(),
        }),
    );
    vec![
        shape(
            "Proxy",
            object(
                &["connected", "permitted", "blocked", "forwarder"],
                json!({
                    "connected": optional(flag()), "permitted": optional(integer()), "blocked": optional(integer()),
                    "forwarder": optional(forwarder),
                }),
            ),
        ),
        shape(
            "Mappings",
            list(object(
                &["name", "permitted", "blocked", "since", "upstream", "exit", "latencyUs", "flows", "today", "thisMonth"],
                json!({
                    "name": text(), "permitted": flag(), "blocked": optional(why), "since": optional(integer()),
                    "upstream": optional(text()), "exit": optional(text()), "latencyUs": optional(integer()),
                    "flows": optional(integer()), "upBytes": optional(integer()), "downBytes": optional(integer()),
                    "connections": optional(integer()), "failedConnections": optional(integer()),
                    "today": optional(integer()), "thisMonth": optional(integer()),
                    "daily": optional(integer()), "monthly": optional(integer()),
                }),
            )),
        ),
        shape(
            "Health",
            object(
                &["at", "status", "latencyUs", "exit", "why"],
                json!({
                    "at": integer(), "status": { "type": "string", "enum": ["unknown", "healthy", "degraded", "failed"] },
                    "latencyUs": optional(integer()), "exit": optional(text()), "why": optional(text()),
                }),
            ),
        ),
        shape(
            "Upstreams",
            list(object(
                &["name", "health", "history", "flows"],
                json!({ "name": text(), "health": optional(of("Health")), "history": list(of("Health")), "flows": optional(integer()) }),
            )),
        ),
        shape(
            "Flows",
            object(
                &["flows", "total"],
                json!({
                    "flows": list(object(
                        &["id", "mapping", "upstream", "protocol", "client", "destination", "began", "upBytes", "downBytes"],
                        json!({
                            "id": integer(), "mapping": text(), "upstream": text(), "protocol": text(), "client": text(),
                            "destination": text(), "began": integer(), "upBytes": integer(), "downBytes": integer(),
                        }),
                    )),
                    "total": integer(),
                }),
            ),
        ),
        shape("CloseBody", object(&[], json!({ "flow": integer(), "client": text() }))),
        shape("Closed", object(&["flows"], json!({ "flows": integer() }))),
        shape("ProbeBody", object(&[], json!({ "upstreams": list(text()) }))),
        shape("Probed", object(&["health"], json!({ "health": { "type": "object", "additionalProperties": of("Health") } }))),
        shape("Secrets", object(&["set", "missing"], json!({ "set": list(text()), "missing": list(text()) }))),
        shape("SecretBody", object(&["value"], json!({ "value": text() }))),
        shape("ImportBody", object(&["version", "csv"], json!({ "version": integer(), "csv": text() }))),
    ]
}

fn log() -> Shapes {
    vec![
        shape(
            "AuditEntry",
            object(
                &["number", "at", "user", "address", "action", "subject", "before", "after", "detail", "hash"],
                json!({
                    "number": integer(), "at": integer(), "user": text(), "address": optional(text()), "action": text(), "subject": text(),
                    "before": optional(text()), "after": optional(text()), "detail": text(), "hash": of("Digest"),
                }),
            ),
        ),
        shape("AuditEntries", list(of("AuditEntry"))),
        shape(
            "AuditVerdict",
            object(
                &["intact", "entries", "checkpoints", "fault"],
                json!({
                    "intact": flag(), "entries": integer(), "checkpoints": integer(),
                    "fault": optional(object(&["entry", "text"], json!({ "entry": integer(), "text": text() }))),
                }),
            ),
        ),
        shape(
            "AuditExport",
            object(
                &["format", "chain", "genesis", "entries", "checkpoints", "next"],
                json!({
                    "format": text(), "chain": text(), "genesis": of("Digest"), "entries": of("AuditEntries"),
                    "checkpoints": list(object(
                        &["first", "last", "root", "at"],
                        json!({ "first": integer(), "last": integer(), "root": of("Digest"), "at": integer() }),
                    )),
                    "next": optional(integer()),
                }),
            ),
        ),
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
