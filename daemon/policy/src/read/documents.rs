//! A file's text cut into YAML documents.
//!
//! A line that begins with `---` begins a document, and no construct of YAML may run across it (YAML 1.2.2, section
//! 9.1.2), so cutting there is exact. Each document is then parsed by itself: a mistake in one hides nothing in the others.

use std::ops::Range;

/// One document: its text is `text[range]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub range: Range<usize>,
    /// The line of the file on which the range begins, from 1.
    pub line: u32,
}

/// Documents of one file. A resource each: nobody has more, but four bytes are enough for a document.
pub const MOST_DOCUMENTS: usize = 200_000;

/// Ranges that together are the whole text, in order; of hostile texts only its beginning. Each begins at a `---`, except the first.
pub fn documents(text: &str) -> Vec<Document> {
    let mut found = Vec::new();
    let (mut start, mut first_line, mut offset) = (0, 1, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if begins_document(line) && offset > start {
            if found.len() > MOST_DOCUMENTS {
                return found;
            }
            found.push(Document { range: start..offset, line: first_line });
            (start, first_line) = (offset, number);
        }
        offset += line.len();
    }
    if offset > start {
        found.push(Document { range: start..offset, line: first_line });
    }
    found
}

fn begins_document(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_belongs_to_one_document_and_lines_are_counted() {
        let text = "# head\n---\na: 1\n--- # note\nb: |\n  --- text\n---x: 2\n---";
        let cut = documents(text);
        assert_eq!(cut.iter().map(|document| document.line).collect::<Vec<_>>(), [1, 2, 4, 8]);
        assert_eq!(cut.iter().map(|document| &text[document.range.clone()]).collect::<String>(), text);
        assert!(documents("").is_empty());
    }
}
