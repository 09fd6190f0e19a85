//! What servers answer, well and ill, in pieces of any size.

use std::net::{IpAddr, SocketAddr};

use policy::plan::proxy::{Upstream, UpstreamKind};
use proptest::prelude::*;

use super::{Handshake, Progress, Refused, Target};

pub mod secure;

pub fn upstream(kind: UpstreamKind) -> Upstream {
    Upstream {
        kind,
        address: IpAddr::from([127, 0, 0, 1]),
        port: 1080,
        username: None,
        password: None,
        server_name: None,
        authority: None,
        udp: kind == UpstreamKind::Socks5,
        probe: "http://192.0.2.80/".into(),
        expect_exit: Vec::new(),
    }
}

fn with_password(kind: UpstreamKind) -> Upstream {
    Upstream { username: Some("ann".into()), password: Some("secret".into()), ..upstream(kind) }
}

fn web() -> Target {
    Target::Address("192.0.2.80:80".parse().unwrap())
}

fn say(handshake: &mut Handshake) -> Vec<u8> {
    let said = handshake.to_send().to_vec();
    handshake.sent(said.len());
    said
}

/// The server's answers one after the other; everything is sent before each.
fn hear(handshake: &mut Handshake, answers: &[&[u8]]) -> Result<Progress, Refused> {
    let mut progress = Progress::More;
    for answer in answers {
        say(handshake);
        progress = handshake.received(answer)?;
    }
    Ok(progress)
}

fn done(used: usize) -> Result<Progress, Refused> {
    Ok(Progress::Done { used, relay: None })
}

fn socks(answers: &[&[u8]]) -> Result<Progress, Refused> {
    hear(&mut Handshake::connect(&upstream(UpstreamKind::Socks5), None, &web(), false).unwrap(), answers)
}

fn http(answer: &str) -> Result<Progress, Refused> {
    hear(&mut Handshake::connect(&upstream(UpstreamKind::HttpConnect), None, &web(), false).unwrap(), &[answer.as_bytes()])
}

fn at_fault(result: Result<Progress, Refused>) -> bool {
    result.unwrap_err().upstream_at_fault
}

const GRANTED: &[u8] = &[5, 0, 0, 1, 10, 0, 0, 1, 4, 56];

#[test]
fn socks_is_asked_in_two_steps_and_the_rest_is_the_tunnels() {
    let mut handshake = Handshake::connect(&upstream(UpstreamKind::Socks5), None, &web(), false).unwrap();
    assert_eq!(say(&mut handshake), [5, 1, 0]);
    assert_eq!(handshake.received(&[5, 0]), Ok(Progress::More));
    assert_eq!(say(&mut handshake), [5, 1, 0, 1, 192, 0, 2, 80, 0, 80]);
    assert_eq!(handshake.received(&[GRANTED, b"hello"].concat()), done(10));
    assert!(handshake.to_send().is_empty());
}

#[test]
fn socks_signs_in_with_name_and_password() {
    let mut handshake = Handshake::connect(&with_password(UpstreamKind::Socks5), Some("pw"), &web(), false).unwrap();
    assert_eq!(say(&mut handshake), [5, 2, 0, 2]);
    handshake.received(&[5, 2]).unwrap();
    assert_eq!(say(&mut handshake), b"\x01\x03ann\x02pw");
    handshake.received(&[1, 0]).unwrap();
    assert_eq!(say(&mut handshake)[..4], [5, 1, 0, 1]);
    assert_eq!(handshake.received(GRANTED), done(10));
}

#[test]
fn a_pipelined_request_is_sent_at_once_and_all_answers_may_come_together() {
    let mut handshake = Handshake::connect(&with_password(UpstreamKind::Socks5), Some("pw"), &web(), true).unwrap();
    assert_eq!(say(&mut handshake), b"\x05\x01\x02\x01\x03ann\x02pw\x05\x01\x00\x01\xc0\x00\x02\x50\x00\x50");
    assert_eq!(handshake.received(&[&[5, 2, 1, 0], GRANTED, b"x"].concat()), done(14));
}

