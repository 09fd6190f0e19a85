//! Text as a terminal of 1980 shows it: ASCII, at most 79 columns, so that no terminal wraps by itself.

pub const COLUMNS: usize = 79;

/// Printable ASCII; what was something else stays visible as `?`, and no escape sequence of anyone's text reaches the terminal.
pub fn ascii(text: &str) -> String {
    let replace = |c: char| match c {
        ' '..='~' => c,
        '\t' | '\n' | '\r' => ' ',
        '\u{2013}' | '\u{2014}' => '-',
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{2026}' => '.',
        _ => '?',
    };
    text.chars().map(replace).collect()
}

/// A word and what belongs to it, wrapped below each other.
pub fn entry(label: &str, text: &str) -> Vec<String> {
    wrap(text, COLUMNS - INDENT)
        .into_iter()
        .enumerate()
        .map(|(number, line)| format!("{:INDENT$}{line}", if number == 0 { label } else { "" }))
        .collect()
}

/// Where the values of entries stand.
const INDENT: usize = 12;

/// Broken at spaces; a word that is longer than a line is cut.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in ascii(text).split(' ').filter(|word| !word.is_empty()) {
        let mut rest = word;
        while !rest.is_empty() {
            let Some(line) = lines.last_mut() else { break };
            let space = usize::from(!line.is_empty());
            let room = width.saturating_sub(line.len() + space);
            if rest.len() > room && !line.is_empty() {
                lines.push(String::new());
                continue;
            }
            let (piece, left) = rest.split_at(rest.len().min(room.max(1)));
            if space == 1 {
                line.push(' ');
            }
            line.push_str(piece);
            rest = left;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_ascii_of_bounded_length_is_left_of_any_text() {
        let text = "caf\u{e9} \u{1b}[2J \u{202e}x \u{7} \u{2014} ".to_owned() + &"w".repeat(300);
        for line in wrap(&text, 40) {
            assert!(line.len() <= 40 && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        }
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
    }

    #[test]
    fn entries_stand_below_each_other() {
        assert_eq!(entry("Trial", "none"), ["Trial       none"]);
        let long = entry("Why", &"word ".repeat(30));
        assert!(long[1].starts_with("            word") && long.iter().all(|line| line.len() <= COLUMNS));
    }
}
