//! The attacks that kill a bare HTTP server, replayed against real HAProxy with the config that the policy renders, before real control.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use policy::services::admin_front;

#[test]
fn after_each_attack_the_front_still_answers() {
    let stage = Stage::new(100);
    stage.python("attacks.py");
}

#[test]
fn a_hundred_a_minute_then_429_and_nobody_can_pretend_to_be_another() {
    let stage = Stage::new(100);
    stage.python("limits.py");
}

struct Stage {
    folder: tempfile::TempDir,
    port: u16,
    control: Child,
    front: Child,
}

impl Stage {
    fn new(requests_per_minute: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control = Command::new(env!("CARGO_BIN_EXE_portcullis-control"))
            .args(["--run-dir".as_ref(), folder.path(), "--state-dir".as_ref(), folder.path()])
            .env("RUST_LOG", "warn")
            .spawn()
            .unwrap();
        until("control listens", || folder.path().join("control.sock").exists());
        let port = free_port();
        let (_, file) = admin_front::file(&admin_front::Settings { port, requests_per_minute });
        let config = folder.path().join("haproxy.cfg");
        fs::write(&config, file.text).unwrap();
        let front = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(config)
            .env("PORTCULLIS_RUN_DIR", folder.path())
            .env_remove("PORTCULLIS_CHECK")
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("haproxy is installed");
        until("the front listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Stage { folder, port, control, front }
    }

    fn python(&self, script: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
        let output = Command::new("python3")
            .arg(script)
            .args([self.port.to_string(), self.control.id().to_string()])
            .arg(self.folder.path())
            .output()
            .expect("python3 is installed");
        print!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in [&mut self.front, &mut self.control] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not come true");
        thread::sleep(Duration::from_millis(20));
    }
}
