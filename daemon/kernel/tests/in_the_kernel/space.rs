use std::io::Write;
use std::process::{Command, Stdio};

/// Runs a story in a network namespace of its own, which ends with it.
pub fn alone<T: Send + 'static>(story: impl FnOnce() -> T + Send + 'static) -> T {
    assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces and need root");
    let outcome = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        run("ip", &["link", "set", "lo", "up"]);
        story()
    });
    outcome.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a command in the calling thread's namespace and returns what it printed.
pub fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

/// Loads a script with nft.
pub fn nft_load(script: &str) -> Result<(), String> {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nft is installed");
    child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("nft reads");
    let out = child.wait_with_output().expect("nft ends");
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

/// Panics with the lines that differ.
pub fn same(left: &str, right: &str) {
    if left == right {
        return;
    }
    let (left, right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    let mut told = String::new();
    for line in left.iter().filter(|line| !right.contains(line)).take(20) {
        told += &format!("- {line}\n");
    }
    for line in right.iter().filter(|line| !left.contains(line)).take(20) {
        told += &format!("+ {line}\n");
    }
    panic!("they differ:\n{told}");
}
