//! Peers that mean no good, or do not know better.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use policy::messages::{ApplierRequest, MAX_MESSAGE, encode};

use crate::applier::{Applier, ask_over};
use crate::namespace::Namespace;

fn started() -> (Namespace, Applier) {
    let gate = Namespace::new();
    let mut applier = Applier::new();
    applier.start(&gate);
    (gate, applier)
}

/// It answers, and at once.
fn answers(applier: &Applier) {
    let begun = Instant::now();
    applier.status();
    assert!(begun.elapsed() < Duration::from_secs(1), "it took {:?}", begun.elapsed());
}

/// The applier hangs up: what was sent is not a message.
fn hangs_up(stream: &mut UnixStream) {
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut rest = vec![];
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it still listens"),
    }
}

#[test]
fn random_bytes_end_their_connection_and_nothing_else() {
    let (_gate, applier) = started();
    let mut luck = 42_u64;
    for round in 0..300 {
        let mut bytes: Vec<u8> = (0..round)
            .map(|_| {
                luck = luck.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (luck >> 56) as u8
            })
            .collect();
        // Half of them with a length that is believed.
        if round % 2 == 0 {
            let mut framed = (bytes.len() as u32).to_be_bytes().to_vec();
            framed.append(&mut bytes);
            bytes = framed;
        }
        let mut stream = applier.connect().unwrap();
        stream.write_all(&bytes).ok();
    }
    answers(&applier);
}

#[test]
fn an_absurd_length_is_hung_up_on() {
    let (_gate, applier) = started();
    for length in [MAX_MESSAGE + 1, u32::MAX] {
        let mut stream = applier.connect().unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        hangs_up(&mut stream);
    }
    answers(&applier);
}

#[test]
fn deep_nesting_is_hung_up_on() {
    let (_gate, applier) = started();
    let body = "[".repeat(1 << 20);
    let mut stream = applier.connect().unwrap();
    stream.write_all(&(body.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(body.as_bytes()).ok();
    hangs_up(&mut stream);
    answers(&applier);
}

#[test]
fn two_hundred_idle_connections_and_half_messages_do_not_keep_others_out() {
    let (_gate, applier) = started();
    let idle: Vec<UnixStream> = (0..200).map(|_| applier.connect().unwrap()).collect();
    answers(&applier);
    let half: Vec<UnixStream> = (0..200)
        .map(|_| {
            let mut stream = applier.connect().unwrap();
            stream.write_all(&[0, 0, 1]).ok();
            stream
        })
        .collect();
    answers(&applier);
    drop((idle, half));
    answers(&applier);
}

#[test]
fn a_peer_that_never_reads_is_given_up() {
    let (_gate, applier) = started();
    let mut stream = applier.connect().unwrap();
    let many = encode(&ApplierRequest::Status).unwrap().repeat(2000);
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    stream.write_all(&many).ok();
    answers(&applier);
}

#[test]
fn requests_in_a_row_are_answered_in_turn_over_one_connection() {
    let (_gate, applier) = started();
    let mut stream = applier.connect().unwrap();
    for _ in 0..50 {
        ask_over(&mut stream, &ApplierRequest::Status).unwrap();
        ask_over(&mut stream, &ApplierRequest::Counters).unwrap();
    }
}

#[test]
fn a_user_who_is_not_named_is_not_heard() {
    let (_gate, applier) = started();
    std::fs::set_permissions(applier.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // A shell of an ordinary user that sends a status request and prints what comes back.
    let script = "import socket,struct,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); m=b'{\"request\":\"status\"}'\n\
                  try:\n  s.sendall(struct.pack('!I',len(m))+m); print(len(s.recv(100)))\nexcept OSError: print(0)";
    let out = Command::new("python3")
        .args(["-c", script])
        .arg(applier.folder.path().join("applier.sock"))
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "0", "{}", String::from_utf8_lossy(&out.stderr));
    assert!(applier.log().contains("may not speak"), "{}", applier.log());
    answers(&applier);
}
