//! Rounds against real proxies on loopback: microsocks, danted, tinyproxy, a TLS front of rustls' own, and servers that mean ill.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use policy::messages::forwarder::{Health, HealthStatus, MappingState};
use policy::plan::proxy::{Proxy, Upstream, UpstreamKind};
use rustls::{ServerConnection, StreamOwned};

use super::{name, proxy, single};
use crate::dial::tests::{secure, upstream};
use crate::dial::{Handshake, Progress};
use crate::health::rounds::Rounds;
use crate::health::{Board, Moment};

/// A program that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody has. Somebody could take it before it is used; nobody here does.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run(program: &str, arguments: &[&str], port: u16) -> Running {
    let child = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let running = Running(child.unwrap_or_else(|error| panic!("{program}: {error}; scripts/prepare installs it")));
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{program} does not listen");
        thread::sleep(Duration::from_millis(5));
    }
    running
}

fn microsocks(port: u16, arguments: &[&str]) -> Running {
    let port_text = port.to_string();
    run("microsocks", &[&["-i", "127.0.0.1", "-p", &port_text], arguments].concat(), port)
}

/// A web server that tells whoever asks the same address.
fn web(answer: &'static str) -> SocketAddr {
    serve(move |mut client| {
        let _ = client.read(&mut [0; 2048]);
        let _ = client.write_all(answer.as_bytes());
    })
}

const EXIT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n198.51.100.7\n";

/// Every connection is given to `each`, in a thread of its own.
fn serve(each: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let each = Arc::new(each);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || each(client));
        }
    });
    address
}

fn at(port: u16, kind: UpstreamKind, web: SocketAddr) -> Upstream {
    Upstream { port, probe: format!("http://{web}/ip"), ..upstream(kind) }
}

fn with_password(upstream: Upstream) -> Upstream {
    Upstream { username: Some("ann".into()), password: Some("key".into()), ..upstream }
}

struct Lab {
    board: Arc<Mutex<Board>>,
    rounds: Rounds,
    told: mpsc::Receiver<(Health, bool, Instant)>,
}

fn lab(proxy: &Proxy, password: &'static str) -> Lab {
    let board = Arc::new(Mutex::new(Board::new(proxy, &[], Moment::now())));
    let (tell, told) = mpsc::channel();
    let told_to = Box::new(move |_: &_, health: &Health, changed| _ = tell.send((health.clone(), changed, Instant::now())));
    let secret = Box::new(move |name: &str| (name == "key").then(|| password.to_owned()));
    Lab { rounds: Rounds::begin(board.clone(), secret, told_to).unwrap(), board, told }
}

/// What is said of one upstream that is asked.
fn ask(upstream: Upstream, password: &'static str) -> Health {
    let lab = lab(&proxy(&[("a", upstream)], &[]), password);
    lab.rounds.ask(&[name("a")], Duration::from_secs(8)).remove(&name("a")).unwrap()
}

#[track_caller]
fn assert_well(health: &Health) {
    assert_eq!((health.status, health.why.as_deref()), (HealthStatus::Healthy, None));
    assert_eq!(health.exit, Some(IpAddr::from([198, 51, 100, 7])));
    assert!(health.latency_us.is_some_and(|latency| latency > 0));
}

#[track_caller]
fn assert_failed(health: &Health, why: &str) {
    assert_eq!((health.status, health.why.as_deref(), health.exit), (HealthStatus::Failed, Some(why), None));
}

#[test]
fn microsocks_with_and_without_password() {
    let port = free_port();
    let _microsocks = microsocks(port, &[]);
    assert_well(&ask(at(port, UpstreamKind::Socks5, web(EXIT)), ""));
    let port = free_port();
    let _microsocks = microsocks(port, &["-u", "ann", "-P", "pw"]);
    assert_well(&ask(with_password(at(port, UpstreamKind::Socks5, web(EXIT))), "pw"));
    assert_failed(&ask(with_password(at(port, UpstreamKind::Socks5, web(EXIT))), "wrong"), "it refused the user name or password");
    assert_failed(&ask(at(port, UpstreamKind::Socks5, web(EXIT)), ""), "it wants a user name and a password");
}

