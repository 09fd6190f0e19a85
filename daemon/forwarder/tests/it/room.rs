//! A namespace with everything in it: servers, a forwarder, and clients that are marked as a box would mark them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt};
use nix::unistd::Pid;
use policy::messages::forwarder::{ForwarderRequest, ForwarderResponse, ForwarderStatus};
use policy::messages::{Inbox, encode};
use tempfile::TempDir;

pub const ECHO: u16 = 7000;
/// Sends without end.
pub const FLOOD: u16 = 7001;
pub const PROBE: u16 = 7002;
pub const SERVER4: &str = "127.0.0.2";
pub const SERVER6: &str = "fd00::2";
pub const EXIT: &str = "192.0.2.77";

pub struct Room {
    pub dir: TempDir,
    pub flooded: Arc<AtomicU64>,
}

/// None: this machine, or this user, cannot; it has been said.
pub fn room() -> Option<Room> {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        eprintln!("skipped: no network namespace of our own ({error})");
        return None;
    }
    run("ip link set lo up; ip addr add fd00::2/128 dev lo nodad");
    run("sysctl -qw net.ipv4.tcp_fwmark_accept=1 net.ipv4.tcp_congestion_control=reno net.ipv4.tcp_tw_reuse=1");
    run(
        "nft 'table inet t { chain o { type nat hook output priority -100; meta mark & 0xffff00 != 0 meta l4proto tcp redirect to :61080\n }\n }'",
    );
    let flooded = Arc::new(AtomicU64::new(0));
    for address in [SERVER4, SERVER6] {
        let address: IpAddr = address.parse().unwrap();
        serve((address, ECHO).into(), echo);
        let flooded = flooded.clone();
        serve((address, FLOOD).into(), move |stream| flood(stream, &flooded));
        serve((address, PROBE).into(), tell_exit);
    }
    Some(Room { dir: tempfile::tempdir().unwrap(), flooded })
}

pub fn run(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("PATH=$PATH:/usr/sbin:/sbin command -v {program}")]).stdout(Stdio::null()).status();
    let found = found.unwrap().success();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

pub fn serve(address: SocketAddr, each: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) {
    let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || each(stream));
        }
    });
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read])?,
        }
    }
}

fn flood(mut stream: TcpStream, sent: &AtomicU64) -> io::Result<()> {
    let piece = [7; 32 << 10];
    loop {
        stream.write_all(&piece)?;
        sent.fetch_add(piece.len() as u64, Relaxed);
    }
}

fn tell_exit(mut stream: TcpStream) -> io::Result<()> {
    let mut request = [0; 2048];
    _ = stream.read(&mut request)?;
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{EXIT}", EXIT.len())
}

/// A client's connection, marked as mapping `id`'s.
pub fn client(id: u16, to: impl Into<SocketAddr>) -> io::Result<TcpStream> {
    let to = to.into();
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::Mark, &(u32::from(id) << 8))?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(to))?;
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

pub fn to4(port: u16) -> SocketAddr {
    SocketAddr::new(SERVER4.parse().unwrap(), port)
}

pub fn to6(port: u16) -> SocketAddr {
    SocketAddr::new(SERVER6.parse().unwrap(), port)
}

/// One word there and back.
pub fn is_carried(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ping").and_then(|()| stream.read_exact(&mut answer)).is_ok() && answer == *b"ping"
}

/// The connection ended by a reset.
pub fn is_reset(mut stream: &TcpStream) -> bool {
    let mut rest = [0; 4096];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

pub fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
    began.elapsed()
}

/// A process that ends with the test.
pub struct Process(pub Child);

impl Process {
    pub fn start(command: &mut Command) -> Process {
        Process(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub fn kill(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Room {
    /// With these flags, and at most so many descriptors.
    pub fn forwarder(&self, flags: &[&str], descriptors: u32) -> Process {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={descriptors}:{descriptors}")).arg(env!("CARGO_BIN_EXE_portcullis-forwarder"));
        command.args(flags).env("PORTCULLIS_RUN_DIR", self.dir.path());
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        let process = Process::start(&mut command);
        let socket = self.dir.path().join("forwarder.sock");
        within(Duration::from_secs(10), "the forwarder opens its socket", || UnixStream::connect(&socket).is_ok());
        process
    }

    pub fn ask(&self, request: &ForwarderRequest) -> ForwarderResponse {
        let mut stream = UnixStream::connect(self.dir.path().join("forwarder.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&encode(request).unwrap()).unwrap();
        let mut inbox = Inbox::default();
        let mut piece = [0; 4096];
        loop {
            if let Some(response) = inbox.take().unwrap() {
                return response;
            }
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "it closed the connection");
            inbox.push(&piece[..read]);
        }
    }

    pub fn status(&self) -> ForwarderStatus {
        match self.ask(&ForwarderRequest::Status) {
            ForwarderResponse::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }
}
