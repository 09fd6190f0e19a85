//! Files of the services that we drive: staged, judged by the service's own checker, and only then live.
//!
//! `admin-front/haproxy.cfg` belongs to the service `admin-front`. It waits below `.staged/` until its checker accepted it, is renamed
//! to its place, and the service is told to reload. A service that does not run yet needs no telling: its unit starts once the file is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use policy::plan::File;

pub struct Services {
    /// Where live files are; `.staged` below it is ours.
    files: PathBuf,
    /// Where services have their sockets.
    run: PathBuf,
}

/// How long a checker may think and a service may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

const END_WITH_THEIR_FILE: [&str; 1] = ["dhcp/dhcpcd.conf"];

impl Services {
    pub fn new(files: PathBuf, run: PathBuf) -> Self {
        Services { files, run }
    }

    /// Writes what differs from the live files beside them and has it checked. Nothing is live yet. One file that is refused keeps no
    /// other from being staged: a restore goes on without it.
    pub fn stage(&self, files: &BTreeMap<String, File>) -> Result<(), String> {
        all(self.changed(files).iter().map(|name| {
            let staged = self.staged(name);
            write(&staged, &files[name]).map_err(|error| format!("could not stage {name}: {error}"))?;
            self.check(name, &staged)
        }))
    }

    /// Puts what was staged in its place, has its services reload, and sees that they run.
    pub fn publish(&self, files: &BTreeMap<String, File>) -> Result<(), String> {
        let changed = self.changed(files);
        let moved = all(changed.iter().map(|name| {
            let place = self.files.join(name);
            let moved = folder_of(&place).and_then(|()| fs::rename(self.staged(name), &place));
            moved.map_err(|error| format!("could not put {name} in its place: {error}"))
        }));
        let withdrawn = self.withdraw(files);
        let services: BTreeSet<&str> = changed.iter().filter_map(|name| Some(name.split_once('/')?.0)).collect();
        let reloaded = all(services.into_iter().map(|service| self.reload(service)));
        all([moved, withdrawn, reloaded])
    }

    /// A file that the policy no longer asks for takes its service along: units live and end with their files.
    fn withdraw(&self, files: &BTreeMap<String, File>) -> Result<(), String> {
        for name in END_WITH_THEIR_FILE.iter().filter(|name| !files.contains_key(**name)) {
            match fs::remove_file(self.files.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(format!("could not withdraw {name}: {error}")),
                _ => {}
            }
        }
        Ok(())
    }

    fn changed(&self, files: &BTreeMap<String, File>) -> Vec<String> {
        let is_live = |name: &str, file: &File| fs::read(self.files.join(name)).is_ok_and(|live| live == file.text.as_bytes());
        files.iter().filter(|(name, file)| !is_live(name, file)).map(|(name, _)| name.clone()).collect()
    }

    fn staged(&self, name: &str) -> PathBuf {
        self.files.join(".staged").join(name)
    }

    fn check(&self, name: &str, staged: &Path) -> Result<(), String> {
        match name {
            "admin-front/haproxy.cfg" => self.run_checker(name, Command::new("haproxy").arg("-c").arg("-f").arg(staged)),
            // dhcpcd has none. What varies in its file are interface names, and those are valid by their type.
            "dhcp/dhcpcd.conf" => Ok(()),
            _ => Err(format!("{name} has no checker; it cannot go live")),
        }
    }

    fn run_checker(&self, name: &str, command: &mut Command) -> Result<(), String> {
        let begun = Instant::now();
        // While it is only checked the config needs no certificate, which the applier may not read.
        command
            .env("PORTCULLIS_RUN_DIR", &self.run)
            .env("PORTCULLIS_CHECK", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("the checker of {name} did not start: {error}"))?;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) | Err(_) => {
                    child.kill().ok();
                    child.wait().ok();
                    return Err(format!("the checker of {name} did not come to an end"));
                }
            }
        };
        if status.success() {
            return Ok(());
        }
        let mut said = String::new();
        let pipes = [
            child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read>),
            child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read>),
        ];
        for pipe in pipes.into_iter().flatten() {
            pipe.take(4096).read_to_string(&mut said).ok();
        }
        Err(format!("{name} was refused by its own checker: {}", said.trim()))
    }

    /// Absent socket: the service has not started yet.
    fn reload(&self, service: &str) -> Result<(), String> {
        if service == "dhcp" {
            // Its unit watches the file.
            return Ok(());
        }
        let socket = self.run.join(format!("{service}-master.sock"));
        match ask_haproxy(&socket, "reload") {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(()),
            Err(error) => return Err(format!("{service} could not be told to reload: {error}")),
            Ok(said) if said.contains("Success=0") => return Err(format!("{service} did not reload: {said}")),
            Ok(_) => {}
        }
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let said = ask_haproxy(&socket, "show proc").unwrap_or_default();
            if has_new_worker(&said) {
                return Ok(());
            }
            if has_failed(&said) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("{service} has no worker with the new configuration"))
    }
}

