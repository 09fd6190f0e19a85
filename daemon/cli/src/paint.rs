//! Colours, where somebody looks: only on a terminal, and never under `NO_COLOR` (no-color.org).

use std::io::IsTerminal;

use policy::Problem;

#[derive(Clone, Copy)]
pub struct Paint {
    on: bool,
}

pub fn for_stdout() -> Paint {
    Paint { on: wanted(std::io::stdout().is_terminal()) }
}

pub fn for_stderr() -> Paint {
    Paint { on: wanted(std::io::stderr().is_terminal()) }
}

fn wanted(terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

impl Paint {
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    pub fn problem(self, problem: &Problem) -> String {
        let origin = problem.origin.as_ref().map(|origin| format!("{}: ", self.strong(&origin.to_string()))).unwrap_or_default();
        let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", self.faint(&problem.path)) };
        format!("{origin}{path}{}", problem.message)
    }

    /// A unified diff or a list of changes: added lines green, removed ones red.
    pub fn diff(self, text: &str) -> String {
        let line = |line: &str| match line.as_bytes().first() {
            Some(b'+') => self.good(line),
            Some(b'-') => self.bad(line),
            Some(b'@') => self.faint(line),
            _ => line.to_owned(),
        };
        text.lines().map(|text| line(text) + "\n").collect()
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
