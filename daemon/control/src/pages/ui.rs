//! The pieces that the templates know: each is plain data, decided here, drawn in `templates/pages/ui.html`.

use policy::{Origin, Problem, Problems, Sources};
use serde::Serialize;

/// Which of the four colours a piece has, and with it an icon and a word: colour never speaks alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    Ok,
    Warn,
    Bad,
    Info,
    Plain,
}

impl Tone {
    /// As `data-tone` has it.
    pub fn word(self) -> &'static str {
        match self {
            Tone::Ok => "ok",
            Tone::Warn => "warn",
            Tone::Bad => "bad",
            Tone::Info => "info",
            Tone::Plain => "plain",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Badge {
    pub tone: Tone,
    pub word: String,
}

impl Badge {
    pub fn new(tone: Tone, word: impl Into<String>) -> Self {
        Badge { tone, word: word.into() }
    }
}

/// A sentence at the top of a page. Bad news interrupts a screen reader, good news waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub tone: Tone,
    pub role: &'static str,
    pub text: String,
}

impl Notice {
    pub fn ok(text: impl Into<String>) -> Self {
        Notice { tone: Tone::Ok, role: "status", text: text.into() }
    }

    pub fn info(text: impl Into<String>) -> Self {
        Notice { tone: Tone::Info, role: "status", text: text.into() }
    }

    pub fn warn(text: impl Into<String>) -> Self {
        Notice { tone: Tone::Warn, role: "status", text: text.into() }
    }

    pub fn bad(text: impl Into<String>) -> Self {
        Notice { tone: Tone::Bad, role: "alert", text: text.into() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    pub href: String,
    pub label: String,
}

impl Link {
    pub fn new(href: impl Into<String>, label: impl Into<String>) -> Self {
        Link { href: href.into(), label: label.into() }
    }
}

/// One of a row of pages about the same thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tab {
    pub href: &'static str,
    pub label: &'static str,
    pub current: bool,
}

/// A word and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    pub label: String,
    pub value: String,
}

impl Fact {
    pub fn new(label: impl Into<String>, value: impl Into<String>) -> Self {
        Fact { label: label.into(), value: value.into() }
    }
}

/// The filled part of a bar, 0 to 100.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bar {
    pub width: String,
    pub key: Option<String>,
}

impl Bar {
    pub fn of(part: u64, whole: u64) -> Self {
        Bar { width: Bar::width(part, whole), key: None }
    }

    pub fn live(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub fn width(part: u64, whole: u64) -> String {
        format!("{:.1}", if whole == 0 { 0.0 } else { 100.0 * part.min(whole) as f64 / whole as f64 })
    }
}

/// A form's input with what was typed into it and what is wrong with that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Field {
    pub name: &'static str,
    pub label: &'static str,
    /// Tells fields of the same name apart.
    #[serde(serialize_with = "or_nothing")]
    pub number: Option<usize>,
    /// The input's type: `text`, `password`, `number`, `file`, `date`.
    pub kind: &'static str,
    pub value: String,
    pub hint: Option<String>,
    pub error: Option<String>,
    pub autocomplete: Option<&'static str>,
    pub inputmode: Option<&'static str>,
    pub required: bool,
    /// Makes it a select.
    pub options: Vec<Choice>,
    /// Makes it a textarea.
    pub rows: Option<u32>,
}

/// A template joins it to a name.
fn or_nothing<S: serde::Serializer>(number: &Option<usize>, to: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => to.serialize_u64(*number as u64),
        None => to.serialize_str(""),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    pub value: String,
    pub label: String,
}

impl Choice {
    pub fn new(value: impl Into<String>, label: impl Into<String>) -> Self {
        Choice { value: value.into(), label: label.into() }
    }
}

impl Field {
    pub fn text(name: &'static str, label: &'static str, value: impl Into<String>) -> Self {
        Field { name, label, kind: "text", value: value.into(), ..Field::default() }
    }

    /// Never given back to the browser, whatever was typed.
    pub fn password(name: &'static str, label: &'static str, autocomplete: &'static str) -> Self {
        Field { name, label, kind: "password", autocomplete: Some(autocomplete), required: true, ..Field::default() }
    }

    pub fn select(name: &'static str, label: &'static str, value: impl Into<String>, options: Vec<Choice>) -> Self {
        Field { name, label, kind: "select", value: value.into(), options, ..Field::default() }
    }

    pub fn numbered(mut self, number: usize) -> Self {
        self.number = Some(number);
        self
    }