/// Everything is tried, and everything that went wrong is told.
fn all(results: impl IntoIterator<Item = Result<(), String>>) -> Result<(), String> {
    let wrong: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn ask_haproxy(socket: &Path, question: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    // Nothing more comes: without this HAProxy waits for the next command.
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut said = String::new();
    // HAProxy before 2.7 closes the connection on `reload`, without a word.
    stream.take(64 << 10).read_to_string(&mut said)?;
    Ok(said)
}

/// `show proc` lists the workers of the running configuration apart from the old ones; a fresh one has seen no reload yet.
fn has_new_worker(said: &str) -> bool {
    let workers = said.lines().skip_while(|line| !line.starts_with("# workers")).skip(1).take_while(|line| !line.starts_with('#'));
    let mut fields = workers.map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.any(|fields| fields.get(1) == Some(&"worker") && fields.get(2) == Some(&"0"))
}

/// The master counts reloads in vain since the last that worked: `1163 master 5 [failed: 1] ...`.
fn has_failed(said: &str) -> bool {
    let master = said.lines().find(|line| line.split_whitespace().nth(1) == Some("master"));
    master.is_some_and(|line| line.contains("[failed: ") && !line.contains("[failed: 0]"))
}

fn write(path: &Path, file: &File) -> io::Result<()> {
    folder_of(path)?;
    fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    let mut place = fs::OpenOptions::new().write(true).create_new(true).mode(file.mode).open(path)?;
    // The service reads it as another user; the umask must not decide.
    place.set_permissions(fs::Permissions::from_mode(file.mode))?;
    place.write_all(file.text.as_bytes())?;
    place.sync_all()
}

/// Folders of services can be entered by them.
fn folder_of(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) else { return Ok(()) };
    folder_of(folder)?;
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_of_before_the_reload_is_not_a_running_configuration() {
        let head = "#<PID> <type> <reloads> <uptime> <version>\n12 master 5 0d00h02m 2.6.12\n";
        assert!(has_new_worker(&format!("{head}# workers\n71 worker 0 0d00h00m 2.6.12\n# old workers\n33 worker 3 0d 2.6\n# programs\n")));
        assert!(!has_new_worker(&format!("{head}# workers\n# old workers\n33 worker 1 0d 2.6\n# programs\n")));
        assert!(!has_new_worker(""));
    }

    #[test]
    fn a_file_without_a_checker_never_goes_live() {
        let folder = tempfile::tempdir().unwrap();
        let services = Services::new(folder.path().join("files"), folder.path().into());
        let files = BTreeMap::from([("ntp/chrony.conf".to_owned(), File { text: "x".into(), mode: 0o640 })]);
        assert!(services.stage(&files).unwrap_err().contains("no checker"));
    }

    #[test]
    fn what_haproxy_refuses_stays_staged_and_what_it_accepts_goes_live() {
        let folder = tempfile::tempdir().unwrap();
        let services = Services::new(folder.path().join("files"), folder.path().into());
        let config = |text: &str| BTreeMap::from([("admin-front/haproxy.cfg".to_owned(), File { text: text.into(), mode: 0o640 })]);
        let live = folder.path().join("files/admin-front/haproxy.cfg");

        let error = services.stage(&config("frontend x\n    bnid :1\n")).unwrap_err();
        assert!(error.contains("bnid"), "{error}");
        assert!(!live.exists());

        let good = config(
            "defaults\n    mode http\n    timeout client 1s\n    timeout server 1s\n    timeout connect 1s\nfrontend x\n    bind 127.0.0.1:1\n",
        );
        services.stage(&good).unwrap();
        services.publish(&good).unwrap();
        assert_eq!(fs::read(&live).unwrap(), good["admin-front/haproxy.cfg"].text.as_bytes());
        assert_eq!(fs::metadata(&live).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(live.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_file_that_is_refused_keeps_no_other_from_going_live() {
        let folder = tempfile::tempdir().unwrap();
        let services = Services::new(folder.path().join("files"), folder.path().into());
        let file = |text: &str| File { text: text.into(), mode: 0o644 };
        let files = BTreeMap::from([
            ("admin-front/haproxy.cfg".to_owned(), file("frontend x\n    bnid :1\n")),
            ("dhcp/dhcpcd.conf".to_owned(), file("allowinterfaces wan0\n")),
        ]);
        assert!(services.stage(&files).unwrap_err().contains("bnid"));
        services.publish(&files).ok();
        assert!(folder.path().join("files/dhcp/dhcpcd.conf").exists());
    }

    /// A front that runs, and is killed with the test.
    struct Front(std::process::Child);

    impl Drop for Front {
        fn drop(&mut self) {
            // SIGTERM: the master takes its workers along.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), nix::sys::signal::SIGTERM).ok();
            self.0.wait().ok();
        }
    }

    #[test]
    fn a_running_haproxy_is_reloaded_and_seen_to_run_and_one_that_cannot_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let services = Services::new(folder.path().join("files"), folder.path().into());
        let config = |extra: &str| {
            let text = format!(
                "defaults\n    mode http\n    timeout client 1s\n    timeout server 1s\n    timeout connect 1s\nfrontend x\n    bind unix@{}/x.sock\n{extra}",
                folder.path().display()
            );
            BTreeMap::from([("admin-front/haproxy.cfg".to_owned(), File { text, mode: 0o644 })])
        };
        let deploy = |files: &BTreeMap<String, File>| services.stage(files).and_then(|()| services.publish(files));
        deploy(&config("")).unwrap();
        let socket = folder.path().join("admin-front-master.sock");
        let child = Command::new("haproxy")
            .args(["-W", "-db", "-S"])
            .arg(&socket)
            .arg("-f")
            .arg(folder.path().join("files/admin-front/haproxy.cfg"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _front = Front(child);
        let begun = Instant::now();
        while !ask_haproxy(&socket, "show proc").is_ok_and(|said| has_new_worker(&said)) {
            assert!(begun.elapsed() < PATIENCE, "haproxy does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        deploy(&config("    maxconn 10\n")).unwrap();
        // Its checker is content, but the file that it needs is only there for the checker.
        let needs = folder.path().join("needed.lst");
        fs::write(&needs, "a\n").unwrap();
        let files = config(&format!("    http-request deny if {{ src -f {} }}\n", needs.display()).replace("src -f", "path -f"));
        services.stage(&files).unwrap();
        fs::remove_file(&needs).unwrap();
        let error = services.publish(&files).unwrap_err();
        assert!(error.contains("admin-front"), "{error}");
    }
}
