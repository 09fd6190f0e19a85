//! Probes without sockets.

use policy::plan::proxy::{Upstream, UpstreamKind};
use proptest::prelude::*;

use crate::dial::tests::upstream;
use crate::dial::{Refused, Target};
use crate::health::answer::Answer;
use crate::health::probe::{Conversation, Heard, Question};

fn answer(text: &str) -> Result<String, Refused> {
    let mut answer = Answer::default();
    let exit = match answer.received(text.as_bytes())? {
        Some(exit) => exit,
        None => answer.ended()?,
    };
    Ok(exit.to_string())
}

#[test]
fn the_first_address_of_the_body_is_the_exit() {
    let body = |body: &str| answer(&format!("HTTP/1.1 200 OK\r\nX: 10.9.9.9\r\n\r\n{body}")).unwrap();
    assert_eq!(body("198.51.100.7"), "198.51.100.7");
    assert_eq!(body("{\"ip\":\"2001:db8::1\",\"via\":\"192.0.2.1\"}"), "2001:db8::1");
    assert_eq!(body("<p>You are 198.51.100.7:4711.</p>"), "198.51.100.7");
    assert_eq!(body("at 12:30:45, IP: ::ffff:198.51.100.7\n"), "198.51.100.7");
    assert_eq!(body("[2001:db8::2]"), "2001:db8::2");
}

#[test]
fn lengths_and_chunks_end_a_body_that_the_server_leaves_open() {
    let ended = |text: &str| Answer::default().received(text.as_bytes()).unwrap().unwrap().to_string();
    assert_eq!(ended("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n192.0.2.1"), "192.0.2.1");
    assert_eq!(ended("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n192.0\r\n4;x=y\r\n.2.1\r\n0\r\n\r\n"), "192.0.2.1");
    assert_eq!(ended(&format!("HTTP/1.1 200 OK\r\n\r\n192.0.2.1 {}", "x".repeat(5000))), "192.0.2.1");
    assert_eq!(ended("HTTP/1.1 103 Hints\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n1.2.3.4"), "1.2.3.4");
}

#[test]
fn a_wrong_answer_is_named() {
    let why = |text: &str| answer(text).unwrap_err().why;
    assert_eq!(why("HTTP/1.1 503 Sorry\x07\r\n\r\n"), "the probe was answered with 503 Sorry");
    assert_eq!(why("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"), "the probe was answered with 302 Found");
    assert_eq!(why("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "the probe's answer is empty");
    assert_eq!(why("HTTP/1.1 200 OK\r\n\r\nplease sign in"), "there is no address in the probe's answer: please sign in");
    assert_eq!(why("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n192.0.2"), "the probe's answer was cut off");
    assert_eq!(why("SSH-2.0"), "the probe was not answered by a web server");
    assert_eq!(why(&format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(3000))), "the probe's answer has too long a head");
    for chunks in ["x\r\n", "\r\n", "ffffffffffffffffff\r\n", "1\r\naX\r\n"] {
        assert_eq!(
            why(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")),
            "the probe was not answered by a web server"
        );
    }
}

#[test]
fn a_probe_is_asked_for_where_its_address_says() {
    let parse =
        |url: &str| Question::parse(url).map(|question| (question.target.to_string(), String::from_utf8(question.request).unwrap()));
    let (target, request) = parse("http://ip.example").unwrap();
    assert_eq!(target, "ip.example:80");
    assert!(request.starts_with("GET / HTTP/1.1\r\nHost: ip.example\r\n") && request.ends_with("Connection: close\r\n\r\n"));
    assert_eq!(parse("http://[2001:db8::1]:8080/x?y#z").unwrap().0, "[2001:db8::1]:8080");
    assert_eq!(parse("http://[2001:db8::1]").unwrap().0, "[2001:db8::1]:80");
    assert!(parse("http://192.0.2.1:8080/x?y#z").unwrap().1.starts_with("GET /x?y HTTP/1.1\r\nHost: 192.0.2.1:8080\r\n"));
    assert!(parse("http://h?q").unwrap().1.starts_with("GET /?q "));
    assert_eq!(Question::parse("http://192.0.2.1/").unwrap().target, Target::Address("192.0.2.1:80".parse().unwrap()));
    for bad in ["https://x/", "http://", "http://a:b/", "http://a:99999/", "http://x/ y", "http://x/\r\nA: b", "http://[x]/", "ftp://x"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

fn heard(upstream: &Upstream, bytes: &[u8], piece: usize) -> Result<Heard, Refused> {
    let mut conversation = Conversation::begin(upstream, None, true).unwrap();
    let mut last = Heard::Nothing;
    for piece in bytes.chunks(piece) {
        let said = conversation.to_send().len();
        conversation.sent(said);
        last = conversation.received(piece)?;
        if let Heard::Exit(_) = last {
            return Ok(last);
        }
    }
    conversation.ended().map(Heard::Exit).or(Ok(last))
}

const WELL: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n192.0.2.1\r\n0\r\n\r\n";

proptest! {
    #[test]
    fn a_probe_is_the_same_in_any_pieces(piece in 1usize..100) {
        prop_assert_eq!(heard(&upstream(UpstreamKind::HttpConnect), WELL, piece), Ok(Heard::Exit([192, 0, 2, 1].into())));
    }

    #[test]
    fn a_bent_answer_is_the_same_in_any_pieces(at in 0usize..80, with: u8, cut in 0usize..90, piece in 1usize..20) {
        let mut bytes = WELL.to_vec();
        let end = bytes.len();
        bytes[at.min(end - 1)] = with;
        bytes.truncate(cut);
        let upstream = upstream(UpstreamKind::HttpConnect);
        prop_assert_eq!(heard(&upstream, &bytes, piece), heard(&upstream, &bytes, bytes.len().max(1)));
    }

    #[test]
    fn garbage_as_an_answer_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..6000), well: bool) {
        let mut answer = Answer::default();
        if well {
            answer.received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        }
        if let Err(refused) = answer.received(&bytes) {
            prop_assert!(!refused.why.contains(char::is_control));
        }
    }
}
