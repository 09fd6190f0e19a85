//! Upstreams that speak TLS. HAProxy takes it off in front of microsocks, dante and tinyproxy, because none of them can.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use policy::plan::proxy::*;

use super::applier::{Applier, name, proxy, upstream};
use super::carried::{Carried, EndsBoth, carries};
use super::room::*;
use super::upstreams::*;

const TLS: u16 = 1443;

/// TLS on [`TLS`] in front of this port, and the certificate that it shows.
fn secured(room: &Room, behind: u16) -> (Process, String) {
    let dir = room.dir.path().display().to_string();
    run(&format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=upstream -addext subjectAltName=IP:127.0.0.1 \
         -addext basicConstraints=critical,CA:FALSE -keyout {dir}/key.pem -out {dir}/cert.pem 2>/dev/null; cat {dir}/cert.pem {dir}/key.pem > {dir}/both.pem"
    ));
    let config = room.dir.path().join("haproxy.cfg");
    let text = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         frontend f\n bind 127.0.0.1:{TLS} ssl crt {dir}/both.pem\n default_backend b\nbackend b\n server s 127.0.0.1:{behind}\n"
    );
    std::fs::write(&config, text).unwrap();
    let process = Process::start(Command::new("/usr/sbin/haproxy").arg("-db").arg("-f").arg(&config).stderr(Stdio::null()));
    within(Duration::from_secs(10), "HAProxy listens", || TcpStream::connect(("127.0.0.1", TLS)).is_ok());
    (process, std::fs::read_to_string(room.dir.path().join("cert.pem")).unwrap())
}

fn by_tls(kind: UpstreamKind, authority: String) -> Proxy {
    let mut one = upstream(kind, TLS);
    one.authority = Some(authority);
    proxy(&[("one", one)], Via::Upstream(name("one")))
}

fn room_with(program: &str) -> Option<Room> {
    (installed(program) && installed("haproxy") && installed("openssl")).then(room).flatten()
}

#[test]
fn socks_over_tls_is_carried_in_both_families() {
    let Some(room) = room_with("microsocks") else { return };
    let _upstream = microsocks(1080, &[]);
    let (_tls, authority) = secured(&room, 1080);
    carries(&by_tls(UpstreamKind::Socks5Tls, authority), &[], EndsBoth, &room, &[to4(ECHO), to6(ECHO)]);
}

#[test]
fn one_direction_goes_on_over_tls_when_the_client_has_said_its_end() {
    let Some(room) = room_with("danted") else { return };
    let _upstream = danted(room.dir.path(), 1080);
    let (_tls, authority) = secured(&room, 1080);
    carries(&by_tls(UpstreamKind::Socks5Tls, authority), &[], Carried, &room, &[to4(ECHO)]);
}

#[test]
fn one_direction_goes_on_over_tls_when_the_server_has_said_its_end() {
    let Some(room) = room_with("danted") else { return };
    const HALF: u16 = 7010;
    let (told, heard) = std::sync::mpsc::channel();
    serve(to4(HALF), move |mut stream| {
        stream.write_all(b"that is all")?;
        stream.shutdown(Shutdown::Write)?;
        let mut rest = String::new();
        stream.read_to_string(&mut rest)?;
        _ = told.send(rest);
        Ok(())
    });
    let _upstream = danted(room.dir.path(), 1080);
    let (_tls, authority) = secured(&room, 1080);
    let mut applier = Applier::new(room.dir.path());
    let _forwarder = room.forwarder(&[], 1024);
    applier.link();
    applier.become_(1, &by_tls(UpstreamKind::Socks5Tls, authority), &[]);
    applier.hears_up("desk");
    let mut stream = client(7, to4(HALF)).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all, "that is all");
    stream.write_all(b"still heard").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(heard.recv_timeout(Duration::from_secs(10)).unwrap(), "still heard");
    within(Duration::from_secs(5), "the flow has ended", || room.status().flows == 0);
}

#[test]
fn an_http_proxy_over_tls_carries_with_connect() {
    let Some(room) = room_with("tinyproxy") else { return };
    let _upstream = tinyproxy(room.dir.path(), 8888);
    let (_tls, authority) = secured(&room, 8888);
    carries(&by_tls(UpstreamKind::HttpsConnect, authority), &[], EndsBoth, &room, &[to4(ECHO), to6(ECHO)]);
}

#[test]
fn an_http_proxy_over_tls_that_shows_another_certificate_carries_nobody() {
    let Some(room) = room_with("tinyproxy") else { return };
    let _upstream = tinyproxy(room.dir.path(), 8888);
    let (tls, other) = secured(&room, 8888);
    drop(tls);
    let (_tls, _authority) = secured(&room, 8888);
    let mut applier = Applier::new(room.dir.path());
    let _forwarder = room.forwarder(&[], 1024);
    applier.link();
    applier.become_(1, &by_tls(UpstreamKind::HttpsConnect, other), &[]);
    // Down it is from the start, since nobody has probed it yet; then for this reason.
    applier.hears_down_for("desk", "certificate");
    assert!(is_reset(&client(7, to4(ECHO)).unwrap()));
}
