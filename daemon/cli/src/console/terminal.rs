//! The terminal: whole lines in, plain text out. Nothing that is typed ends the console, and nothing that arrives can grow.
//!
//! The kernel's own line editing does for a terminal of any age. Signals are switched off, so that Ctrl-C and Ctrl-D are answers like
//! others ("not that"), and so is flow control: a stray XOFF from a noisy line would stop the console for good.

use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{
    BaudRate, FlushArg, InputFlags, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios, cfsetspeed, tcflush, tcgetattr,
    tcsetattr,
};

use super::plain::{COLUMNS, ascii, wrap};

pub struct Terminal {
    /// What has arrived behind the last line.
    ahead: Vec<u8>,
    /// As it was before; None where nobody sits at a terminal.
    before: Option<Termios>,
    /// Lines since somebody last pressed Enter.
    shown: usize,
}

/// What somebody answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Text(String),
    /// Ctrl-C, Ctrl-D, or nothing at all.
    Nothing,
}

/// Nobody is there any more, and nobody can come back over this line.
#[derive(Debug)]
pub struct Gone;

const MOST: usize = 256;
const ROWS: usize = 22;
const CTRL_C: u8 = 3;

impl Terminal {
    pub fn open() -> Terminal {
        let mut ignored = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGPIPE] {
            ignored.add(signal);
        }
        // Where it fails the terminal's own settings still keep them away.
        let _ = ignored.thread_block();
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut settings = before.clone();
            quieten(&mut settings);
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &settings);
        }
        Terminal { ahead: Vec::new(), before, shown: 0 }
    }

    /// Text, wrapped; stops when the screen is full.
    pub fn say(&mut self, text: &str) -> Result<(), Gone> {
        for line in text.split('\n') {
            let indent = line.len() - line.trim_start_matches(' ').len();
            if line.len() <= COLUMNS {
                self.line(&ascii(line))?;
            } else {
                for part in wrap(line, COLUMNS - indent) {
                    self.line(&format!("{:indent$}{part}", ""))?;
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, text: &str) -> Result<(), Gone> {
        if self.shown >= ROWS && self.before.is_some() {
            self.put("-- Enter goes on --")?;
            self.read()?;
        }
        self.shown += 1;
        self.put(text.trim_end())?;
        self.put("\n")
    }

    fn put(&mut self, text: &str) -> Result<(), Gone> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|_| Gone)
    }

    /// Asks for one line of printable ASCII.
    pub fn ask(&mut self, question: &str) -> Result<Answer, Gone> {
        self.put(&format!("{} ", ascii(question)))?;
        let bytes = self.read()?;
        Ok(match bytes {
            Some(bytes) => {
                let text: String = typed(&bytes).chars().filter(|c| (' '..='~').contains(c)).collect();
                let text = text.trim().to_owned();
                if text.is_empty() { Answer::Nothing } else { Answer::Text(text) }
            }
            None => Answer::Nothing,
        })
    }

    /// Asks for one line that is not shown. What cannot be typed again is refused rather than changed.
    pub fn ask_unseen(&mut self, question: &str) -> Result<Answer, Gone> {
        self.put(&format!("{} ", ascii(question)))?;
        self.echo(false);
        let read = self.read();
        self.echo(true);
        self.put("\n")?;
        Ok(match read? {
            Some(bytes) => match typed(&bytes) {
                text if text.is_empty() || text.chars().any(char::is_control) => Answer::Nothing,
                text => Answer::Text(text),
            },
            None => Answer::Nothing,
        })
    }

    /// Only `yes` is a yes.
    pub fn is_sure(&mut self, question: &str) -> Result<bool, Gone> {
        self.say(question)?;
        Ok(self.ask("Type yes to do it:")? == Answer::Text("yes".to_owned()))
    }

    /// Lets what was said be read.
    pub fn pause(&mut self) -> Result<(), Gone> {
        self.put("\nEnter goes back to the menu. ")?;
        self.read().map(drop)
    }

    /// One line without its end. None: Ctrl-C, Ctrl-D, or too long to be an answer.
    fn read(&mut self) -> Result<Option<Vec<u8>>, Gone> {
        self.shown = 0;
        let mut line = Vec::new();
        let mut too_long = false;
        loop {
            while let Some(byte) = (!self.ahead.is_empty()).then(|| self.ahead.remove(0)) {
                match byte {
                    b'\n' | b'\r' if too_long => {
                        self.put("That is too long to be an answer.\n")?;
                        return Ok(None);
                    }
                    b'\n' | b'\r' => return Ok(Some(line)),
                    CTRL_C => {
                        self.put("\n")?;
                        return Ok(None);
                    }
                    _ if line.len() >= MOST => too_long = true,
                    byte => line.push(byte),
                }
            }
            let mut piece = [0; 512];
            match io::stdin().lock().read(&mut piece) {
                // Ctrl-D at a terminal that is still there; on a closed pipe or a line that was hung up it is the end.
                Ok(0) if self.is_there() => {
                    // A broken line that says so without end must not take the processor.
                    std::thread::sleep(Duration::from_millis(200));
                    self.put("\n")?;
                    return Ok(None);
                }
                Ok(0) => return Err(Gone),
                Ok(length) => self.ahead.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
    }

    fn is_there(&self) -> bool {
        self.before.is_some() && io::stdin().is_terminal()
    }

    fn echo(&self, on: bool) {
        if self.before.is_some()
            && let Ok(mut settings) = tcgetattr(io::stdin())
        {
            settings.local_flags.set(LocalFlags::ECHO, on);
            // A password may hold any letter; what is echoed is ASCII.
            settings.input_flags.set(InputFlags::ISTRIP, on);
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &settings);
        }
    }

    /// What was typed before a question that matters is not its answer.
    pub fn forget_what_was_typed(&mut self) {
        self.ahead.clear();
        let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

fn quieten(settings: &mut Termios) {
    settings.local_flags.insert(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ECHOE | LocalFlags::ECHOK | LocalFlags::ECHOCTL);
    settings.local_flags.remove(LocalFlags::ISIG | LocalFlags::IEXTEN);
    settings.input_flags.insert(InputFlags::ICRNL | InputFlags::IGNBRK | InputFlags::IGNPAR | InputFlags::ISTRIP);
    settings.output_flags.insert(OutputFlags::OPOST | OutputFlags::ONLCR);
    settings.input_flags.remove(InputFlags::IXON | InputFlags::IXOFF | InputFlags::IXANY | InputFlags::INLCR | InputFlags::IGNCR);
    // Ends a line, so that Ctrl-C is heard at once.
    settings.control_chars[SpecialCharacterIndices::VEOL as usize] = CTRL_C;
    let is_serial = nix::unistd::ttyname(io::stdin()).is_ok_and(|name| name.to_string_lossy().starts_with("/dev/ttyS"));
    if is_serial {
        let _ = cfsetspeed(settings, BaudRate::B115200);
    }
}

/// Terminals send one of two bytes for "back"; the kernel knows one of them.
fn typed(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\u{8}' | '\u{7f}' => drop(text.pop()),
            '\u{fffd}' => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::typed;

    #[test]
    fn both_bytes_for_back_take_a_letter_away_and_noise_is_dropped() {
        assert_eq!(typed(b"12\x083\x7f4"), "14");
        assert_eq!(typed(b"\x08\xff\xfe7"), "7");
    }
}
