//! One person at a terminal: what they type, and what they read.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};

pub struct Session {
    keyboard: File,
    seen: Arc<Mutex<Vec<u8>>>,
    /// Of `seen`, what an `expect` has found already.
    read: usize,
    child: Child,
    /// What is typed, and so echoed, is longer than a line.
    pub is_noisy: bool,
}

/// For a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two ports that are the same on every machine, and a host name.
const MACHINE: &str = "mount -t sysfs none /sys && hostname gate \
    && ip link add lan0 address 02:00:00:00:00:01 type veth peer name wan0 address 02:00:00:00:00:02 \
    && ip address add 192.168.1.1/24 dev lan0 && ip link set lan0 addrgenmode none && ip link set wan0 addrgenmode none && ip link set lan0 up && ip link set wan0 up && exec \"$0\" \"$@\"";

impl Session {
    /// `tools` comes first on the path: its `systemctl` tells of the processes.
    pub fn open(run_dir: &Path, tools: &Path) -> Session {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        let child = Command::new("unshare")
            .args(["-rnmu", "sh", "-c", MACHINE, env!("CARGO_BIN_EXE_portcullis"), "--run-dir"])
            .arg(run_dir)
            .arg("console")
            .env("PATH", path)
            .stdin(Stdio::from(pty.slave.try_clone().unwrap()))
            .stdout(Stdio::from(pty.slave.try_clone().unwrap()))
            .stderr(Stdio::from(pty.slave))
            .spawn()
            .unwrap();
        let mut screen = File::from(pty.master.as_fd().try_clone_to_owned().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shown = seen.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut piece) {
                shown.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        Session { keyboard: File::from(pty.master), seen, read: 0, child, is_noisy: false }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.keyboard.write_all(bytes).unwrap();
    }

    /// Types a line and waits for what comes of it.
    pub fn answer(&mut self, line: &str, expected: &str) -> String {
        self.send(format!("{line}\r").as_bytes());
        self.expect(expected)
    }

    /// From the menu and back to it: a choice, then pairs of what is typed and what comes of it.
    pub fn choose(&mut self, number: &str, steps: &[(&str, &str)]) -> String {
        self.menu();
        let mut all = String::new();
        let (first, rest) = steps.split_first().unwrap();
        all += &self.answer(number, first.1);
        for (line, expected) in rest {
            all += &self.answer(line, expected);
        }
        all += &self.expect("Enter goes back to the menu.");
        self.send(b"\r");
        all
    }

    pub fn menu(&mut self) -> String {
        self.expect("Enter shows this again:")
    }

    /// What was shown until these words, with them.
    pub fn expect(&mut self, words: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen = String::from_utf8(self.seen.lock().unwrap()[self.read..].to_vec()).expect("ASCII is UTF-8");
            if let Some(at) = seen.find(words) {
                self.read += at + words.len();
                return seen[..at + words.len()].to_owned();
            }
            assert!(Instant::now() < until, "{words:?} was not shown, but this:\n{seen}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn has_shown(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).contains(words)
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

/// The golden rule: whatever happened, a terminal of 1980 could show it.
impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            return;
        }
        let seen = self.seen.lock().unwrap().clone();
        let shown = String::from_utf8(seen).expect("ASCII is UTF-8");
        for line in shown.split("\r\n") {
            assert!(line.len() <= 80 || self.is_noisy, "{} columns: {line:?}", line.len());
            let plain = |c: char| (' '..='~').contains(&c) || matches!(c, '\r' | '\n' | '\t' | '\u{8}');
            assert!(line.chars().all(plain), "not plain: {line:?}");
        }
    }
}
