//! What a sensor calls an alert is one.

use policy::messages::observer::EventKind;

use super::Finding;
use crate::seen::Seen;

pub fn see(seen: &Seen) -> Option<Finding> {
    let signature = seen.signature.filter(|_| seen.kind == EventKind::Alert)?;
    let blocked = if seen.blocked { " (blocked)" } else { "" };
    Some(Finding {
        rule: format!("signature-{signature}"),
        severity: seen.severity,
        title: format!("{}{blocked}", seen.message),
        source: seen.source,
        destination: seen.destination,
    })
}
