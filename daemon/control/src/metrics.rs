//! `/metrics`: figures for Prometheus, in its text format (version 0.0.4). What nobody answers for is absent, never zero.

use std::fmt::Write;

use policy::messages::Counters;
use policy::messages::forwarder::ForwarderStatus;
use policy::messages::proxy::ProxyStatus;

use crate::carried::{self, Known};
use crate::http::{Access, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[Route { method: Method::Get, path: "/metrics", access: Access::May(Action::View), handler: serve }];

fn serve(visit: &Visit) -> Result<Response, Trouble> {
    let site = visit.site;
    let text = text(site.applier.seen().counters.as_ref(), &site.carried.look(site));
    Ok(Response::new(200, "text/plain; version=0.0.4; charset=utf-8", text))
}

/// Everything that is known, family by family.
pub fn text(counters: Option<&Counters>, known: &Known) -> String {
    let mut page = Page::default();
    page.gauge("portcullis_applier_up", "Whether the applier answers.");
    page.sample(&[], u64::from(known.applier.is_some()));
    page.gauge("portcullis_forwarder_up", "Whether the forwarder answers.");
    page.sample(&[], u64::from(known.forwarder.is_some()));
    upstreams(&mut page, known);
    if let Some(applier) = &known.applier {
        clients(&mut page, applier);
    }
    if let Some(forwarder) = &known.forwarder {
        carried(&mut page, forwarder);
    }
    if let Some(counters) = counters {
        kernel(&mut page, counters);
    }
    page.text
}

fn upstreams(page: &mut Page, known: &Known) {
    let appliers = known.applier.iter().flat_map(|status| status.upstreams.keys());
    let forwarders = known.forwarder.iter().flat_map(|status| status.upstreams.keys());
    let names: std::collections::BTreeSet<_> = appliers.chain(forwarders).collect();
    let all: Vec<_> = names.into_iter().filter_map(|name| Some((name.as_str(), known.health(name)?))).collect();
    page.gauge("portcullis_upstream_up", "Whether the upstream carries, by the last word on it.");
    for (name, health) in &all {
        page.sample(&[("upstream", name)], u64::from(carried::carries(health.status)));
    }
    page.gauge("portcullis_upstream_latency_seconds", "From connecting to the first byte of the last good probe's answer.");
    for (name, health) in &all {
        if let Some(latency) = health.latency_us {
            page.sample(&[("upstream", name)], latency as f64 / 1e6);
        }
    }
    page.gauge("portcullis_upstream_checked_timestamp_seconds", "When the upstream was last heard of.");
    for (name, health) in &all {
        page.sample(&[("upstream", name)], health.at as f64 / 1e3);
    }
}

fn clients(page: &mut Page, status: &ProxyStatus) {
    page.gauge(
        "portcullis_forwarder_connected",
        "Whether the applier has the forwarder on its link; without it every mapped client is blocked.",
    );
    page.sample(&[], u64::from(status.forwarder_connected));
    page.gauge("portcullis_client_permitted", "Whether the mapping's clients are let in.");
    for (name, effect) in &status.mappings {
        page.sample(&[("mapping", name.as_str())], u64::from(effect.permitted));
    }
    page.gauge("portcullis_client_blocked", "1 for the reason why the mapping's clients are blocked; absent while they are permitted.");
    for (name, effect) in &status.mappings {
        if !effect.permitted {
            let reason = effect.blocked.as_ref().map_or("unknown", carried::reason);
            page.sample(&[("mapping", name.as_str()), ("reason", reason)], 1);
        }
    }
    page.gauge("portcullis_quota_used_bytes", "Bytes of this day and month, both directions.");
    for (name, effect) in &status.mappings {
        page.sample(&[("mapping", name.as_str()), ("period", "day")], effect.today);
        page.sample(&[("mapping", name.as_str()), ("period", "month")], effect.this_month);
    }
    page.gauge("portcullis_quota_limit_bytes", "Bytes after which the mapping is blocked; absent where there is no limit.");
    for (name, effect) in &status.mappings {
        for (period, limit) in [("day", effect.daily), ("month", effect.monthly)] {
            if let Some(limit) = limit {
                page.sample(&[("mapping", name.as_str()), ("period", period)], limit);
            }
        }
    }
    page.gauge("portcullis_secrets_missing", "Secrets that the policy names and nobody has set.");
    page.sample(&[], status.secrets_missing.len() as u64);
}

fn carried(page: &mut Page, status: &ForwarderStatus) {
    page.gauge("portcullis_forwarder_start_time_seconds", "When the forwarder started; its counters count from there.");
    page.sample(&[], status.started_at as f64 / 1e3);
    page.gauge("portcullis_forwarder_flows", "Flows that are open.");
    for (name, traffic) in &status.mappings {
        page.sample(&[("mapping", name.as_str())], traffic.flows);
    }
    page.counter("portcullis_forwarder_connections_total", "Connections that clients asked for and that were carried or failed.");
    for (name, traffic) in &status.mappings {
        page.sample(&[("mapping", name.as_str())], traffic.connections);
    }
    page.counter("portcullis_forwarder_failed_connections_total", "Connections that no upstream could make.");
    for (name, traffic) in &status.mappings {
        page.sample(&[("mapping", name.as_str())], traffic.failed_connections);
    }
    page.counter("portcullis_forwarder_bytes_total", "Bytes carried; up is from the client.");
    for (name, traffic) in &status.mappings {
        page.sample(&[("mapping", name.as_str()), ("direction", "up")], traffic.up_bytes);
        page.sample(&[("mapping", name.as_str()), ("direction", "down")], traffic.down_bytes);
    }
    page.counter("portcullis_health_rounds_total", "Rounds in which every upstream was probed.");
    page.sample(&[], status.health_rounds);
    page.counter("portcullis_forwarder_refused_flows_total", "Flows refused because a limit was reached.");
    page.sample(&[], status.refused_flows);
    page.gauge("portcullis_forwarder_protocol_flows", "Flows that are open, by protocol.");
    for (protocol, flows) in &status.protocols {
        page.sample(&[("protocol", protocol)], flows);
    }
    page.counter("portcullis_forwarder_datagrams_total", "Datagrams carried; up is from the client.");
    page.sample(&[("direction", "up")], status.datagrams.up);
    page.sample(&[("direction", "down")], status.datagrams.down);
    page.counter("portcullis_forwarder_dropped_datagrams_total", "Datagrams of mapped clients, and answers to them, that were dropped.");
    for (reason, count) in &status.datagrams.dropped {
        page.sample(&[("reason", reason)], count);
    }
    page.counter("portcullis_forwarder_questions_total", "Questions to port 53 that were taken.");
    page.sample(&[], status.datagrams.questions);
    page.counter("portcullis_forwarder_failed_questions_total", "Of those, answered by SERVFAIL because nobody else answered.");
    page.sample(&[], status.datagrams.failed_questions);
    page.gauge("portcullis_forwarder_descriptors", "Descriptors in use.");
    page.sample(&[], status.descriptors);
    page.gauge("portcullis_forwarder_descriptors_max", "Descriptors that the forwarder may have.");
    page.sample(&[], status.descriptors_max);
    page.gauge("portcullis_forwarder_pipes", "Pipes of bulk flows.");
    page.sample(&[], status.pipes);
}

fn kernel(page: &mut Page, counters: &Counters) {
    page.gauge("portcullis_connections", "Entries in the connection table.");
    page.sample(&[], counters.connections);
    page.gauge("portcullis_connections_max", "Entries that the connection table may have.");
    page.sample(&[], counters.connections_max);
    page.gauge("portcullis_link_up", "Whether the link is up.");
    for (name, link) in &counters.links {
        page.sample(&[("link", name)], u64::from(link.up));
    }
    page.counter("portcullis_link_received_bytes_total", "Bytes received on the link.");
    for (name, link) in &counters.links {
        page.sample(&[("link", name)], link.rx_bytes);
    }
    page.counter("portcullis_link_sent_bytes_total", "Bytes sent on the link.");
    for (name, link) in &counters.links {
        page.sample(&[("link", name)], link.tx_bytes);
    }
    page.counter("portcullis_rule_packets_total", "Packets of the rule since the generation was installed.");
    for (id, tally) in &counters.rules {
        page.sample(&[("rule", id)], tally.packets);
    }
    page.counter("portcullis_rule_bytes_total", "Bytes of the rule since the generation was installed.");
    for (id, tally) in &counters.rules {
        page.sample(&[("rule", id)], tally.bytes);
    }
}

/// Samples stand below the head of their family, which is written with the first of them.
#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
    head: String,
}

