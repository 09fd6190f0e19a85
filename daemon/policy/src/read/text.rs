//! What a policy's text may consist of, before anything interprets it.
//!
//! A reviewer must see what the box will read: characters that move the cursor, hide text or change its direction are
//! refused wherever they stand, and so is a text too big to be a policy.

use crate::problem::{Problems, quote};
use crate::source::{Origin, Sources};

/// Bytes of all files together. 50,000 rules take about 8 MiB.
pub const MOST_BYTES: usize = 16 << 20;
/// Files of one policy.
pub const MOST_FILES: usize = 1000;
/// Problems of this sort that one file reports; a binary file has thousands.
const MOST_CHARACTERS_REPORTED: usize = 10;

/// The files that are worth interpreting, each with the name that problems give it.
pub fn readable<'a>(sources: &'a Sources, problems: &mut Problems) -> Vec<(String, &'a str)> {
    let bytes: usize = sources.0.values().map(String::len).sum();
    if bytes > MOST_BYTES || sources.0.len() > MOST_FILES {
        let biggest = sources.0.iter().max_by_key(|(_, text)| text.len()).map_or(String::new(), |(name, _)| shown(name));
        let files = sources.0.len();
        problems.at(&Origin { file: biggest, line: 1 }, "", format!(
            "the policy has {bytes} bytes in {files} files, this one the biggest; at most {MOST_BYTES} bytes in {MOST_FILES} files are read: shorten it"
        ));
        return Vec::new();
    }
    sources.0.iter().filter_map(|(name, text)| readable_file(name, text, problems).map(|text| (shown(name), text))).collect()
}

fn readable_file<'a>(name: &str, text: &'a str, problems: &mut Problems) -> Option<&'a str> {
    let origin = Origin { file: shown(name), line: 1 };
    let mut fine = true;
    if name.is_empty() || name.len() > 200 || name.chars().any(forbidden) || name.contains(['\n', '\t']) {
        problems.at(&origin, "", format!("{} is not a file name; use 1 to 200 printable characters", quote(name)));
        fine = false;
    }
    // Windows editors begin a file with a byte order mark. It means nothing in UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte) || byte == b'\n') {
        return fine.then_some(text);
    }
    let (mut line, mut found, mut before_break) = (1, 0, text.chars().skip(1).chain(['\0']));
    for c in text.chars() {
        let next = before_break.next();
        if c == '\n' {
            line += 1;
        } else if forbidden(c) && !(c == '\r' && next == Some('\n')) {
            found += 1;
            if found <= MOST_CHARACTERS_REPORTED {
                problems.at(
                    &Origin { line, ..origin.clone() },
                    "",
                    format!("the character U+{:04X} ({}) must not stand in a policy; delete it", c as u32, sort_of(c)),
                );
            }
        }
    }
    if found > MOST_CHARACTERS_REPORTED {
        problems.at(
            &origin,
            "",
            format!("{} more forbidden characters follow in this file; is it a text at all?", found - MOST_CHARACTERS_REPORTED),
        );
    }
    (fine && found == 0).then_some(text)
}

/// A file name as problems and origins show it.
fn shown(name: &str) -> String {
    if name.chars().any(forbidden) || name.len() > 200 { quote(name) } else { name.to_owned() }
}

/// Characters that no text of a policy contains, neither raw nor through an escape of YAML. A line break is not among them.
pub fn forbidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        ' '..='~' => false,
        '\0'..='\u{9f}' => true,
        // Line separators; marks and overrides of direction ("Trojan Source", CVE-2021-42574); invisible joiners; byte order mark.
        '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}' => {
            true
        }
        '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}' | '\u{ad}' => true,
        _ => false,
    }
}

fn sort_of(c: char) -> &'static str {
    match c {
        '\r' => "a carriage return without a line feed",
        '\u{1b}' => "the escape that drives terminals",
        '\0' => "a zero byte",
        '\0'..='\u{9f}' => "a control character",
        '\u{feff}' => "a byte order mark inside the text",
        _ => "invisible, or changes how text is shown",
    }
}
