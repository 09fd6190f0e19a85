//! What the updater says.

use serde_json::json;

use super::{Shapes, integer, list, object, optional, shape, text};

pub fn update() -> Shapes {
    let slot = object(
        &["label", "version", "state", "booted"],
        json!({ "label": text(), "version": optional(text()), "state": { "type": "object" }, "booted": { "type": "boolean" } }),
    );
    let work = object(
        &["step", "version", "done", "total", "reason"],
        json!({ "step": text(), "version": optional(text()), "done": integer(), "total": integer(), "reason": optional(text()) }),
    );
    let last = object(
        &["at", "from", "version", "by", "outcome", "reason"],
        json!({ "at": integer(), "from": text(), "version": text(), "by": text(), "outcome": text(), "reason": optional(text()) }),
    );
    let file = object(&["name", "size"], json!({ "name": text(), "size": integer() }));
    let stick = object(
        &["name", "label", "fileSystem", "size", "free", "writable", "files"],
        json!({
            "name": text(), "label": text(), "fileSystem": text(), "size": integer(), "free": integer(),
            "writable": { "type": "boolean" }, "files": list(file),
        }),
    );
    vec![
        shape(
            "UpdateStatus",
            object(
                &["now", "product", "version", "recipe", "keys", "slots", "work", "lastUpdate"],
                json!({
                    "now": integer(), "product": text(), "version": text(), "recipe": text(), "keys": list(text()), "slots": list(slot),
                    "work": optional(work), "lastUpdate": optional(last),
                }),
            ),
        ),
        shape("UpdateSource", object(&[], json!({ "url": text(), "stick": text(), "path": text() }))),
        shape(
            "BundleFacts",
            object(
                &["product", "version", "recipe", "configSchema", "size", "key"],
                json!({
                    "product": text(), "version": text(), "recipe": text(), "configSchema": integer(), "size": integer(), "key": text(),
                }),
            ),
        ),
        shape("Sticks", object(&["sticks"], json!({ "sticks": list(stick) }))),
    ]
}
