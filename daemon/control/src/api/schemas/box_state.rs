//! The applier's own words, passed on as they are (`policy::messages`), and the audit log.

use serde_json::json;

use super::{Shapes, flag, integer, list, object, of, optional, shape, text};

pub fn applier() -> Shapes {
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

pub fn log() -> Shapes {
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
