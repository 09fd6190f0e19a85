//! A client, the box and the world behind it, each in a network namespace of its own. This thread, and what it starts, is in the box.
//!
//! ```text
//! client 10.0.0.2, fd00::2 ── client0 [ box ] far0 203.0.113.1 ── 203.0.113.2, upstreams; 192.0.2.0/24, 2001:db8::53 on its loopback
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use policy::name::Name;
use policy::plan::proxy::{Proxy, Upstream, Via};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::config::samples::{mapping, name, upstream};
use crate::config::{Carried, Mapped};
use crate::flows::{Flows, Limits};
use crate::udp::{Ground, Handle, Sockets, worker};

pub struct Lab {
    pub client: u32,
    pub far: u32,
    pub ground: Arc<Carrying>,
    pub handle: Handle,
    /// Transparent, for what the client opens to port 53 over TCP.
    pub listener: TcpListener,
    pub folder: tempfile::TempDir,
    children: Vec<Child>,
}

pub struct Carrying {
    carried: Mutex<Arc<Carried>>,
    pub flows: Flows,
    pub failed: Mutex<Vec<String>>,
}

const WIRES: &str = r#"
set -e
ip link set lo up
ip link add client0 type veth peer name eth0 netns $CLIENT
ip link add far0 type veth peer name eth0 netns $FAR
ip addr add 10.0.0.1/24 dev client0; ip -6 addr add fd00::1/64 dev client0 nodad; ip link set client0 up
ip addr add 203.0.113.1/24 dev far0; ip link set far0 up
in_client() { nsenter -t $CLIENT -n "$@"; }
in_far() { nsenter -t $FAR -n "$@"; }
in_client ip link set lo up; in_client ip link set eth0 up
in_client ip addr add 10.0.0.2/24 dev eth0; in_client ip -6 addr add fd00::2/64 dev eth0 nodad
in_client ip route add default via 10.0.0.1; in_client ip -6 route add default via fd00::1
in_far ip link set lo up; in_far ip link set eth0 up
in_far ip addr add 203.0.113.2/24 dev eth0
for address in 192.0.2.7 192.0.2.8 192.0.2.53; do in_far ip addr add $address/32 dev lo; done
in_far ip -6 addr add 2001:db8::53/128 dev lo nodad
for family in -4 -6; do
    ip $family rule add fwmark 0x2/0x2 lookup 100
    ip $family route add local default dev lo table 100
done
nft -f - <<'NFT'
table inet lab {
    counter astray { }
    counter answers { }
    chain proxy {
        type filter hook prerouting priority -140;
        iifname != "client0" accept
        meta l4proto udp meta mark set 0x702 ct mark set 0x700 tproxy to :61082 accept
        tcp dport 53 meta mark set 0x702 ct mark set 0x700 tproxy to :61081 accept
        meta l4proto { tcp, udp } drop
    }
    chain output {
        type filter hook output priority 0;
        meta mark 0x4 ct state established ct mark 0x700 counter name answers accept
        meta mark 0x4 drop
        oifname "far0" ip daddr != 203.0.113.2 counter name astray drop
    }
}
NFT
"#;

/// The applier's part: what takes a privilege. Nothing in this crate can do it.
const SOCKETS: &str = r#"
import socket, array
def udp(family, level, transparent, original):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.setsockopt(level, transparent, 1); s.setsockopt(level, original, 1)
    s.setsockopt(socket.SOL_SOCKET, 75, 1) # SO_RCVMARK
    s.bind(('::' if family == socket.AF_INET6 else '0.0.0.0', 61082)); return s
def raw(family):
    s = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    s.setsockopt(socket.SOL_SOCKET, 36, 4); return s # SO_MARK
t = socket.socket(); t.setsockopt(socket.SOL_IP, 19, 1); t.bind(('0.0.0.0', 61081)); t.listen()
all = [udp(socket.AF_INET, socket.SOL_IP, 19, 20), udp(socket.AF_INET6, socket.IPPROTO_IPV6, 75, 74), raw(socket.AF_INET), raw(socket.AF_INET6), t]
out = socket.socket(fileno=0)
out.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [s.fileno() for s in all]))])
"#;

