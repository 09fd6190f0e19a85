//! Bytes as they arrive, in pieces of any size, become batches of events.

use memchr::memchr_iter;

use crate::eve;
use crate::seen::Batch;

/// What is left over of the last piece, and whether it is being thrown away until its end.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// All whole lines of the piece and of what was left over before it. None: there was none.
    pub fn push(&mut self, piece: &[u8], now: i64) -> Option<Batch> {
        let last = memchr::memrchr(b'\n', piece);
        let Some(last) = last else {
            self.keep(piece);
            return None;
        };
        let mut batch = Batch { lines: std::mem::take(&mut self.rest), seen: Vec::with_capacity(last / 400 + 1), garbled: 0, arrived: now };
        // The first line ends what was left over; where that was given up, it counts as garbage and its end is skipped.
        let skipped = if std::mem::take(&mut self.too_long) { memchr::memchr(b'\n', piece).map_or(0, |end| end + 1) } else { 0 };
        if skipped > 0 {
            batch.lines.clear();
            batch.garbled += 1;
        }
        batch.lines.extend_from_slice(&piece[skipped..=last.max(skipped.saturating_sub(1))]);
        let mut start = 0;
        let ends: Vec<usize> = memchr_iter(b'\n', &batch.lines).collect();
        for end in ends {
            let line = batch.lines[start..end].trim_ascii();
            match eve::read(line).filter(|_| line.len() <= eve::MOST_LINE) {
                Some(mut seen) => {
                    seen.line = start as u32..end as u32;
                    batch.seen.push(seen);
                }
                None if line.is_empty() || is_stats(line) => {}
                None => batch.garbled += 1,
            }
            start = end + 1;
        }
        self.keep(&piece[last + 1..]);
        Some(batch)
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.too_long {
            return;
        }
        self.rest.extend_from_slice(piece);
        if self.rest.len() > eve::MOST_LINE {
            self.too_long = true;
            self.rest = Vec::new();
        }
    }
}

/// Suricata's own counters are no events and no garbage.
fn is_stats(line: &[u8]) -> bool {
    memchr::memmem::find(line, br#""event_type":"stats""#).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVENT: &str = r#"{"timestamp":"2026-11-28T06:33:01.123456+0000","event_type":"flow"}"#;

    fn feed(bytes: &[u8], piece: usize) -> (usize, u64, Vec<String>) {
        let mut lines = Lines::default();
        let (mut events, mut garbled, mut texts) = (0, 0, Vec::new());
        for piece in bytes.chunks(piece) {
            if let Some(batch) = lines.push(piece, 0) {
                events += batch.seen.len();
                garbled += batch.garbled;
                texts.extend(
                    batch
                        .seen
                        .iter()
                        .map(|seen| String::from_utf8_lossy(&batch.lines[seen.line.start as usize..seen.line.end as usize]).into_owned()),
                );
            }
        }
        (events, garbled, texts)
    }

    proptest! {
        #[test]
        fn any_cutting_into_pieces_gives_the_same_events(piece in 1_usize..400, garbage in "[a-z\\[{\"]{1,40}") {
            let text = format!("{EVENT}\n{garbage}\n\n{EVENT}\r\n{{\"event_type\":\"stats\"}}\n{EVENT}\n{EVENT}");
            let (events, garbled, texts) = feed(text.as_bytes(), piece);
            prop_assert_eq!((events, garbled), (3, 1));
            prop_assert!(texts.iter().all(|text| text.trim_end() == EVENT));
        }
    }

    #[test]
    fn a_line_without_end_costs_bounded_memory_and_the_next_one_is_read() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            assert!(lines.push(&[b'x'; 65_536], 0).is_none());
            assert!(lines.rest.capacity() < 2 * eve::MOST_LINE);
        }
        let batch = lines.push(format!("end\n{EVENT}\n").as_bytes(), 0).unwrap();
        assert_eq!((batch.seen.len(), batch.garbled), (1, 1));
    }
}
