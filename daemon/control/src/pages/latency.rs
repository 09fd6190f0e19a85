//! The probes of an upstream as a line: an SVG of 120 by 28, newest at the right, with a mark for each that failed.

use policy::messages::forwarder::{Health, HealthStatus};
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Under which key live updates come.
    pub key: String,
    pub line: String,
    /// A path of vertical strokes.
    pub fails: String,
    /// For those who do not see it.
    pub label: String,
}

/// Two hours hold 240 probes; a page with many upstreams must stay small.
const MOST: usize = 60;

/// None until there are two probes to draw a line between.
pub fn latency(history: &[Health], key: impl Into<String>) -> Option<Latency> {
    let probes: Vec<&Health> = history.iter().filter(|health| health.status != HealthStatus::Unknown).collect();
    let probes = &probes[probes.len().saturating_sub(MOST)..];
    if probes.len() < 2 {
        return None;
    }
    let x = |at: usize| 120 - 2 * (probes.len() - 1 - at);
    let slowest = probes.iter().filter_map(|health| health.latency_us).max().unwrap_or(0).max(1);
    let known: Vec<(usize, u64)> = probes.iter().enumerate().filter_map(|(at, health)| Some((at, health.latency_us?))).collect();
    let line = known.iter().map(|(at, latency)| format!("{},{:.1}", x(*at), 26.0 - 22.0 * *latency as f64 / slowest as f64));
    let failed: Vec<usize> =
        probes.iter().enumerate().filter(|(_, health)| health.status == HealthStatus::Failed).map(|(at, _)| at).collect();
    let label = match known.iter().map(|(_, latency)| *latency).max() {
        None => format!("All of the last {} probes failed", probes.len()),
        Some(_) => {
            let mut sorted: Vec<u64> = known.iter().map(|(_, latency)| *latency).collect();
            sorted.sort_unstable();
            let median = say(sorted[sorted.len() / 2]);
            format!("Median {median}, slowest {}, {} of the last {} probes failed", say(slowest), failed.len(), probes.len())
        }
    };
    Some(Latency {
        key: key.into(),
        line: line.collect::<Vec<_>>().join(" "),
        fails: failed.iter().map(|at| format!("M{} 1V27", x(*at))).collect(),
        label,
    })
}

/// Microseconds as people read them.
pub fn say(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..10_000 => format!("{:.1} ms", microseconds as f64 / 1e3),
        10_000..10_000_000 => format!("{} ms", microseconds / 1_000),
        _ => format!("{:.1} s", microseconds as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::sample;

    #[test]
    fn the_line_ends_at_the_right_and_failures_are_marked() {
        let status = sample::forwarder_status();
        let oslo = latency(&status.upstreams[&sample::name("oslo")].history, "k").expect("enough probes");
        assert_eq!(oslo.fails.matches('M').count(), 20);
        assert!(oslo.fails.ends_with("M120 1V27"), "{}", oslo.fails);
        assert_eq!(oslo.label, "Median 33 ms, slowest 36 ms, 20 of the last 60 probes failed");
        let heights: Vec<f64> = oslo.line.split(' ').filter_map(|point| point.split_once(',')?.1.parse().ok()).collect();
        assert!(heights.len() == 40 && heights.iter().all(|y| (2.0..=26.0).contains(y)), "{heights:?}");
        assert_eq!(latency(&[], "k"), None);
        assert_eq!(
            latency(&[sample::health(1, HealthStatus::Failed, 0), sample::health(0, HealthStatus::Failed, 0)], "k")
                .map(|l| l.label)
                .as_deref(),
            Some("All of the last 2 probes failed")
        );
    }
}
