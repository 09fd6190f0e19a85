//! Mapped clients: `policy::messages::proxy` and `policy::messages::forwarder`, put together.

use serde_json::json;

use super::{Shapes, flag, integer, list, object, of, optional, shape, text};

pub fn proxy() -> Shapes {
    let by_word = json!({ "type": "object", "additionalProperties": integer() });
    let datagrams = object(
        &["up", "down", "questions", "failedQuestions", "dropped"],
        json!({
            "up": integer(), "down": integer(), "questions": integer(), "failedQuestions": integer(), "dropped": by_word,
        }),
    );
    let forwarder = object(
        &[
            "startedAt",
            "generation",
            "flows",
            "protocols",
            "descriptors",
            "descriptorsMax",
            "pipes",
            "healthRounds",
            "refusedFlows",
            "datagrams",
        ],
        json!({
            "startedAt": integer(), "generation": optional(integer()), "flows": integer(), "protocols": by_word, "descriptors": integer(),
            "descriptorsMax": integer(), "pipes": integer(), "healthRounds": integer(), "refusedFlows": integer(), "datagrams": datagrams,
        }),
    );
    let why = object(
        &["because", "text"],
        json!({
            "because": {
                "type": "string",
                "enum": [
                    "no-forwarder", "upstream-down", "wrong-exit", "daily-quota", "monthly-quota", "schedule", "disabled", "secret-missing",
                ],
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