#[test]
fn names_and_addresses_of_version_6_are_asked_for_as_they_are() {
    let ask = |target| {
        let mut handshake = Handshake::connect(&upstream(UpstreamKind::Socks5), None, &target, true).unwrap();
        say(&mut handshake)[3..].to_vec()
    };
    assert_eq!(ask(Target::Name("a.example".into(), 443)), b"\x05\x01\x00\x03\x09a.example\x01\xbb");
    assert_eq!(ask(Target::Address("[2001:db8::1]:1".parse().unwrap()))[3..8], [4, 0x20, 1, 0x0d, 0xb8]);
    assert_eq!(ask(Target::Address("[::ffff:192.0.2.1]:1".parse().unwrap())), [5, 1, 0, 1, 192, 0, 2, 1, 0, 1]);
    let mut handshake =
        Handshake::connect(&upstream(UpstreamKind::HttpConnect), None, &Target::Address("[2001:db8::1]:1".parse().unwrap()), false)
            .unwrap();
    assert_eq!(say(&mut handshake), b"CONNECT [2001:db8::1]:1 HTTP/1.1\r\nHost: [2001:db8::1]:1\r\n\r\n");
}

#[test]
fn a_name_that_would_end_a_line_goes_nowhere() {
    for name in ["", "a b", "a\r\nX: y", "a/../b", "ü.example", &"a".repeat(254)] {
        for kind in [UpstreamKind::Socks5, UpstreamKind::HttpConnect] {
            let refused = Handshake::connect(&upstream(kind), None, &Target::Name(name.into(), 80), false).unwrap_err();
            assert!(!refused.upstream_at_fault, "{name:?}");
        }
    }
}

#[test]
fn a_server_may_say_by_name_where_it_is() {
    assert_eq!(socks(&[&[5, 0], b"\x05\x00\x00\x03\x05there\x00\x50tunnel"]), done(12));
    assert_eq!(socks(&[&[5, 0], b"\x05\x00\x00\x03\x00\x00\x50"]), done(7));
    assert_eq!(socks(&[&[5, 0], &[&[5, 0, 0, 4][..], &[0; 18]].concat()]), done(22));
}

#[test]
fn what_a_destination_refuses_is_not_the_upstreams_fault() {
    for code in (1..=255).filter(|code| *code != 7) {
        assert!(!at_fault(socks(&[&[5, 0], &[5, code]])), "{code}");
    }
    assert!(at_fault(socks(&[&[5, 0], &[5, 7, 0, 1]])));
    for code in [400, 403, 404, 429, 451, 500, 502, 503, 504] {
        assert!(!at_fault(http(&format!("HTTP/1.1 {code} No\r\n\r\n"))), "{code}");
    }
}

#[test]
fn a_refused_password_and_a_foreign_protocol_are_the_upstreams_fault() {
    assert!(at_fault(socks(&[&[5, 0xff]])));
    assert!(at_fault(socks(&[&[5, 2]])), "not offered");
    assert!(at_fault(socks(&[b"HTTP/1.1 400 Bad Request\r\n"])));
    assert!(at_fault(socks(&[&[4, 0]])));
    assert!(at_fault(socks(&[&[5, 0], &[5, 0, 0, 9]])), "no such kind of address");
    let mut handshake = Handshake::connect(&with_password(UpstreamKind::Socks5), Some("pw"), &web(), false).unwrap();
    assert_eq!(hear(&mut handshake, &[&[5, 2], &[1, 1]]), Err(Refused::upstream("it refused the user name or password")));
    for answer in [
        "HTTP/1.1 407 Who\r\n\r\n",
        "HTTP/1.1 405 \r\n\r\n",
        "SSH-2.0-x",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 20x\r\n\r\n",
        "HTTP/1.1 2\0\0\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
    ] {
        assert!(at_fault(http(answer)), "{answer}");
    }
}

#[test]
fn a_secret_that_is_not_set_is_said_before_anything_is_sent() {
    let refused = Handshake::connect(&with_password(UpstreamKind::Socks5), None, &web(), false).unwrap_err();
    assert_eq!(refused.why, "the secret secret is not set");
    assert!(Handshake::connect(&with_password(UpstreamKind::Socks5), Some(&"x".repeat(256)), &web(), false).is_err());
}