#[test]
fn dante_carries_connections_and_datagrams() {
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let file = folder.path().join("danted.conf");
    let text = format!(
        "logoutput: /dev/null\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\nsocksmethod: none\nclientmethod: none\n\
         user.privileged: root\nuser.unprivileged: nobody\nclient pass {{ from: 0/0 to: 0/0 }}\nsocks pass {{ from: 0/0 to: 0/0 }}\n"
    );
    fs::write(&file, text).unwrap();
    let _danted = run("danted", &["-f", file.to_str().unwrap(), "-p", folder.path().join("pid").to_str().unwrap()], port);
    let dante = at(port, UpstreamKind::Socks5, web(EXIT));
    assert_well(&ask(dante.clone(), ""));

    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut handshake = Handshake::associate(&dante, None).unwrap();
    let relay = loop {
        let said = handshake.to_send().to_vec();
        connection.write_all(&said).unwrap();
        handshake.sent(said.len());
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap();
        if let Progress::Done { relay, .. } = handshake.received(&byte).unwrap() {
            break relay.unwrap();
        }
    };
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let us = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = echo.local_addr().unwrap().port().to_be_bytes();
    us.send_to(&[&[0, 0, 0, 1, 127, 0, 0, 1], &to[..], b"hello"].concat(), relay).unwrap();
    echo.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut datagram = [0; 100];
    let (length, _) = echo.recv_from(&mut datagram).unwrap();
    assert_eq!(&datagram[..length], b"hello");
}

#[test]
fn tinyproxy_with_and_without_password() {
    let begin = |more: &str| {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let file = folder.path().join("tinyproxy.conf");
        fs::write(&file, format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nAllow 127.0.0.1\n{more}")).unwrap();
        (run("tinyproxy", &["-d", "-c", file.to_str().unwrap()], port), port)
    };
    let (_tinyproxy, port) = begin("");
    assert_well(&ask(at(port, UpstreamKind::HttpConnect, web(EXIT)), ""));
    let (_tinyproxy, port) = begin("BasicAuth ann pw\n");
    assert_well(&ask(with_password(at(port, UpstreamKind::HttpConnect, web(EXIT))), "pw"));
    let health = ask(with_password(at(port, UpstreamKind::HttpConnect, web(EXIT))), "wrong");
    assert!(health.why.unwrap().starts_with("it refused the user name or password"));
    let socks = ask(at(port, UpstreamKind::Socks5, web(EXIT)), "");
    assert_eq!(socks.status, HealthStatus::Failed);
}

/// TLS in front of a proxy that speaks none.
fn front(config: Arc<rustls::ServerConfig>, behind: u16) -> u16 {
    let front = serve(move |client| {
        let mut inner = TcpStream::connect(("127.0.0.1", behind)).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        inner.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let mut tls = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), client);
        let waits = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        let mut bytes = [0; 4096];
        loop {
            match tls.read(&mut bytes) {
                Ok(read) if read > 0 => inner.write_all(&bytes[..read]).unwrap(),
                Err(error) if waits(&error) => {}
                _ => return,
            }
            match inner.read(&mut bytes) {
                Ok(read) if read > 0 => tls.write_all(&bytes[..read]).unwrap(),
                Err(error) if waits(&error) => {}
                _ => return,
            }
        }
    });
    front.port()
}

#[test]
fn socks_inside_tls_and_who_is_not_whom_its_certificate_should_name() {
    let port = free_port();
    let _microsocks = microsocks(port, &[]);
    let (config, authority) = secure::server(&["127.0.0.1", "proxy.example"]);
    let port = front(config, port);
    let tls = |server_name: Option<&str>, authority: &str| Upstream {
        server_name: server_name.map(str::to_owned),
        authority: Some(authority.to_owned()),
        ..at(port, UpstreamKind::Socks5Tls, web(EXIT))
    };
    assert_well(&ask(tls(None, &authority), ""));
    assert_well(&ask(tls(Some("proxy.example"), &authority), ""));
    assert_failed(&ask(tls(Some("other.example"), &authority), ""), "TLS: its certificate is for another name");
    let (_, other) = secure::server(&["x"]);
    assert_failed(&ask(tls(None, &other), ""), "TLS: its certificate is of an unknown authority");
}

#[test]
fn a_killed_upstream_is_told_within_milliseconds_of_the_first_refusal_and_its_return_within_two_seconds() {
    let port = free_port();
    let mut server = microsocks(port, &[]);
    let lab = lab(&proxy(&[("a", at(port, UpstreamKind::Socks5, web(EXIT)))], &[]), "");
    assert_well(&lab.rounds.ask(&[name("a")], Duration::from_secs(5))[&name("a")]);
    // Its first probe is good for 200 ms.
    thread::sleep(Duration::from_millis(1500));
    server.0.kill().unwrap();
    server.0.wait().unwrap();
    lab.told.try_iter().count();
    let begun = Instant::now();
    lab.board.lock().unwrap().failed(&name("a"), "it refuses connections", Moment::now());
    lab.rounds.wake();
    let (health, changed, when) = lab.told.recv_timeout(Duration::from_secs(2)).unwrap();
    assert!(changed && health.status == HealthStatus::Failed);
    let took = when.duration_since(begun);
    println!("blocked after {took:?}");
    assert!(took < Duration::from_millis(50), "{took:?}");
    assert!(matches!(lab.board.lock().unwrap().state(&single("a")), MappingState::Down { .. }));

    let _server = microsocks(port, &[]);
    let begun = Instant::now();
    let back = std::iter::from_fn(|| lab.told.recv_timeout(Duration::from_secs(3)).ok())
        .find(|(health, ..)| health.status != HealthStatus::Failed)
        .unwrap();
    println!("back after {:?}", back.2.duration_since(begun));
    assert!(back.2.duration_since(begun) < Duration::from_secs(2));
}

