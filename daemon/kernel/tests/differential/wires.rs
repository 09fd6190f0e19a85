//! The box in one network namespace, and around it one for each of its ports. They end with the thread that opened them.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kernel::nft::NewElement;
use nix::sys::socket::{MsgFlags, recv, send};
use policy::plan::Plan;
use policy::ruleset::{Datum, Span};
use policy::simulate::{Ingress, Packet};

use crate::compare::Observed;
use crate::frames::{self, Arrival, Kind, Mac};
use crate::random::{GATEWAYS, HOSTS, PORTS};

/// Long enough for a veth pair on a busy machine; every arrival starts it anew.
const QUIET: Duration = Duration::from_millis(60);
const FIRST_NUMBER: u16 = 20_000;
const NUMBERS: u16 = 64;

pub struct Wires {
    far: Vec<Far>,
    raw: Vec<Raw>,
    nft: kernel::nft::Nft,
    batches: u16,
    /// Whether the next policies' mappings are let in.
    pub permits: bool,
    /// The forwarder's sockets: nobody reads them, but they are there.
    _forwarder: Vec<OwnedFd>,
}

/// The other end of one port's cable.
struct Far {
    port: &'static str,
    socket: OwnedFd,
    mac: Mac,
    box_mac: Mac,
}

/// A raw socket in the box: it gets a copy of what the input chain let through.
struct Raw {
    ipv6: bool,
    protocol: u8,
    socket: OwnedFd,
}