#[test]
fn a_password_is_not_shown() {
    let handshake = Handshake::connect(&with_password(UpstreamKind::HttpConnect), Some("open-sesame"), &web(), false).unwrap();
    assert!(!format!("{handshake:?}").contains("sesame"));
}

#[test]
fn http_is_asked_with_basic() {
    let mut handshake = Handshake::connect(&with_password(UpstreamKind::HttpConnect), Some("pw"), &web(), false).unwrap();
    let said = String::from_utf8(say(&mut handshake)).unwrap();
    assert_eq!(said, "CONNECT 192.0.2.80:80 HTTP/1.1\r\nHost: 192.0.2.80:80\r\nProxy-Authorization: Basic YW5uOnB3\r\n\r\n");
}

#[test]
fn a_head_ends_where_it_ends_and_its_lengths_are_ignored() {
    let answer = |head: &str| assert_eq!(http(&format!("{head}5\r\nhello")), done(head.len()), "{head:?}");
    answer("HTTP/1.1 200 Connection established\r\n\r\n");
    answer("HTTP/1.0 200\r\n\r\n");
    answer("HTTP/1.1 299 \n\n");
    answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99999999999999999999\r\n\r\n");
    answer("HTTP/1.1 200 OK\r\nVia: a\r\n folded\r\n\r\n");
    answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
}

#[test]
fn a_head_without_end_is_bounded() {
    assert!(at_fault(http(&format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(3000)))));
    assert!(at_fault(http(&format!("HTTP/1.1 200 {}", "a".repeat(2000)))));
    assert!(at_fault(http(&"HTTP/1.1 100 x\r\n\r\n".repeat(2000))));
    for line in ["no colon\r\n", "a: b\rc: d\r\n", "a: \0\r\n", ": b\r\n"] {
        assert!(at_fault(http(&format!("HTTP/1.1 200 OK\r\n{line}\r\n"))), "{line:?}");
    }
}

#[test]
fn what_a_server_says_is_shown_without_control_characters() {
    let why = http("HTTP/1.1 407 \x1b[31mred\x07\r\n\r\n").unwrap_err().why;
    assert_eq!(why, "it refused the user name or password (407 [31mred)");
}

#[test]
fn an_answer_before_the_question_is_none() {
    let mut handshake = Handshake::connect(&upstream(UpstreamKind::Socks5), None, &web(), false).unwrap();
    say(&mut handshake);
    assert_eq!(handshake.received(&[&[5, 0], GRANTED].concat()), Err(Refused::upstream("it answered before it was asked")));
    let mut handshake = Handshake::connect(&upstream(UpstreamKind::HttpConnect), None, &web(), false).unwrap();
    assert!(handshake.received(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
}

#[test]
fn an_end_stays_the_end() {
    let mut handshake = Handshake::connect(&upstream(UpstreamKind::HttpConnect), None, &web(), false).unwrap();
    say(&mut handshake);
    assert_eq!(handshake.received(b"HTTP/1.1 200 OK\r\n\r\n"), done(19));
    assert_eq!(handshake.received(b"more"), done(0));
}

#[test]
fn datagrams_go_to_the_upstreams_own_address_whatever_it_names() {
    let associate = |answer: &[u8]| {
        let mut handshake = Handshake::associate(&upstream(UpstreamKind::Socks5), None).unwrap();
        say(&mut handshake);
        handshake.received(&[5, 0]).unwrap();
        assert_eq!(say(&mut handshake), [5, 3, 0, 1, 0, 0, 0, 0, 0, 0]);
        handshake.received(answer)
    };
    let relay: SocketAddr = "127.0.0.1:1080".parse().unwrap();
    for named in
        [GRANTED, b"\x05\x00\x00\x03\x01x\x04\x38", &[&[5, 0, 0, 4][..], &[9; 16], &[4, 56]].concat(), &[5, 0, 0, 1, 0, 0, 0, 0, 4, 56]]
    {
        assert_eq!(associate(named), Ok(Progress::Done { used: named.len(), relay: Some(relay) }));
    }
    assert!(!at_fault(associate(&[5, 7])), "connections may still be carried");
    assert!(!at_fault(associate(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])), "no port");
    assert!(Handshake::associate(&upstream(UpstreamKind::Socks5Tls), None).is_err());
    assert!(Handshake::associate(&upstream(UpstreamKind::HttpConnect), None).is_err());
}

/// Feeds `bytes` in pieces; gives what came of it and how many bytes were the handshake's.
fn in_pieces(mut handshake: Handshake, bytes: &[u8], pieces: &[usize]) -> (Result<Option<SocketAddr>, Refused>, usize) {
    let (mut at, mut pieces) = (0, pieces.iter().cycle());
    while at < bytes.len() {
        say(&mut handshake);
        let end = bytes.len().min(at + pieces.next().map_or(1, |size| (*size).max(1)));
        match handshake.received(&bytes[at..end]) {
            Ok(Progress::More) => at = end,
            Ok(Progress::Done { used, relay }) => return (Ok(relay), at + used),
            Err(refused) => return (Err(refused), 0),
        }
    }
    (Err(handshake.ended()), at)
}

fn any_kind() -> impl Strategy<Value = (UpstreamKind, bool)> {
    prop_oneof![Just((UpstreamKind::Socks5, true)), Just((UpstreamKind::HttpConnect, false))]
}

/// Bytes that get somewhere: fragments of real answers, with garbage between.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        4 => prop::sample::select(vec![
            &b"\x05\x00"[..], b"\x05\x02\x01\x00", b"\x05\x02", GRANTED, b"\x05\x00\x00\x03\x09localhost\x00\x50", b"\x05\x00\x00\x04", b"\x05\x05",
            b"HTTP/1.1 200 OK", b"HTTP/1.0 ", b"100 Continue", b"\r\n", b"\n", b"\r\n\r\n", b"A: b", b"Transfer-Encoding: chunked\r\n", b" ", b"407", b"\0",
        ]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(fragment, 0..12).prop_map(|fragments| fragments.concat())
}

