//! The real program, killed and started again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Instant;

use policy::messages::updater::{Outcome, Refusal, SlotState, Source, Step, UpdaterRequest, UpdaterResponse};

use crate::lab::{KERNEL, Lab, NEW, OLD, ROOT, VERITY, anna, bytes};

#[test]
fn an_update_is_written_beside_what_runs_and_taken_back_when_nothing_answers() {
    let lab = Lab::new();
    let bundle = lab.bundle("0.2.0", "release");
    let (root, verity) = (lab.partition(2), lab.partition(3));
    let running = lab.start();
    match running.ask(&UpdaterRequest::Check { source: Source::Descriptor, downgrade: false }, Some(&bundle)).unwrap() {
        UpdaterResponse::Good(facts) => {
            assert_eq!((facts.version.as_str(), facts.key.as_str(), facts.recipe.as_str()), ("0.2.0", "release", "c0ffee"))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(running.begin(&bundle), UpdaterResponse::Begun);
    let status = running.wait();
    assert_eq!(status.last_update.as_ref().unwrap().outcome, Outcome::Installed, "{status:?}");
    assert_eq!(
        status.slots.iter().map(|slot| (slot.state, slot.booted)).collect::<Vec<_>>(),
        [(SlotState::Good, true), (SlotState::Trying { tries_left: 3 }, false)]
    );
    drop(running);

    assert_eq!(lab.entries(), ["portcullis_0.1.0.efi", "portcullis_0.2.0+3.efi"]);
    assert_eq!(fs::read(lab.path("esp/EFI/Linux/portcullis_0.2.0+3.efi")).unwrap(), bytes(22, KERNEL));
    for (number, seed, size) in [(4, 20, ROOT), (5, 21, VERITY)] {
        let found = lab.partition(number);
        assert_eq!(found[..size], bytes(seed, size));
        assert!(found[size..].iter().all(|byte| *byte == 0), "something is left behind the files of partition {number}");
    }
    assert!((lab.partition(2), lab.partition(3)) == (root, verity), "the slot that runs was touched");
    let table = lab.table();
    assert!(table.contains("11111111-2222-3333-4444-555566667777, name=\"portcullis_0.2.0\""), "{table}");
    assert!(table.contains("88888888-2222-3333-4444-555566667777, name=\"portcullis_0.2.0_verity\""), "{table}");

    // The loader counts and boots it; nothing answers in it.
    fs::rename(lab.path("esp/EFI/Linux/portcullis_0.2.0+3.efi"), lab.path("esp/EFI/Linux/portcullis_0.2.0+2-1.efi")).unwrap();
    lab.runs("0.2.0");
    lab.once(&["settle"], NEW);
    lab.once(&["bless", "--patience", "1"], NEW);
    assert_eq!(lab.entries(), ["portcullis_0.1.0.efi", "portcullis_0.2.0+0-1.efi"]);
    assert_eq!(lab.asked_of_systemd(), "--no-block reboot\n");

    lab.runs("0.1.0");
    lab.once(&["settle"], OLD);
    lab.once(&["bless", "--patience", "1"], OLD);
    assert_eq!(lab.asked_of_systemd(), "--no-block reboot\n", "a version that was good is not restarted");
    let last = lab.start().status().last_update.unwrap();
    assert_eq!(last.outcome, Outcome::TakenBack);
    assert!(last.reason.as_ref().unwrap().contains("the applier does not answer"), "{last:?}");
}

#[test]
fn what_is_refused_changes_nothing_and_says_why() {
    let lab = Lab::new();
    let good = lab.bundle("0.2.0", "release");
    let whole = fs::read(&good).unwrap();
    let write = |name: &str, content: &[u8]| {
        fs::write(lab.path(name), content).unwrap();
        lab.path(name)
    };
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let cases = [
        (lab.bundle("0.2.0", "stranger"), Refusal::UnknownKey),
        (lab.bundle("0.0.9", "release"), Refusal::Downgrade),
        (lab.bundle("0.1.0", "release"), Refusal::SameVersion),
        (write("short", &whole[..whole.len() - 1]), Refusal::Truncated),
        (write("damaged", &damaged), Refusal::Damaged),
        (write("other", b"not a bundle at all, but a text of some length"), Refusal::NotABundle),
    ];
    let (disk, entries) = (fs::read(lab.path("disk")).unwrap(), lab.entries());
    let running = lab.start();
    for (file, expected) in cases {
        match running.ask(&UpdaterRequest::Check { source: Source::Descriptor, downgrade: false }, Some(&file)).unwrap() {
            UpdaterResponse::Refused { why, reason } => assert_eq!(why, expected, "{reason}"),
            other => panic!("{}: {other:?}", file.display()),
        }
        // Installing it ends the same, at once or after its parts were read.
        if running.begin(&file) == UpdaterResponse::Begun {
            assert_eq!(running.wait().work.unwrap().step, Step::Refused);
        }
    }
    let none = running.ask(&UpdaterRequest::Install { source: Source::Descriptor, downgrade: false, by: anna() }, None).unwrap();
    assert!(matches!(none, UpdaterResponse::Refused { why: Refusal::NoDescriptor, .. }), "{none:?}");
    assert!(fs::read(lab.path("disk")).unwrap() == disk && lab.entries() == entries, "something was changed");
    assert!(running.status().last_update.is_none());
}

#[test]
fn killed_at_any_moment_the_old_version_stays_whole_and_the_update_can_be_made_again() {
    let lab = Lab::new();
    let bundle = lab.bundle("0.2.0", "release");
    let (root, verity, kernel) = (lab.partition(2), lab.partition(3), fs::read(lab.path("esp/EFI/Linux/portcullis_0.1.0.efi")).unwrap());
    let begun = Instant::now();
    let whole = {
        let running = lab.start();
        let begun = Instant::now();
        running.begin(&bundle);
        running.wait();
        begun.elapsed()
    };
    for round in 0..16_u32 {
        let running = lab.start();
        running.begin(&bundle);
        thread::sleep(whole * round / 14);
        running.kill();
        assert!(lab.partition(2) == root && lab.partition(3) == verity, "round {round}: the slot that runs was touched");
        assert_eq!(fs::read(lab.path("esp/EFI/Linux/portcullis_0.1.0.efi")).unwrap(), kernel, "round {round}");
        for name in lab.entries().iter().filter(|name| name.starts_with("portcullis_0.2.0")) {
            assert_eq!(
                fs::read(lab.path("esp/EFI/Linux").join(name)).unwrap(),
                bytes(22, KERNEL),
                "round {round}: an entry that cannot boot"
            );
            assert_eq!(lab.partition(4)[..ROOT], bytes(20, ROOT), "round {round}: an entry whose root cannot boot");
        }
        lab.once(&["settle"], OLD);
        assert!(!lab.path("esp/EFI/Linux/portcullis.unfinished").exists(), "round {round}");
    }
    let running = lab.start();
    running.begin(&bundle);
    assert_eq!(running.wait().work.unwrap().step, Step::Installed);
    eprintln!("17 updates and 16 kills in {} s", begun.elapsed().as_secs());
}

#[test]
fn a_stranger_gets_no_answer() {
    let lab = Lab::new();
    let running = lab.start();
    fs::set_permissions(lab.path("run"), PermissionsExt::from_mode(0o755)).unwrap();
    let ask = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\nm=b'{\"request\":\"status\"}'\ntry:\n s.sendall(len(m).to_bytes(4,'big')+m)\n print(len(s.recv(9)))\nexcept OSError: print(0)";
    let answered = |user: u32| {
        let output = Command::new("python3").args(["-c", ask]).arg(lab.path("run/updater.sock")).uid(user).gid(user).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(answered(65534), "0\n");
    assert_eq!(answered(0), "9\n", "root is answered, so silence means something");
    drop(running);
}

#[test]
fn everything_is_forgotten_only_after_the_phrase_was_typed() {
    let lab = Lab::new();
    let running = lab.start();
    let reset = |phrase: &str| running.ask(&UpdaterRequest::FactoryReset { phrase: phrase.into(), by: anna() }, None).unwrap();
    assert!(matches!(reset("forget everythin"), UpdaterResponse::Refused { why: Refusal::WrongPhrase, .. }));
    assert!(lab.table().contains("portcullis-data"));
    assert_eq!(reset("forget everything"), UpdaterResponse::Done);
    assert!(!lab.table().contains("portcullis-data"), "{}", lab.table());
    assert!(lab.table().contains("portcullis_0.1.0"));
    assert_eq!(lab.asked_of_systemd(), "--no-block reboot\n");
}
