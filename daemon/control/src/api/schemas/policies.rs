//! Policies: the candidate, what it would change, and revisions.

use serde_json::json;

use super::{Shapes, flag, integer, list, object, of, optional, shape, text};

pub fn policies() -> Shapes {
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
                &["version", "digest", "running", "textDiff", "changes", "carried", "plan"],
                json!({
                    "version": integer(), "digest": of("Digest"), "running": optional(of("Digest")),
                    "textDiff": text(), "changes": text(), "carried": list(text()), "plan": text(),
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
                &["from", "to", "text", "changes", "carried"],
                json!({ "from": of("Digest"), "to": of("Digest"), "text": text(), "changes": text(), "carried": list(text()) }),
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
                    "mac": { "type": "string", "description": "The sender's hardware address, by which it may be mapped" },
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