impl Lab {
    /// None, with a line that says so: this takes root.
    pub fn new(change: impl FnOnce(&mut Proxy)) -> Option<Lab> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: network namespaces take root");
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut children: Vec<Child> = (0..2).map(|_| Command::new("unshare").args(["-n", "sleep", "120"]).spawn().unwrap()).collect();
        let (client, far) = (children[0].id(), children[1].id());
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        until("namespaces", || {
            [client, far].iter().all(|pid| std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|net| net != own) && sleeps(*pid))
        });
        run(Command::new("bash").args(["-c", WIRES]).env("CLIENT", client.to_string()).env("FAR", far.to_string()));
        let mut sockets = handed(&mut children);
        let listener = TcpListener::from(sockets.pop().unwrap());
        let [datagrams4, datagrams6, answers4, answers6] = sockets.try_into().unwrap();
        let mut proxy = Proxy {
            upstreams: [(name("one"), at(1080)), (name("two"), at(1081))].into(),
            groups: [].into(),
            mappings: [(name("desk"), mapping(7, &["10.0.0.0/24", "fd00::/64"], Via::Upstream(name("one"))))].into(),
        };
        change(&mut proxy);
        let carried = Carried::new(1, proxy, BTreeMap::new(), vec!["10.0.0.1".parse().unwrap()]);
        let flows = Flows::new(Limits { flows: 1000, per_client: 500 });
        let ground = Arc::new(Carrying { carried: Mutex::new(Arc::new(carried)), flows, failed: Mutex::default() });
        let (handle, worker) = worker(ground.clone()).unwrap();
        handle.listen(Sockets { datagrams4, datagrams6, answers4, answers6 });
        thread::spawn(move || worker.run());
        let folder = tempfile::tempdir().unwrap();
        Some(Lab { client, far, ground, handle, listener, folder, children })
    }

    /// A program behind the box; it is ready when it listens on this port of 203.0.113.2.
    pub fn serve(&mut self, program: &str, arguments: &[&str], port: u16) {
        let pid = self.far.to_string();
        let child =
            Command::new("nsenter").args(["-t", &pid, "-n", program]).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.children.push(child.unwrap());
        until(program, || TcpStream::connect(("203.0.113.2", port)).is_ok());
    }

    pub fn danted(&mut self) {
        let path = self.folder.path().join("danted.conf");
        let config = "logoutput: stderr\ninternal: 203.0.113.2 port = 1080\nexternal: 203.0.113.2\nsocksmethod: none\nclientmethod: none\n\
            user.privileged: root\nuser.unprivileged: nobody\nclient pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n\
            socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 protocol: tcp udp\ncommand: bind connect udpassociate bindreply udpreply }\n";
        File::create(&path).unwrap().write_all(config.as_bytes()).unwrap();
        let pid = self.folder.path().join("pid");
        self.serve("danted", &["-f", path.to_str().unwrap(), "-p", pid.to_str().unwrap()], 1080);
    }

    pub fn microsocks(&mut self, port: u16) {
        self.serve("microsocks", &["-i", "0.0.0.0", "-p", &port.to_string()], port);
    }

    pub fn mapped(&self) -> Arc<Mapped> {
        self.ground.carried.lock().unwrap().mapping(7, "10.0.0.2".parse().unwrap()).unwrap().clone()
    }

    /// A client's socket that takes answers only from whom it asks, as the kernel sees to.
    pub fn asks(&self, from: &'static str, whom: &'static str) -> UdpSocket {
        inside(self.client, move || {
            let socket = UdpSocket::bind(from).unwrap();
            socket.connect(whom).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
            socket
        })
    }

    pub fn counter(&self, which: &str) -> u64 {
        let told = Command::new("nft").args(["list", "counter", "inet", "lab", which]).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        told.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

impl Ground for Carrying {
    fn carried(&self) -> Option<Arc<Carried>> {
        Some(self.carried.lock().unwrap().clone())
    }

    fn flows(&self) -> &Flows {
        &self.flows
    }

    fn choose(&self, via: &Via) -> Result<Name, String> {
        let failed = self.failed.lock().unwrap();
        let carried = self.carried.lock().unwrap();
        let up = |name: &&Name| !failed.iter().any(|why| why.starts_with(name.as_str()));
        carried.members(via).iter().find(up).cloned().ok_or_else(|| "all failed".into())
    }

    fn failed(&self, upstream: &Name, why: &str) {
        self.failed.lock().unwrap().push(format!("{upstream}: {why}"));
    }

    fn succeeded(&self, _upstream: &Name) {}

    fn doubt(&self, _upstream: &Name) {}

    fn pipelined(&self, _upstream: &Name) -> bool {
        false
    }
}

pub fn at(port: u16) -> Upstream {
    Upstream { address: "203.0.113.2".parse().unwrap(), udp: true, ..upstream(port) }
}

/// Does this in the namespace of that process.
pub fn inside<T: Send + 'static>(pid: u32, what: impl FnOnce() -> T + Send + 'static) -> T {
    let inside = move || {
        setns(File::open(format!("/proc/{pid}/ns/net")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        what()
    };
    thread::spawn(inside).join().unwrap()
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: not in time");
        thread::sleep(Duration::from_millis(20));
    }
}

fn sleeps(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn handed(children: &mut Vec<Child>) -> Vec<OwnedFd> {
    let (ours, its) = UnixStream::pair().unwrap();
    children.push(Command::new("python3").args(["-c", SOCKETS]).stdin(OwnedFd::from(its)).spawn().unwrap());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(&ours, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let rights = |message| if let RecvAncillaryMessage::ScmRights(rights) = message { Some(rights) } else { None };
    let sockets: Vec<OwnedFd> = control.drain().filter_map(rights).flatten().collect();
    assert_eq!(sockets.len(), 5, "what the applier would hand over");
    sockets
}
