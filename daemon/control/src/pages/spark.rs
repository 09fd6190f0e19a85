//! The traffic of a link as a line: an SVG of 120 by 28, newest at the right.

use serde::Serialize;

use super::format;
use crate::traffic::{KEPT, Rate, Traffic};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spark {
    /// Under which key live updates come.
    pub key: String,
    pub rx: String,
    pub tx: String,
    /// The area under `rx`.
    pub fill: String,
    pub peak: String,
}

/// Samples under one point, so that a page with many links stays small.
const PER_POINT: usize = 2;

/// None until there are two points to draw a line between.
pub fn spark(traffic: &Traffic, link: &str) -> Option<Spark> {
    let rates = traffic.rates(link);
    let points = points(&rates);
    let ((first, _), (last, _)) = (points.first().filter(|_| points.len() > 1)?, points.last()?);
    let peak = points.iter().map(|(_, rate)| rate.rx.max(rate.tx)).fold(0.0, f64::max);
    let line = |of: fn(&Rate) -> f64| -> String {
        let point = |(x, rate): &(usize, Rate)| format!("{x},{:.1}", 26.0 - 24.0 * of(rate) / peak.max(1.0));
        points.iter().map(point).collect::<Vec<_>>().join(" ")
    };
    let rx = line(|rate| rate.rx);
    let fill = format!("{first},27 {rx} {last},27");
    Some(Spark { key: format!("link.{link}.spark"), tx: line(|rate| rate.tx), rx, fill, peak: format!("peak {}", format::rate(peak)) })
}

/// Where on the line, and the mean of what is known there. The newest sample is at 120.
fn points(rates: &[Option<Rate>]) -> Vec<(usize, Rate)> {
    let right = (KEPT - 1) / PER_POINT;
    let mean = |(back, group): (usize, &[Option<Rate>])| {
        let known: Vec<&Rate> = group.iter().flatten().collect();
        let count = known.len() as f64;
        let rate =
            Rate { rx: known.iter().map(|rate| rate.rx).sum::<f64>() / count, tx: known.iter().map(|rate| rate.tx).sum::<f64>() / count };
        (!known.is_empty()).then(|| (right - back, rate))
    };
    let mut points: Vec<_> = rates.rchunks(PER_POINT).enumerate().filter_map(mean).collect();
    points.reverse();
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::sample;

    #[test]
    fn a_line_ends_at_the_right_and_stays_in_its_frame() {
        let mut traffic = Traffic::default();
        for n in 0..100 {
            traffic.remember(&sample::counters(sample::NOW + n * 1000));
        }
        let spark = spark(&traffic, "wan0").expect("enough samples");
        let last = spark.rx.rsplit(' ').next().unwrap_or_default();
        assert!(last.starts_with("120,"), "{}", spark.rx);
        let heights: Vec<f64> = spark.rx.split(' ').filter_map(|point| point.split_once(',')?.1.parse().ok()).collect();
        assert!(heights.len() == 50 && heights.iter().all(|y| (2.0..=26.0).contains(y)), "{heights:?}");
        assert_eq!(super::spark(&traffic, "nothing0"), None);
        assert_eq!(super::spark(&Traffic::default(), "wan0"), None);
    }
}