    pub fn kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn error(mut self, error: Option<impl Into<String>>) -> Self {
        self.error = error.map(Into::into);
        self
    }

    pub fn autocomplete(mut self, value: &'static str) -> Self {
        self.autocomplete = Some(value);
        self
    }

    pub fn inputmode(mut self, value: &'static str) -> Self {
        self.inputmode = Some(value);
        self
    }

    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

/// Where something was written; a link when that place can be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    pub text: String,
    pub href: Option<String>,
}

impl Place {
    /// Opens the line in the editor, if the file is part of what is being edited.
    pub fn of(origin: &Origin, sources: &Sources) -> Self {
        let href = sources.0.contains_key(&origin.file).then(|| format!("/policies/file?name={}#L{}", query(&origin.file), origin.line));
        Place { text: origin.to_string(), href }
    }
}

/// A problem with its line shown, so that it can be understood without scrolling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownProblem {
    pub place: Option<String>,
    pub href: Option<String>,
    pub path: String,
    pub message: String,
    pub excerpt: Option<String>,
}

/// More would make a page that nobody reads; the rest is counted by the caller.
const MOST_PROBLEMS: usize = 200;

/// `here` is the file whose text is on the same page.
pub fn problems(problems: &Problems, sources: &Sources, here: Option<&str>) -> Vec<ShownProblem> {
    let shown = |problem: &Problem| {
        let origin = problem.origin.as_ref();
        let href = origin.and_then(|origin| match here {
            Some(file) if file == origin.file => Some(format!("#L{}", origin.line)),
            _ => Place::of(origin, sources).href,
        });
        ShownProblem {
            place: origin.map(Origin::to_string),
            href,
            path: problem.path.clone(),
            message: problem.message.clone(),
            excerpt: origin.and_then(|origin| excerpt(origin, sources)),
        }
    };
    problems.0.iter().take(MOST_PROBLEMS).map(shown).collect()
}

fn excerpt(origin: &Origin, sources: &Sources) -> Option<String> {
    let line = sources.0.get(&origin.file)?.lines().nth(usize::try_from(origin.line).ok()?.checked_sub(1)?)?;
    let text = visible(line.trim());
    (!text.is_empty()).then(|| text.chars().take(200).collect())
}

/// Control characters, also those that change the direction of writing, become visible marks: a text cannot pretend to be another.
pub fn visible(text: &str) -> String {
    let mark = |c: char| match c {
        '\t' => c,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(mark).collect()
}

/// One line of a diff. `kind` is its class: add, del, at, file or same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffLine {
    pub kind: &'static str,
    pub text: String,
}

/// A unified diff without file names, line by line.
pub fn diff(text: &str) -> Vec<DiffLine> {
    let kind = |line: &str| match line {
        line if line.starts_with("@@") => "at",
        line if line.starts_with('+') => "add",
        line if line.starts_with('-') => "del",
        _ => "same",
    };
    text.lines().map(|line| DiffLine { kind: kind(line), text: visible(line) }).collect()
}

pub fn lines(text: &str) -> Vec<String> {
    text.lines().map(visible).collect()
}

/// For the value of a query parameter (RFC 3986 section 2.3: everything but the unreserved is escaped).
pub fn query(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_and_leads_to_it() {
        let sources = Sources::single("a b.yaml", "one\n  two: \u{202e}x\u{7}\n");
        let mut found = Problems::default();
        found.at(&Origin { file: "a b.yaml".into(), line: 2 }, "spec.two", "unknown field");
        found.at(&Origin { file: "a b.yaml".into(), line: 99 }, "", "past the end");
        let shown = problems(&found, &sources, None);
        assert_eq!(shown[0].href.as_deref(), Some("/policies/file?name=a%20b.yaml#L2"));
        assert_eq!(shown[0].excerpt.as_deref(), Some("two: \u{fffd}x\u{fffd}"));
        assert_eq!(shown[1].excerpt, None);
        assert_eq!(problems_here(&found, &sources), "#L2");
    }

    fn problems_here(found: &Problems, sources: &Sources) -> String {
        problems(found, sources, Some("a b.yaml"))[0].href.clone().unwrap_or_default()
    }

    #[test]
    fn a_bar_never_leaves_its_frame() {
        assert_eq!([Bar::width(0, 0), Bar::width(1, 2), Bar::width(9, 3)], ["0.0", "50.0", "100.0"]);
    }
}
