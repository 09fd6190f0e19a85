//! SIGKILL before every single thing that the applier does to disk or kernel.
//!
//! The test is a debugger: it lets the process run from system call to system call and kills it at the entry of the n-th that
//! changes anything, for every n. The process under test is the one that ships; it does not know of it.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::time::Duration;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use policy::messages::{ApplierRequest, ApplierResponse};

use crate::applier::{Applier, anna, apply};
use crate::office::{Office, SSH, WEB, policy};

/// System calls that change the disk or the kernel (arch/x86/entry/syscalls/syscall_64.tbl).
const WRITES: [u64; 13] = [
    1,   // write: files, /proc/sys
    18,  // pwrite64
    44,  // sendto: netlink
    46,  // sendmsg: netlink
    74,  // fsync
    82,  // rename
    83,  // mkdir
    84,  // rmdir
    87,  // unlink
    258, // mkdirat
    263, // unlinkat
    264, // renameat
    316, // renameat2
];

/// Begins the deed and lets it run until the process has begun `limit` changes, then kills it. Returns whether it lived to do that many.
fn kill_at(pid: Pid, limit: usize, begin: impl FnOnce(), done: impl Fn() -> bool) -> bool {
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
    let mut begun = 0;
    let mut inside: BTreeSet<Pid> = BTreeSet::new();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    for thread in threads {
        let id = thread.expect("a thread").file_name().to_string_lossy().parse().expect("a number");
        ptrace::seize(Pid::from_raw(id), options).expect("root may trace");
        ptrace::interrupt(Pid::from_raw(id)).expect("it was seized");
    }
    begin();
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Ok(WaitStatus::PtraceSyscall(thread)) => {
                let entering = inside.insert(thread) || !inside.remove(&thread);
                let call = ptrace::getregs(thread).map_or(0, |registers| registers.orig_rax);
                if entering && WRITES.contains(&call) {
                    begun += 1;
                    if begun == limit {
                        nix::sys::signal::kill(pid, Signal::SIGKILL).expect("it lives");
                        reap(pid);
                        return true;
                    }
                }
                ptrace::syscall(thread, None).ok();
            }
            Ok(WaitStatus::Stopped(thread, signal)) => {
                // The stop of a new or interrupted thread is not a signal for it.
                let signal = (signal != Signal::SIGSTOP && signal != Signal::SIGTRAP).then_some(signal);
                ptrace::syscall(thread, signal).ok();
            }
            Ok(WaitStatus::PtraceEvent(thread, _, _)) => drop(ptrace::syscall(thread, None)),
            Ok(WaitStatus::Exited(gone, _) | WaitStatus::Signaled(gone, _, _)) if gone == pid => return false,
            Ok(_) => {}
            Err(error) => panic!("waiting for the traced process: {error}"),
        }
        if done() {
            nix::sys::signal::kill(pid, Signal::SIGKILL).expect("it lives");
            reap(pid);
            return false;
        }
    }
}

/// A traced process is gone only when each of its threads has been waited for, the first one last.
fn reap(pid: Pid) {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Ok(WaitStatus::Exited(gone, _) | WaitStatus::Signaled(gone, _, _)) if gone == pid => return,
            Ok(_) => {}
            Err(error) => panic!("waiting for the killed process: {error}"),
        }
    }
}

/// Kills at the n-th change for n = 1, 2, ... until the deed gets through; each time the restarted box must be as confirmed.
fn killed_everywhere(request: impl Fn(&Applier) -> ApplierRequest, acknowledged: impl Fn(Option<&ApplierResponse>, Option<u64>)) -> usize {
    let office = Office::new();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    applier.keep(&policy("lan", WEB));
    let mut limit = 0;
    loop {
        limit += 1;
        let request = request(&applier);
        let pid = Pid::from_raw(applier.pid() as i32);
        let mut stream = applier.connect().expect("it listens");
        let (tell, told) = channel();
        let (begin, begun) = channel::<()>();
        let asker = std::thread::spawn(move || {
            begun.recv().ok();
            let response = crate::applier::ask_over(&mut stream, &request);
            tell.send(()).ok();
            response
        });
        let was_killed = kill_at(pid, limit, || begin.send(()).unwrap_or_default(), || told.try_recv().is_ok());
        let response = asker.join().expect("the asker ends");
        applier.kill();
        applier.start(&office.gate);
        let status = applier.status();
        let running = status.running.as_ref().map(|generation| generation.number);
        assert_eq!(running, status.last_confirmed, "killed at change {limit}: what runs is not what is confirmed\n{}", applier.log());
        assert_eq!(status.trial, None);
        assert_eq!(applier.drift(), [], "killed at change {limit}");
        acknowledged(response.as_ref(), running);
        if !was_killed {
            return limit;
        }
    }
}

#[test]
fn a_change_that_is_killed_at_any_step_never_stands() {
    let steps =
        killed_everywhere(|_| apply(&policy("lan", SSH), 60), |_, running| assert_eq!(running, Some(1), "an unconfirmed change stands"));
    eprintln!("killed at {steps} steps of a change");
    assert!(steps > 20, "only {steps} steps were seen");
}

#[test]
fn a_confirmation_that_is_killed_at_any_step_is_durable_once_acknowledged() {
    let steps = killed_everywhere(
        |applier| {
            let ApplierResponse::OnTrial { generation, .. } = applier.apply(&policy("lan", SSH), 60) else { panic!("{}", applier.log()) };
            std::thread::sleep(Duration::from_millis(2));
            ApplierRequest::Confirm { generation, by: anna() }
        },
        |response, running| {
            if let Some(ApplierResponse::Confirmed { generation }) = response {
                assert_eq!(running, Some(*generation), "an acknowledged confirmation was lost");
            }
        },
    );
    eprintln!("killed at {steps} steps of a confirmation");
    assert!(steps > 4, "only {steps} steps were seen");
}

#[test]
fn going_back_that_is_killed_at_any_step_still_goes_back() {
    let steps = killed_everywhere(
        |applier| {
            let ApplierResponse::OnTrial { .. } = applier.apply(&policy("lan", SSH), 60) else { panic!("{}", applier.log()) };
            ApplierRequest::GoBack { generation: None, by: anna() }
        },
        |_, running| assert_eq!(running, Some(1)),
    );
    eprintln!("killed at {steps} steps of going back");
    assert!(steps > 10, "only {steps} steps were seen");
}
