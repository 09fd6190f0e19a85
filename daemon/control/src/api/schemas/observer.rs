//! What was seen.

use serde_json::json;

use super::{Shapes, flag, integer, list, object, of, optional, shape, text};

pub fn observer() -> Shapes {
    let severity = json!({ "type": "string", "enum": ["info", "warning", "critical"] });
    let event = object(
        &[
            "id",
            "at",
            "kind",
            "source",
            "sourcePort",
            "destination",
            "destinationPort",
            "protocol",
            "signature",
            "message",
            "severity",
            "flow",
        ],
        json!({
            "id": integer(), "at": integer(), "kind": text(), "source": optional(text()), "sourcePort": optional(integer()),
            "destination": optional(text()), "destinationPort": optional(integer()), "protocol": optional(integer()),
            "signature": optional(integer()), "message": text(), "severity": severity, "flow": optional(integer()),
        }),
    );
    let alert = object(
        &["id", "rule", "severity", "title", "source", "destination", "count", "first", "last", "event", "acknowledged"],
        json!({
            "id": integer(), "rule": text(), "severity": severity, "title": text(), "source": optional(text()), "destination": optional(text()),
            "count": integer(), "first": integer(), "last": integer(), "event": integer(),
            "acknowledged": optional(object(&["by", "at"], json!({ "by": text(), "at": integer() }))),
        }),
    );
    let source = object(
        &["name", "open", "events", "last"],
        json!({ "name": text(), "open": flag(), "events": integer(), "last": optional(integer()) }),
    );
    let suppression = object(
        &["id", "rule", "source", "until", "by", "reason"],
        json!({ "id": integer(), "rule": text(), "source": optional(text()), "until": integer(), "by": text(), "reason": text() }),
    );
    let known = ["sources", "stored", "dropped", "garbled", "lagUs", "alertsOpen", "partitions", "bytes", "bytesMax", "oldest", "troubles"];
    vec![
        shape("Event", event),
        shape("Alert", alert),
        shape("Events", object(&["events", "older"], json!({ "events": list(of("Event")), "older": optional(integer()) }))),
        shape(
            "OneEvent",
            object(&["event", "line", "lost"], json!({ "event": of("Event"), "line": optional(text()), "lost": optional(text()) })),
        ),
        shape(
            "Alerts",
            object(&["alerts", "older", "open"], json!({ "alerts": list(of("Alert")), "older": optional(integer()), "open": integer() })),
        ),
        shape("AcknowledgeBody", object(&["alerts"], json!({ "alerts": list(integer()) }))),
        shape("Acknowledged", object(&["alerts"], json!({ "alerts": integer() }))),
        shape("Suppressions", list(suppression)),
        shape(
            "SuppressionBody",
            object(&["rule", "until", "reason"], json!({ "rule": text(), "source": text(), "until": integer(), "reason": text() })),
        ),
        shape(
            "Observer",
            object(
                &known,
                json!({
                    "sources": list(source), "stored": integer(), "dropped": integer(), "garbled": integer(), "lagUs": integer(),
                    "alertsOpen": integer(), "partitions": integer(), "bytes": integer(), "bytesMax": integer(),
                    "oldest": optional(integer()), "troubles": list(text()),
                }),
            ),
        ),
    ]
}
