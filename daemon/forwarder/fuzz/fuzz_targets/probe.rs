//! Any bytes as what is heard during a probe, with TLS or without: an address or a reason, never a panic.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use policy::plan::proxy::{Upstream, UpstreamKind};

#[allow(dead_code)]
#[path = "../../src/dial/mod.rs"]
mod dial;
#[path = "../../src/health"]
mod health {
    pub mod answer;
    #[allow(dead_code)]
    pub mod probe;
}

use health::probe::{Conversation, Heard};

fuzz_target!(|bytes: &[u8]| {
    let [how, piece, heard @ ..] = bytes else { return };
    let upstream = Upstream {
        kind: [UpstreamKind::Socks5, UpstreamKind::HttpConnect, UpstreamKind::HttpsConnect][usize::from(how % 3)],
        address: IpAddr::from([127, 0, 0, 1]),
        port: 1080,
        username: None,
        password: None,
        server_name: None,
        authority: None,
        udp: false,
        probe: "http://a.example/".into(),
        expect_exit: Vec::new(),
    };
    // Most of what is to be found is behind the handshake.
    let granted: &[u8] = match (how & 128 != 0, upstream.kind) {
        (true, UpstreamKind::Socks5) => &[5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        (true, UpstreamKind::HttpConnect) => b"HTTP/1.1 200 OK\r\n\r\n",
        _ => &[],
    };
    let Ok(mut conversation) = Conversation::begin(&upstream, None, true) else { return };
    for piece in [granted].into_iter().chain(heard.chunks(usize::from(*piece).max(1))) {
        let said = conversation.to_send().len();
        conversation.sent(said);
        match conversation.received(piece) {
            Ok(Heard::Exit(_)) => return,
            Ok(_) => {}
            Err(refused) => {
                assert!(!refused.why.contains(char::is_control) && refused.why.len() < 300);
                return;
            }
        }
    }
    let _ = conversation.ended();
    assert!(!conversation.stands().is_empty());
});
