//! What changed between two texts, line by line, as people read it.

use std::fmt::Write as _;

use similar::{Algorithm, ChangeTag, DiffOp, TextDiff};

/// Unchanged lines around each change.
const CONTEXT: usize = 3;

/// A unified diff without file names. Behind the line numbers stands the block in which the change lies: `chain fwd_lan_wan {`,
/// `[routes]`, `kind: Zone`. Equal texts give an empty diff.
pub fn diff_text(old: &str, new: &str) -> String {
    // Patience keeps blocks together: a chain that is new comes as one piece.
    let diff = TextDiff::configure().algorithm(Algorithm::Patience).diff_lines(old, new);
    let mut text = String::new();
    let lines: Vec<&str> = old.lines().collect();
    for hunk in diff.grouped_ops(CONTEXT) {
        let _ = writeln!(text, "{}", header(&hunk, &lines));
        for change in hunk.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let _ = writeln!(text, "{sign}{}", change.value().trim_end_matches(['\n', '\r']));
        }
    }
    text
}

/// `@@ -12,7 +12,8 @@ chain fwd_lan_wan {`
fn header(hunk: &[DiffOp], lines: &[&str]) -> String {
    let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { return String::new() };
    let span = |from: usize, to: usize| format!("{},{}", if to > from { from + 1 } else { from }, to - from);
    let old = span(first.old_range().start, last.old_range().end);
    let new = span(first.new_range().start, last.new_range().end);
    let header = format!("@@ -{old} +{new} @@ {}", block(&lines[..first.old_range().start.min(lines.len())]));
    header.trim_end().to_owned()
}

/// The last line before the hunk that opens something.
fn block<'a>(before: &[&'a str]) -> &'a str {
    let opens = |line: &&&str| line.ends_with(" {") || line.starts_with('[') || line.starts_with("kind:");
    before.iter().rev().find(opens).map_or("", |line| line.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_its_block() {
        let old = "[ruleset]\ntable inet portcullis {\n\tchain a {\n\t\t1\n\t\t2\n\t\t3\n\t\t4\n\t\t5\n\t}\n}\n";
        let new = old.replace("\t\t5\n", "\t\tfive\n\t\tsix\n");
        let expected = "@@ -5,6 +5,7 @@ chain a {\n \t\t2\n \t\t3\n \t\t4\n-\t\t5\n+\t\tfive\n+\t\tsix\n \t}\n }\n";
        assert_eq!(diff_text(old, &new), expected);
    }

    #[test]
    fn equal_texts_differ_in_nothing() {
        assert_eq!(diff_text("a\nb\n", "a\nb\n"), "");
        assert_eq!(diff_text("", ""), "");
    }

    #[test]
    fn the_first_text_is_all_new() {
        assert_eq!(diff_text("", "a\nb"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
    }

    #[test]
    fn two_large_texts_that_share_nothing_are_no_trouble() {
        let text = |word: &str| (0..20_000).map(|at| format!("{word} {at}\n")).collect::<String>();
        let (old, new) = (text("old"), text("new"));
        assert_eq!(diff_text(&old, &new).lines().count(), 40_001);
    }
}
