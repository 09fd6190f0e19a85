//! Network namespaces that end with the test: each is held by a thread that lives in it.

use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

pub struct Namespace {
    /// A thread id; `ip link ... netns ID` finds the namespace by it.
    id: i32,
    jobs: Sender<Job>,
}

impl Namespace {
    pub fn new() -> Namespace {
        assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces and need root");
        let (jobs, inbox) = channel::<Job>();
        let (tell, told) = channel();
        thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
            tell.send(nix::unistd::gettid().as_raw()).expect("the maker waits");
            inbox.into_iter().for_each(|job| job());
        });
        let namespace = Namespace { id: told.recv().expect("the thread lives"), jobs };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs inside and waits. Sockets that it opens and threads that it starts stay inside.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let job = move || drop(tell.send(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job))));
        self.jobs.send(Box::new(job)).expect("the namespace lives");
        told.recv().expect("the job ends").unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    pub fn ip(&self, arguments: &str) -> String {
        self.command("ip", arguments)
    }

    /// Panics with what the command said if it fails.
    pub fn command(&self, program: &'static str, arguments: &str) -> String {
        let arguments = arguments.to_owned();
        self.run(move || {
            let out = Command::new(program).args(arguments.split_whitespace()).output().expect(program);
            assert!(out.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8_lossy(&out.stdout).into_owned()
        })
    }

    /// A cable between two namespaces, up at the far end.
    pub fn cable(&self, name: &str, far: &Namespace, far_name: &str, far_address: &str) {
        self.ip(&format!("link add {name} type veth peer name {far_name} netns {}", far.id));
        far.ip(&format!("addr add {far_address} dev {far_name} nodad"));
        far.ip(&format!("link set {far_name} up"));
    }
}