proptest! {
    /// Pipelined SOCKS and HTTP ask only once, so that an answer is the same in whatever pieces it comes.
    #[test]
    fn any_split_gives_the_same(bytes in answers(), pieces in prop::collection::vec(1usize..30, 1..6), (kind, pipelined) in any_kind(), password: bool) {
        let upstream = if password { with_password(kind) } else { upstream(kind) };
        let begin = || Handshake::connect(&upstream, Some("pw"), &web(), pipelined).unwrap();
        let whole = in_pieces(begin(), &bytes, &[bytes.len()]);
        prop_assert_eq!(&whole, &in_pieces(begin(), &bytes, &[1]));
        prop_assert_eq!(&whole, &in_pieces(begin(), &bytes, &pieces));
    }

    /// In the steps of a real conversation, each answer in pieces.
    #[test]
    fn a_conversation_survives_any_pieces(pieces in prop::collection::vec(1usize..12, 1..6), tunnel in prop::collection::vec(any::<u8>(), 0..30)) {
        let mut handshake = Handshake::connect(&with_password(UpstreamKind::Socks5), Some("pw"), &web(), false).unwrap();
        let last = [GRANTED, &tunnel].concat();
        let (mut pieces, mut used) = (pieces.iter().cycle(), None);
        for answer in [&[5, 2][..], &[1, 0], &last] {
            say(&mut handshake);
            let mut at = 0;
            while at < answer.len() && used.is_none() {
                let end = answer.len().min(at + pieces.next().unwrap());
                if let Progress::Done { used: here, .. } = handshake.received(&answer[at..end]).unwrap() {
                    used = Some(at + here);
                }
                at = end;
            }
        }
        prop_assert_eq!(used, Some(GRANTED.len()));
    }

    #[test]
    fn garbage_is_refused_soon_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000), (kind, _) in any_kind(), pipelined: bool, udp: bool) {
        let begin = || if udp { Handshake::associate(&upstream(UpstreamKind::Socks5), None) } else { Handshake::connect(&upstream(kind), None, &web(), pipelined) };
        let mut handshake = begin().unwrap();
        for piece in bytes.chunks(7) {
            say(&mut handshake);
            let first = handshake.received(piece);
            if first.is_err() {
                prop_assert_eq!(handshake.received(piece), first);
                break;
            }
        }
    }
}
