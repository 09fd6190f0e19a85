//! Reboot and power off, by systemd, so that everything is written and unmounted first.

use std::path::Path;
use std::process::{Command, Stdio};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    Reboot,
    Off,
}

/// Queued; the answer to whoever asked still leaves.
pub fn soon(power: Power, systemctl: &Path) -> Result<(), String> {
    let verb = match power {
        Power::Reboot => "reboot",
        Power::Off => "poweroff",
    };
    let output = Command::new(systemctl).args(["--no-block", verb]).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("systemctl {verb}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("systemctl {verb}: {error}")),
    }
}
