//! A short memory of the links' counters, from which rates are told. It is lost on restart, and says so by being short.

use std::collections::{BTreeMap, VecDeque};

use policy::messages::Counters;

/// Samples kept; with one every second that is four minutes.
pub const KEPT: usize = 241;

#[derive(Debug, Default)]
pub struct Traffic {
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    /// Milliseconds since the epoch, by the applier's clock.
    at: u64,
    /// Received and sent bytes of each link.
    links: BTreeMap<String, (u64, u64)>,
}

/// Bytes a second, received and sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub rx: f64,
    pub tx: f64,
}

impl Traffic {
    /// Takes in what the applier told; the same answer twice counts once.
    pub fn remember(&mut self, counters: &Counters) {
        if self.samples.back().is_some_and(|last| last.at >= counters.at) {
            return;
        }
        let links = counters.links.iter().map(|(name, link)| (name.clone(), (link.rx_bytes, link.tx_bytes))).collect();
        self.samples.push_back(Sample { at: counters.at, links });
        while self.samples.len() > KEPT {
            self.samples.pop_front();
        }
    }

    /// Over the last few seconds; None until two samples exist, or after the link's counters began anew.
    pub fn rate(&self, link: &str) -> Option<Rate> {
        self.rates(link).last().copied().flatten()
    }

    /// How far back the memory reaches, in milliseconds.
    pub fn span(&self) -> Option<u64> {
        Some(self.samples.back()?.at - self.samples.front()?.at).filter(|span| *span > 0)
    }

    /// One rate for each pair of neighbouring samples; a counter that fell has no rate.
    pub fn rates(&self, link: &str) -> Vec<Option<Rate>> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        pairs
            .map(|(before, after)| {
                let ((rx0, tx0), (rx1, tx1)) = (before.links.get(link)?, after.links.get(link)?);
                let seconds = (after.at - before.at) as f64 / 1000.0;
                Some(Rate { rx: rx1.checked_sub(*rx0)? as f64 / seconds, tx: tx1.checked_sub(*tx0)? as f64 / seconds })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::messages::LinkCounters;

    fn counters(at: u64, rx_bytes: u64) -> Counters {
        let link = LinkCounters { up: true, rx_bytes, ..LinkCounters::default() };
        Counters { at, links: BTreeMap::from([("wan0".to_owned(), link)]), ..Counters::default() }
    }

    #[test]
    fn a_rate_needs_two_samples_and_survives_a_counter_that_begins_anew() {
        let mut traffic = Traffic::default();
        traffic.remember(&counters(1000, 500));
        assert_eq!(traffic.rate("wan0"), None);
        traffic.remember(&counters(3000, 2500));
        assert_eq!(traffic.rate("wan0"), Some(Rate { rx: 1000.0, tx: 0.0 }));
        traffic.remember(&counters(3000, 9999));
        assert_eq!(traffic.rate("wan0"), Some(Rate { rx: 1000.0, tx: 0.0 }), "the same moment told twice");
        traffic.remember(&counters(5000, 10));
        assert_eq!(traffic.rate("wan0"), None, "the counter fell");
        assert_eq!(traffic.rate("lan0"), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut traffic = Traffic::default();
        for n in 0..1000 {
            traffic.remember(&counters(n * 1000, n * n));
        }
        assert_eq!(traffic.span(), Some(240_000));
        assert_eq!(traffic.rates("wan0").len(), KEPT - 1);
    }
}
