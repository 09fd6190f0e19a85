//! How the box's processes are, as the service manager sees them, and why one is down.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// One service, as `systemctl show` tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    pub name: String,
    pub well: bool,
    /// `runs`, `sleeps until it is needed`, `is down: exit code 1, started 3 times`
    pub state: String,
}

/// Whether it has to run all the time.
const PROCESSES: [(&str, bool); 8] = [
    ("lockdown", true),
    ("applier", true),
    ("control", true),
    ("forwarder", true),
    ("observer", true),
    ("updater", false),
    ("admin-front", true),
    ("dhcp", false),
];

const PATIENCE: Duration = Duration::from_secs(3);
const PROPERTIES: &str = "Id,LoadState,ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,NRestarts";

pub fn all() -> Result<Vec<Process>, String> {
    let units = PROCESSES.map(|(name, _)| format!("portcullis-{name}.service"));
    let text = output("systemctl", &[&["show".to_owned(), "-p".to_owned(), PROPERTIES.to_owned()], &units[..]].concat())?;
    let shown: Vec<BTreeMap<&str, &str>> =
        text.split("\n\n").map(|unit| unit.lines().filter_map(|line| line.split_once('=')).collect()).collect();
    let process = |(name, always): (&str, bool)| {
        let unit = format!("portcullis-{name}.service");
        let properties = shown.iter().find(|properties| properties.get("Id") == Some(&unit.as_str()))?;
        judge(name, always, properties)
    };
    Ok(PROCESSES.into_iter().filter_map(process).collect())
}

/// None: this box has no such process.
fn judge(name: &str, always: bool, properties: &BTreeMap<&str, &str>) -> Option<Process> {
    let of = |property: &str| properties.get(property).copied().unwrap_or("");
    if of("LoadState") != "loaded" {
        return None;
    }
    let restarts = of("NRestarts").parse().unwrap_or(0_u32);
    let again = if restarts > 0 { format!(", started again {restarts} times") } else { String::new() };
    let why = match (of("Result"), of("ExecMainCode")) {
        ("success" | "", _) => String::new(),
        ("exit-code", _) => format!(": it ended with code {}", of("ExecMainStatus")),
        ("signal" | "core-dump", _) => format!(": it was ended by signal {}", of("ExecMainStatus")),
        ("watchdog", _) => ": it hung and was ended".to_owned(),
        ("oom-kill", _) => ": it used too much memory and was ended".to_owned(),
        ("timeout", _) => ": it did not start or end in time".to_owned(),
        (result, _) => format!(": {result}"),
    };
    let (well, state) = match (of("ActiveState"), of("SubState")) {
        ("active" | "reloading", _) => (true, format!("runs{again}")),
        ("activating", "auto-restart") => (false, format!("is down and will be started again{why}{again}")),
        ("activating", _) => (false, format!("is starting{again}")),
        ("inactive", _) if !always => (true, "sleeps until it is needed".to_owned()),
        ("inactive", _) if why.is_empty() => (false, "is not started".to_owned()),
        _ => (false, format!("is down{why}{again}")),
    };
    Some(Process { name: name.to_owned(), well, state })
}

/// The last words of a process, for the one who asks why.
pub fn last_words(name: &str, lines: u32) -> Vec<String> {
    let unit = format!("portcullis-{name}.service");
    let arguments = ["-u", &unit, "-n", &lines.to_string(), "-o", "cat", "--no-pager", "-q"].map(str::to_owned);
    output("journalctl", &arguments).map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default()
}

/// What a program says, bounded in time and length.
pub fn output(program: &str, arguments: &[String]) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{program} cannot be asked: {error}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env("SYSTEMD_COLORS", "0")
        .spawn()
        .map_err(failed)?;
    let pipe = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = pipe.map(|pipe| pipe.take(1 << 20).read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let until = Instant::now() + PATIENCE;
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(reader.join().unwrap_or_default()),
            Some(status) => return Err(format!("{program} failed: {status}")),
            None if Instant::now() >= until => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{program} does not answer in time"));
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(always: bool, properties: &[(&'static str, &'static str)]) -> Option<(bool, String)> {
        let properties = [("LoadState", "loaded")].into_iter().chain(properties.iter().copied()).collect();
        judge("x", always, &properties).map(|process| (process.well, process.state))
    }

    #[test]
    fn a_process_that_is_down_says_why() {
        let crashed = [
            ("ActiveState", "activating"),
            ("SubState", "auto-restart"),
            ("Result", "signal"),
            ("ExecMainStatus", "9"),
            ("NRestarts", "3"),
        ];
        let (well, state) = told(true, &crashed).unwrap();
        assert!(!well);
        assert_eq!(state, "is down and will be started again: it was ended by signal 9, started again 3 times");
        assert_eq!(told(true, &[("ActiveState", "failed"), ("Result", "watchdog")]).unwrap().1, "is down: it hung and was ended");
        assert_eq!(told(true, &[("ActiveState", "active"), ("Result", "success")]), Some((true, "runs".into())));
    }

    #[test]
    fn what_starts_on_demand_may_sleep_and_what_is_not_there_is_not_missed() {
        assert!(told(false, &[("ActiveState", "inactive")]).unwrap().0);
        assert!(!told(true, &[("ActiveState", "inactive")]).unwrap().0);
        assert_eq!(told(true, &[("LoadState", "not-found")]), None);
    }
}
