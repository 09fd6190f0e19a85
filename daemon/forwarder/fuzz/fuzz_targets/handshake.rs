//! Any bytes as what an upstream answers, in any pieces: granted or refused, never a panic, and the pieces make no difference.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use policy::plan::proxy::{Upstream, UpstreamKind};

#[allow(dead_code)]
#[path = "../../src/dial/mod.rs"]
mod dial;

use dial::{Handshake, Progress, Refused, Target};

fuzz_target!(|bytes: &[u8]| {
    let [how, piece, answer @ ..] = bytes else { return };
    let socks = how & 1 != 0;
    let upstream = Upstream {
        kind: if socks { UpstreamKind::Socks5 } else { UpstreamKind::HttpConnect },
        address: IpAddr::from([127, 0, 0, 1]),
        port: 1080,
        username: (how & 2 != 0).then(|| "ann".into()),
        password: None,
        server_name: None,
        authority: None,
        udp: socks,
        probe: String::new(),
        expect_exit: Vec::new(),
    };
    let target = Target::Name("a.example".into(), 80);
    let begin = |pipelined| match (socks, how & 4 != 0) {
        (true, true) => Handshake::associate(&upstream, None).unwrap(),
        _ => Handshake::connect(&upstream, None, &target, pipelined).unwrap(),
    };
    let piece = usize::from(*piece).max(1);
    if socks && how & 4 != 0 {
        // It asks step by step: what matters is that it survives.
        let _ = hear(begin(false), answer, piece);
    } else {
        assert_eq!(hear(begin(true), answer, piece), hear(begin(true), answer, answer.len().max(1)));
        let _ = hear(begin(false), answer, piece);
    }
});

/// What came of it, and how many bytes were the handshake's.
fn hear(mut handshake: Handshake, answer: &[u8], piece: usize) -> Result<usize, Refused> {
    let mut heard = 0;
    for piece in answer.chunks(piece) {
        let said = handshake.to_send().len();
        assert!(said < 2000);
        handshake.sent(said);
        match handshake.received(piece) {
            Ok(Progress::More) => heard += piece.len(),
            Ok(Progress::Done { used, relay }) => {
                assert!(used <= piece.len() && relay.is_none_or(|relay| relay.ip() == IpAddr::from([127, 0, 0, 1])));
                return Ok(heard + used);
            }
            Err(refused) => {
                assert!(!refused.why.contains(char::is_control) && refused.why.len() < 300);
                return Err(refused);
            }
        }
        assert!(heard <= 16 << 10, "an answer without end");
    }
    Err(handshake.ended())
}