/// Runs a story on wires of its own.
pub fn alone<T: Send + 'static>(story: impl FnOnce(&mut Wires) -> T + Send + 'static) -> T {
    assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces and needs root");
    let box_thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        story(&mut Wires::open())
    });
    box_thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Wires {
    fn open() -> Wires {
        run("ip", &["link", "set", "lo", "up"]);
        for (key, value) in [
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv4/icmp_ratelimit", "0"),
            ("net/ipv4/icmp_msgs_per_sec", "100000"),
            ("net/ipv4/icmp_msgs_burst", "10000"),
            ("net/ipv6/icmp/ratelimit", "0"),
        ] {
            std::fs::write(format!("/proc/sys/{key}"), value).unwrap_or_else(|error| panic!("{key}: {error}"));
        }
        let far: Vec<Far> = PORTS.iter().map(|port| Far::plug(port.name)).collect();
        let protocols = [6u8, 17, 47, 50, 89];
        let v4 = protocols.iter().chain(&[1]).map(|protocol| Raw::open(false, *protocol));
        let v6 = protocols.iter().chain(&[58]).map(|protocol| Raw::open(true, *protocol));
        let forwarder = kernel::sockets::for_the_forwarder().expect("the forwarder's sockets");
        Wires {
            raw: v4.chain(v6).collect(),
            far,
            nft: kernel::nft::Nft::open().expect("netfilter's netlink"),
            batches: 0,
            permits: true,
            _forwarder: forwarder,
        }
    }

    /// Makes the box equal to the plan, as the applier does, at this minute of the week.
    pub fn install(&mut self, plan: &Plan, minute: u16) {
        kernel::links::reconcile(&plan.links).expect("links");
        kernel::routes::reconcile(&plan.routes).expect("routes");
        kernel::rules::reconcile(&plan.route_rules).expect("rules");
        kernel::sysctl::write(&plan.sysctls).expect("sysctls");
        self.nft.apply(&plan.ruleset).expect("ruleset");
        for schedule in plan.schedules.values().filter(|schedule| schedule.open.iter().any(|w| (w.from..w.to).contains(&minute))) {
            let element =
                |family| NewElement { key: vec![Span::One(Datum::Byte(family))], to: None, timeout: Some(Duration::from_secs(600)) };
            self.nft.add_elements(policy::compile::TABLE, &schedule.set, &[element(2), element(10)]).expect("an open window");
        }
        let permits = plan.proxy.mappings.values().filter(|_| self.permits).map(|mapping| NewElement {
            key: vec![Span::One(Datum::Word(policy::compile::proxy::mark(mapping.id)))],
            to: None,
            timeout: Some(Duration::from_secs(600)),
        });
        let permits: Vec<NewElement> = permits.collect();
        if !permits.is_empty() {
            self.nft.add_elements(policy::compile::TABLE, policy::compile::proxy::PERMITS, &permits).expect("permits");
        }
        kernel::conntrack::flush().expect("an empty connection table");
        if self.batches == 0 {
            self.introduce();
        }
    }

    /// Neighbours that never have to be asked for: everyone behind a port is its far end.
    fn introduce(&self) {
        let mut lines = String::new();
        for (port, far) in PORTS.iter().zip(&self.far) {
            let near = HOSTS.iter().flat_map(|number| [port.host4(*number), port.host6(*number)]);
            let gateways = GATEWAYS.iter().filter(|(_, on)| *on == port.name).map(|(gateway, _)| (*gateway).to_owned());
            for host in near.chain(gateways) {
                lines += &format!("neigh replace {host} lladdr {} dev {} nud permanent\n", words(&far.mac), port.name);
            }
        }
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::io::Write::write_all(&mut file, lines.as_bytes()).expect("written");
        run("ip", &["-batch", file.path().to_str().expect("a path")]);
    }

    /// The first number of the next batch; the ones before are used up.
    pub fn next_numbers(&mut self) -> u16 {
        self.batches += 1;
        self.first()
    }

    fn first(&self) -> u16 {
        FIRST_NUMBER + (self.batches % 400) * NUMBERS
    }

    /// Sends all packets, then listens until nothing comes any more.
    pub fn exchange(&mut self, packets: &[Packet]) -> Vec<Observed> {
        let first = self.first();
        let senders: Vec<_> = packets.iter().zip(first..).map(|(packet, number)| self.send(packet, number)).collect();
        let ours = |number: u16| (first..first + packets.len() as u16).contains(&number);
        let mut observed = vec![Observed::default(); packets.len()];
        let mut last = Instant::now();
        while last.elapsed() < QUIET {
            if self.collect(first, &ours, &mut observed) {
                last = Instant::now();
            } else {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        drop(senders);
        observed
    }

    fn send(&self, packet: &Packet, number: u16) -> Option<UdpSocket> {
        let Ingress::Interface(port) = &packet.from else {
            // What the box itself sends goes through its own stack. A refusal of the output chain is an answer as well.
            let socket = UdpSocket::bind((packet.source, number)).expect("an address of the box");
            let _ = socket.send_to(&frames::mark(number), (packet.destination, packet.transport.port));
            return Some(socket);
        };
        let far = self.far.iter().find(|far| far.port == port.as_str()).expect("a port of this world");
        let frame = frames::frame(packet, number, packet.mac.unwrap_or(far.mac), far.box_mac);
        send(far.socket.as_raw_fd(), &frame, MsgFlags::empty()).expect("sent");
        None
    }

    /// Whether anything came.
    fn collect(&self, first: u16, ours: &dyn Fn(u16) -> bool, observed: &mut [Observed]) -> bool {
        let mut any = false;
        let mut buffer = [0u8; 2048];
        for far in &self.far {
            while let Ok(length) = recv(far.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                any = true;
                // The socket also shows what it sent itself.
                if let Some((from, arrival)) = frames::captured(&buffer[..length], ours).filter(|(from, _)| *from == far.box_mac) {
                    debug_assert_eq!(from, far.box_mac);
                    note(&mut observed[usize::from(arrival.number - first)], Some(far.port), arrival);
                }
            }
        }
        for raw in &self.raw {
            while let Ok(length) = recv(raw.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                any = true;
                let bytes = &buffer[..length];
                let arrival = if raw.ipv6 { frames::transport_of(raw.protocol, bytes, true, ours) } else { frames::packet4(bytes, ours) };
                if let Some(arrival) = arrival {
                    note(&mut observed[usize::from(arrival.number - first)], None, arrival);
                }
            }
        }
        any
    }
}

fn note(observed: &mut Observed, port: Option<&'static str>, arrival: Arrival) {
    match (arrival.kind, port) {
        (Kind::Packet, Some(port)) => observed.forwarded.push((port, arrival)),
        (Kind::Packet, None) => observed.delivered = Some(arrival),
        (answer, _) => observed.answers.push(answer),
    }
}

impl Far {
    fn plug(port: &'static str) -> Far {
        let (tell_thread, thread) = mpsc::channel();
        let (tell_plugged, plugged) = mpsc::channel();
        let far = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
            tell_thread.send(nix::unistd::gettid()).expect("the box waits");
            plugged.recv().expect("a cable");
            std::fs::write("/proc/sys/net/ipv6/conf/far/disable_ipv6", "1").expect("a quiet end");
            run("ip", &["link", "set", "far", "up"]);
            (capture("far"), mac("far"))
        });
        let thread: nix::unistd::Pid = thread.recv().expect("a namespace");
        run("ip", &["link", "add", port, "type", "veth", "peer", "name", "far", "netns", &thread.to_string()]);
        run("ip", &["link", "set", port, "up"]);
        tell_plugged.send(()).expect("the far end waits");
        let (socket, far_mac) = far.join().expect("the far end");
        Far { port, socket, mac: far_mac, box_mac: mac(port) }
    }
}

impl Raw {
    fn open(ipv6: bool, protocol: u8) -> Raw {
        let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
        Raw { ipv6, protocol, socket: socket(family, i32::from(protocol)) }
    }
}

fn capture(link: &str) -> OwnedFd {
    let everything = u16::to_be(libc::ETH_P_ALL as u16);
    let socket = socket(libc::AF_PACKET, i32::from(everything));
    let index = nix::net::if_::if_nametoindex(link).expect("the link");
    // SAFETY: all-zero is a valid sockaddr_ll, a struct of plain numbers.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = everything;
    address.sll_ifindex = index as i32;
    let length = std::mem::size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: the address lives until the call returns, and its length is its own.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(bound, 0, "bind: {}", std::io::Error::last_os_error());
    socket
}

fn socket(family: i32, protocol: i32) -> OwnedFd {
    // SAFETY: no pointer is passed.
    let socket = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol) };
    assert!(socket >= 0, "socket: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and nobody else's.
    unsafe { OwnedFd::from_raw_fd(socket) }
}

fn mac(link: &str) -> Mac {
    let shown = run("ip", &["-br", "link", "show", link]);
    let text = shown.split_whitespace().nth(2).expect("a link-layer address");
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
    bytes.try_into().expect("six bytes")
}

fn words(mac: &Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn run(program: &str, args: &[&str]) -> String {
    let out = std::process::Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}