impl Page {
    fn gauge(&mut self, name: &'static str, help: &str) {
        self.family(name, "gauge", help);
    }

    fn counter(&mut self, name: &'static str, help: &str) {
        self.family(name, "counter", help);
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        self.head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(&std::mem::take(&mut self.head));
        self.text.push_str(self.name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"{}\"", if at == 0 { '{' } else { ',' }, escaped(text));
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::sample;

    fn known() -> Known {
        Known { applier: Some(sample::proxy_status()), forwarder: Some(sample::forwarder_status()), ..Known::default() }
    }

    #[test]
    fn every_family_has_one_head_and_every_sample_its_family() {
        let text = text(Some(&sample::counters(sample::NOW)), &known());
        let mut families = std::collections::BTreeSet::new();
        let mut current = "";
        for line in text.lines() {
            if let Some(head) = line.strip_prefix("# TYPE ") {
                let (name, kind) = head.split_once(' ').expect("a kind");
                assert!(families.insert(name), "{name} stands twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
                assert!(name.starts_with("portcullis_") && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
                current = name;
            } else if !line.starts_with("# HELP ") {
                let end = line.find(['{', ' ']).expect("a value");
                assert_eq!(&line[..end], current, "{line}");
                let value = line.rsplit(' ').next().expect("a value");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(families.len() > 25, "{families:?}");
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn what_is_asked_for_most_stands_there_as_people_will_query_it() {
        let text = text(Some(&sample::counters(sample::NOW)), &known());
        for line in [
            "portcullis_upstream_up{upstream=\"berlin\"} 1",
            "portcullis_upstream_up{upstream=\"oslo\"} 0",
            "portcullis_upstream_latency_seconds{upstream=\"berlin\"} 0.034",
            "portcullis_client_permitted{mapping=\"anna\"} 1",
            "portcullis_client_blocked{mapping=\"printer\",reason=\"upstream-down\"} 1",
            "portcullis_client_blocked{mapping=\"tv\",reason=\"daily-quota\"} 1",
            "portcullis_forwarder_flows{mapping=\"anna\"} 2",
            "portcullis_forwarder_bytes_total{mapping=\"anna\",direction=\"down\"} 64000000",
            "portcullis_health_rounds_total 120",
            "portcullis_forwarder_protocol_flows{protocol=\"tcp\"} 2",
            "portcullis_forwarder_datagrams_total{direction=\"up\"} 310",
            "portcullis_forwarder_dropped_datagrams_total{reason=\"upstream-without-udp\"} 4200",
            "portcullis_forwarder_questions_total 42",
            "portcullis_quota_limit_bytes{mapping=\"anna\",period=\"day\"} 1000000000",
            "portcullis_rule_packets_total{rule=\"lan-out/web\"} 81234",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
        }
        assert!(!text.contains("client_blocked{mapping=\"anna\""), "a permitted client has no reason");
    }

    #[test]
    fn what_nobody_answers_for_is_absent_and_not_zero() {
        let text = text(None, &Known::default());
        assert_eq!(
            text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(),
            ["portcullis_applier_up 0", "portcullis_forwarder_up 0"]
        );
    }

    #[test]
    fn a_label_cannot_end_early() {
        let mut page = Page::default();
        page.gauge("x", "X.");
        page.sample(&[("a", "b\"} 1\nevil{c=\"\\")], 1);
        assert_eq!(page.text.lines().last(), Some(r#"x{a="b\"} 1\nevil{c=\"\\"} 1"#));
    }
}
