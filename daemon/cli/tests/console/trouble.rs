//! Noise, and processes that are down, hang or talk nonsense: the console goes on.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::stand_in::StandIn;

#[test]
fn a_wrong_choice_gets_a_clear_answer() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    for wrong in ["0", "15", "-1", "help", "2.5", "99999999999999999999"] {
        session.choose(wrong, &[("", "is not one of the numbers 1 to 14")]);
    }
}

#[test]
fn ctrl_c_and_ctrl_d_are_answers_and_end_nothing() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    for key in [b"\x03", b"\x04", b"\x1c", b"\x1a"] {
        session.menu();
        session.send(key);
        if matches!(key, b"\x1c" | b"\x1a") {
            session.send(b"\r");
        }
    }
    session.menu();
    session.answer("6", "Whose password");
    session.send(b"\x03");
    session.expect("Nothing was changed");
    assert!(session.is_alive());
}

#[test]
fn line_noise_ends_nothing() {
    let stand_in = StandIn::well();
    let mut session = stand_in.session();
    session.is_noisy = true;
    session.menu();
    let noise: Vec<u8> = (0..4000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for piece in noise.chunks(200) {
        session.send(piece);
        thread::sleep(Duration::from_millis(5));
    }
    // XOFF, and a line without end.
    session.send(b"\x13");
    for _ in 0..20 {
        session.send(&[b'x'; 200]);
        thread::sleep(Duration::from_millis(5));
    }
    let until = Instant::now() + Duration::from_secs(60);
    // Noise may have left it in the middle of a question; Ctrl-C and Enter lead out of any.
    loop {
        session.send(b"\x03\r\r");
        thread::sleep(Duration::from_millis(500));
        session.send(b"zebra\r");
        thread::sleep(Duration::from_millis(500));
        if session.has_shown("\"zebra\" is not one of the numbers") {
            break;
        }
        assert!(Instant::now() < until, "the console is lost");
    }
    assert!(session.is_alive());
}

#[test]
fn with_every_process_down_every_choice_says_who_is_missing() {
    let stand_in = StandIn::empty();
    stand_in.tool("systemctl", "#!/bin/sh\nexit 1\n");
    let mut session = stand_in.session();
    let menu = session.menu();
    assert!(menu.contains("the applier is down. What stands in the kernel stays"), "{menu}");
    session.send(b"\r");
    for (number, who) in
        [("2", "applier"), ("3", "applier"), ("4", "applier"), ("6", "rescue program"), ("7", "rescue program"), ("8", "applier")]
    {
        session.choose(number, &[("", &format!("NOT DONE: the {who} is down"))]);
    }
    for number in ["9", "13"] {
        session.choose(number, &[("", "NOT DONE: the updater is down")]);
    }
    for number in ["10", "11"] {
        session.choose(number, &[("", "Type yes"), ("yes", "NOT DONE: the updater is down")]);
    }
    session.choose("12", &[("", "type: forget everything"), ("forget everything", "NOT DONE: the updater is down")]);
    let said = session.choose("5", &[("", "Which port"), ("", "Nothing was changed")]);
    assert!(said.contains("192.168.1.1/24"), "links are seen without anybody's help:\n{said}");
}

#[test]
fn processes_that_hang_hang_nobody_else() {
    let stand_in = StandIn::well();
    // One that accepts nothing, and one that accepts and never answers.
    for name in ["applier.sock", "updater.sock"] {
        fs::remove_file(stand_in.run_dir().join(name)).unwrap();
    }
    let _silent = UnixListener::bind(stand_in.run_dir().join("applier.sock")).unwrap();
    let deaf = UnixListener::bind(stand_in.run_dir().join("updater.sock")).unwrap();
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in deaf.incoming() {
            held.push(stream);
        }
    });
    stand_in.tool("systemctl", "#!/bin/sh\nexec sleep 1000\n");
    let mut session = stand_in.session();
    let begun = Instant::now();
    let menu = session.menu();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    for wanted in ["the applier hangs", "systemctl does not answer in time", "the updater hangs"] {
        assert!(menu.contains(wanted), "{wanted} is missing in:\n{menu}");
    }
    session.send(b"\r");
    session.choose("6", &[("", "Whose password"), ("", "Nothing was changed")]);
}

#[test]
fn nonsense_of_a_process_is_told_and_never_shown_as_it_is() {
    let stand_in = StandIn::well();
    fs::remove_file(stand_in.run_dir().join("applier.sock")).unwrap();
    let mad = UnixListener::bind(stand_in.run_dir().join("applier.sock")).unwrap();
    thread::spawn(move || {
        for stream in mad.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(b"\0\0\0\x0a\x1b[2J\x1b[2J\x07\x07"));
        }
    });
    let menu = stand_in.session().menu();
    assert!(menu.contains("makes no sense") || menu.contains("ended the connection"), "{menu}");
}
