//! HAProxy before the pages and the API: TLS, limits, time-outs and headers.
//!
//! * rendered: `admin-front/haproxy.cfg`, the same for every box but for the port and the rates
//! * checked: `haproxy -c -f FILE` with `PORTCULLIS_CHECK=1`, which needs no certificate
//! * reloaded: `reload` on the master's socket, `admin-front-master.sock` in the run folder
//! * runs: it listens on the port and answers `/healthz`

use minijinja::context;

use super::render;
use crate::check::Checked;
use crate::plan::File;

pub const UNIT: &str = "admin-front";
pub const PATH: &str = "admin-front/haproxy.cfg";

const TEMPLATE: &str = include_str!("../../../../templates/services/admin-front/haproxy.cfg");

/// Bytes of a request's body; a policy of 30,000 rules stays below. Control refuses earlier what needs less.
const MAX_BODY: u32 = 4 << 20;
/// Of a file that updates the box; control asks how much room there is.
const MAX_UPLOAD: u32 = 1 << 30;

/// What of the policy the front depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub port: u16,
    pub requests_per_minute: u32,
}

impl Settings {
    pub fn of(checked: &Checked) -> Self {
        match &checked.config().system {
            Some((_, system)) => Settings { port: system.spec.admin.port, requests_per_minute: system.spec.requests_per_minute },
            // `check` has seen that there is one.
            None => Settings { port: 443, requests_per_minute: 100 },
        }
    }
}

/// The config, under its path.
pub fn file(settings: &Settings) -> (String, File) {
    let Settings { port, requests_per_minute } = settings;
    // A page fetches its style and script as well, which control does not count.
    let flood_per_minute = requests_per_minute.saturating_mul(4).saturating_add(200);
    let settings = context! { port, requests_per_minute, flood_per_minute, max_body => MAX_BODY, max_upload => MAX_UPLOAD };
    // Compiling is total. A template that cannot be rendered becomes a file that HAProxy's own check refuses, so nothing is applied.
    let text = render(TEMPLATE, settings).unwrap_or_else(|error| format!("cannot-be-rendered {error}\n"));
    (PATH.to_owned(), File { text, mode: 0o644 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn haproxy_accepts_what_is_rendered_and_refuses_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &str| {
            let path = folder.path().join("haproxy.cfg");
            std::fs::write(&path, text).unwrap();
            let haproxy = Command::new("haproxy")
                .arg("-c")
                .arg("-f")
                .arg(path)
                .env("PORTCULLIS_CHECK", "1")
                .env("PORTCULLIS_RUN_DIR", folder.path())
                .output();
            let output = haproxy.expect("haproxy is installed");
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout))
        };
        let (_, file) = file(&Settings { port: 8443, requests_per_minute: 100 });
        let (accepted, told) = check(&file.text);
        assert!(accepted, "{told}");
        assert!(!told.to_lowercase().contains("warning"), "{told}");
        assert!(file.text.contains("bind 0.0.0.0:8443 ssl") && file.text.contains("sc0_http_req_rate gt 600"));
        assert!(!check("cannot-be-rendered because\n").0);
    }

    #[test]
    fn the_check_never_opens_an_unencrypted_door_to_a_network() {
        let (_, file) = file(&Settings { port: 443, requests_per_minute: 100 });
        let open: Vec<&str> =
            file.text.lines().map(str::trim).filter(|line| line.starts_with("bind ") && !line.contains(" ssl ")).collect();
        assert_eq!(open, ["bind 127.0.0.1:443"]);
    }
}