#[test]
fn microsocks_is_not_pipelined_and_a_server_that_reads_everything_is() {
    let learned = |port: u16| {
        let lab = lab(&proxy(&[("a", at(port, UpstreamKind::Socks5, web(EXIT)))], &[]), "");
        assert_well(&lab.rounds.ask(&[name("a")], Duration::from_secs(5))[&name("a")]);
        thread::sleep(Duration::from_millis(1300));
        let again = &lab.rounds.ask(&[name("a")], Duration::from_secs(5))[&name("a")];
        assert_well(again);
        lab.board.lock().unwrap().pipelined(&name("a"))
    };
    let port = free_port();
    let _microsocks = microsocks(port, &[]);
    assert!(!learned(port));
    // Everything is read before anything is answered, as far as it comes.
    let patient = serve(|mut client| {
        let (mut heard, mut bytes) = (Vec::<u8>::new(), [0; 1024]);
        let mut until = |client: &mut TcpStream, length: usize| {
            while heard.len() < length {
                match client.read(&mut bytes) {
                    Ok(read) if read > 0 => heard.extend(&bytes[..read]),
                    _ => return false,
                }
            }
            true
        };
        if until(&mut client, 3)
            && client.write_all(&[5, 0]).is_ok()
            && until(&mut client, 13)
            && client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).is_ok()
        {
            let _ = until(&mut client, 40) && client.write_all(EXIT.as_bytes()).is_ok();
        }
    });
    assert!(learned(patient.port()));
}

#[test]
fn a_round_of_many_that_hang_or_drip_ends_within_its_five_seconds() {
    let silent = serve(|client| {
        thread::sleep(Duration::from_secs(20));
        drop(client);
    });
    let drips = serve(|mut client| {
        let head = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(2000));
        for byte in head.bytes() {
            if client.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    let web = web(EXIT);
    let names: Vec<_> = (0..40).map(|number| format!("u{number}")).collect();
    let upstreams = names.iter().enumerate().map(|(number, name)| {
        let port = if number % 2 == 0 { silent.port() } else { drips.port() };
        (name.as_str(), at(port, UpstreamKind::HttpConnect, web))
    });
    let upstreams: Vec<_> = upstreams.collect();
    let begun = Instant::now();
    let lab = lab(&proxy(&upstreams, &[]), "");
    let all: Vec<_> = names.iter().map(|each| name(each)).collect();
    let health = lab.rounds.ask(&all, Duration::from_secs(9));
    let took = begun.elapsed();
    println!("40 that hang took {took:?}");
    assert!((Duration::from_millis(4900)..Duration::from_millis(5900)).contains(&took), "{took:?}");
    assert_eq!(health.len(), 40);
    health.values().for_each(|health| assert_failed(health, "it did not answer in time"));
}

#[test]
fn a_probe_with_a_wrong_answer_names_it() {
    let port = free_port();
    let _microsocks = microsocks(port, &[]);
    let ask = |answer| ask(at(port, UpstreamKind::Socks5, web(answer)), "");
    assert_failed(&ask("HTTP/1.1 404 Not Found\r\n\r\n"), "the probe was answered with 404 Not Found");
    assert_failed(&ask("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), "there is no address in the probe's answer: hello");
    assert_failed(&self::ask(at(free_port(), UpstreamKind::Socks5, web(EXIT)), ""), "it refuses connections");
    assert_failed(
        &self::ask(at(port, UpstreamKind::Socks5, ([127, 0, 0, 1], free_port()).into()), ""),
        "the destination refused the connection",
    );
}

#[test]
fn a_single_loss_is_covered_by_the_second_attempt() {
    let first = Mutex::new(true);
    let web = web(EXIT);
    let flaky = serve(move |mut client| {
        if std::mem::take(&mut *first.lock().unwrap()) {
            thread::sleep(Duration::from_secs(10));
        }
        let _ = client.read(&mut [0; 1024]);
        let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let _ = client.read(&mut [0; 1024]);
        let _ = client.write_all(EXIT.as_bytes());
    });
    let begun = Instant::now();
    assert_well(&ask(at(flaky.port(), UpstreamKind::HttpConnect, web), ""));
    assert!((Duration::from_millis(1900)..Duration::from_millis(3000)).contains(&begun.elapsed()));
}
