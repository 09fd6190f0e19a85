//! What the forwarder carries by protocol, and which datagrams it dropped and why.

use std::collections::BTreeMap;

use policy::messages::forwarder::ForwarderStatus;
use serde::Serialize;

use super::format;

/// A figure that moves while one looks.
#[derive(Debug, Serialize)]
pub struct Figure {
    key: &'static str,
    label: &'static str,
    value: String,
}

pub fn figures(status: Option<&ForwarderStatus>) -> Vec<Figure> {
    let Some(status) = status else { return Vec::new() };
    let datagrams = &status.datagrams;
    let count = format::count;
    let flows: Vec<String> = status.protocols.iter().map(|(protocol, flows)| format!("{} {protocol}", count(*flows))).collect();
    let dropped: Vec<String> = datagrams
        .dropped
        .iter()
        .filter(|(_, dropped)| **dropped > 0)
        .map(|(reason, dropped)| format!("{} {}", count(*dropped), words(reason)))
        .collect();
    let or_none = |all: Vec<String>| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    let figure = |key, label, value| Figure { key, label, value };
    vec![
        figure("carried.protocols", "Flows open", or_none(flows)),
        figure(
            "carried.datagrams",
            "Datagrams carried",
            format!("{} from clients, {} to them", count(datagrams.up), count(datagrams.down)),
        ),
        figure(
            "carried.questions",
            "Name questions",
            format!("{} taken, {} without an answer", count(datagrams.questions), count(datagrams.failed_questions)),
        ),
        figure("carried.dropped", "Datagrams dropped", or_none(dropped)),
        figure("carried.refused", "Flows refused at a limit", count(status.refused_flows)),
    ]
}

pub fn live(status: Option<&ForwarderStatus>) -> BTreeMap<String, String> {
    figures(status).into_iter().map(|figure| (figure.key.to_owned(), figure.value)).collect()
}

fn words(reason: &str) -> &str {
    match reason {
        "no-mapping" => "of nobody's client",
        "not-carried" => "because the mapping carries none",
        "upstream-without-udp" => "because the upstream carries none",
        "no-upstream" => "without an upstream",
        "limit" => "at a limit",
        "unasked" => "that nobody asked for",
        "unreadable" => "unreadable answers",
        "unanswerable" => "answers that could not be given",
        "malformed-question" => "that were no questions",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::sample;

    #[test]
    fn drops_are_told_with_their_reason_and_what_never_happened_is_not() {
        let live = live(Some(&sample::forwarder_status()));
        assert_eq!(live["carried.dropped"], "4,200 because the upstream carries none");
        assert_eq!(live["carried.datagrams"], "310 from clients, 305 to them");
        assert_eq!(live["carried.protocols"], "2 tcp");
        assert!(figures(None).is_empty(), "nothing is made up");
    }
}
