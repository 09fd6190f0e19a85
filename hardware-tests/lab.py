"""The lab: a box with its real processes in one namespace, and the machines around it, each in one of their own.

    lan1 .10 ─┐
              ├─ lan (switch) ── lan0    ┌─────┐    wan0 ── inet   203.0.113.1, 198.51.100.10, 2001:db8:51::10
    lan2 .11 ─┘                          │ box │
    guest .10 ────────────────── guest0  └─────┘    mgmt0 ── the administrator 192.168.77.2

    Beyond inet: up1 (100.64.1.10) and up2 (100.64.2.10), on which real proxies run and where what they carry comes out.

The box's ports come up as a machine's do: present, down, without addresses. Everything else is the applier's work.
"""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import time

import front
from internet import Internet
from namespaces import Namespace, destroy_leftovers, run, wait_until
from processes import Process, Supervisor
from servers import Servers
from units import Unit
from upstreams import Upstreams

LOCKS = "/run/lock"
USERS = ("portcullis-applier", "portcullis-console", "portcullis-control", "portcullis-forwarder", "portcullis-observer", "portcullis-front")

# Port of the box, its fixed hardware address, the machine at the other end, that machine's addresses there.
PORTS = {
    "wan0": ("02:00:00:00:00:01", "inet", ("203.0.113.1/24", "2001:db8:113::1/64")),
    "lan0": ("02:00:00:00:00:02", "lan", ()),
    "guest0": ("02:00:00:00:00:03", "guest", ("192.168.3.10/24", "fd00:3::10/64")),
    "mgmt0": ("02:00:00:00:00:04", "admin", ("192.168.77.2/24",)),
}
LAN = {"lan1": ("192.168.2.10/24", "fd00:2::10/64"), "lan2": ("192.168.2.11/24", "fd00:2::11/64")}
INTERNET = ("198.51.100.10/32", "2001:db8:51::10/128", "192.0.2.53/32")
# Machines with proxies: name, the network between it and the internet.
UPSTREAMS = {"up1": ("100.64.1", "2001:db8:64:1:"), "up2": ("100.64.2", "2001:db8:64:2:")}
# What rulesets call the forwarder's user by.
FORWARDER_UID = 911


class Lab:
    """`with Lab(...) as lab:` builds it and takes it away again, whatever happens in between."""

    def __init__(self, prefix="pc", binaries="target/debug", admin_is_this_machine=False, say=lambda text: None):
        if len(prefix) > 10:
            raise ValueError("a prefix has at most 10 characters: interface names have 15")
        self.prefix = prefix
        self.root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.binaries = os.path.join(self.root, binaries)
        self.say = say
        self.run_dir = _run_dir(prefix)
        self.state_dir = _state_dir(prefix)
        self.log_dir = f"/var/log/portcullis-lab/{prefix}"
        self.policy_dir = os.path.join(self.state_dir, "policy")
        for name in ("box", "inet", "lan", "lan1", "lan2", "guest", *UPSTREAMS):
            setattr(self, name, Namespace(f"{prefix}-{name}"))
        self.admin = Namespace("" if admin_is_this_machine else f"{prefix}-admin")
        self.processes = {}
        self.servers = []
        self.upstreams = None

    def __enter__(self):
        self._lock()
        signal.signal(signal.SIGTERM, _interrupt)
        signal.signal(signal.SIGHUP, _interrupt)
        try:
            Lab.clean_after(self.prefix)
            self._directories()
            self._machines()
            self._box()
            self._define_processes()
            self.supervisor = Supervisor(self.processes)
            self.supervisor.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # A second Ctrl-C must not leave half a lab behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self.stop()
        if hasattr(self, "supervisor"):
            self.supervisor.over = True
            self.supervisor.join()
        for servers in self.servers:
            servers.close()
        if self.upstreams:
            self.upstreams.close()
        Lab.clean_after(self.prefix)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.lock.name)
        self.lock.close()

    # --- building ---

    def _lock(self):
        """The name is ours while we live; names whose holder was killed are cleaned up on the way."""
        os.makedirs(LOCKS, exist_ok=True)
        for name in os.listdir(LOCKS):
            prefix = name.removeprefix("portcullis-lab-")
            if prefix not in (name, self.prefix) and (lock := _take(prefix)):
                Lab.clean_after(prefix)
                os.unlink(os.path.join(LOCKS, name))
                lock.close()
        self.lock = _take(self.prefix)
        if not self.lock:
            raise SystemExit(f"a lab called {self.prefix} is running already; stop it, or choose another name with --prefix")

    @staticmethod
    def clean_after(prefix):
        destroy_leftovers(prefix)
        for directory in (_run_dir(prefix), _state_dir(prefix)):
            shutil.rmtree(directory, ignore_errors=True)

    def _directories(self):
        for user in USERS:
            try:
                pwd.getpwnam(user)
            except KeyError:
                number = ("--uid", str(FORWARDER_UID)) if user == "portcullis-forwarder" else ()
                run("useradd", "--system", *number, "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", user)
        if pwd.getpwnam("portcullis-forwarder").pw_uid != FORWARDER_UID:
            # From before it was fixed. A lab that runs now still has processes under the old one, and usermod says so.
            run("usermod", "--uid", str(FORWARDER_UID), "portcullis-forwarder")
        shutil.rmtree(self.log_dir, ignore_errors=True)
        for directory in (self.run_dir, self.state_dir, self.log_dir, self.policy_dir):
            os.makedirs(directory, mode=0o755)
        for user in USERS:
            self._own_directory(os.path.join(self.state_dir, user.removeprefix("portcullis-")), user, 0o700)
        # Each process makes its own socket in here; the sticky bit keeps them from taking each other's away.
        os.chmod(self.run_dir, 0o1777)

    @staticmethod
    def _own_directory(path, user, mode):
        os.makedirs(path, exist_ok=True)
        shutil.chown(path, user, user)
        os.chmod(path, mode)

    def _machines(self):
        for machine in (self.inet, self.lan1, self.lan2, self.guest, *(getattr(self, name) for name in UPSTREAMS), *([self.admin] if self.admin.name else [])):
            machine.create().be_a_host()
        self.lan.create()
        self.lan.ip("link", "add", "switch", "type", "bridge")
        self.lan.ip("link", "set", "switch", "up")
        for name, addresses in LAN.items():
            machine = getattr(self, name)
            machine.ip("link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", self.lan.name)
            self.lan.ip("link", "set", name, "master", "switch", "up")
            _configure(machine, "eth0", addresses, gateways=("192.168.2.1", "fd00:2::1"))
        for address in INTERNET:
            self.inet.ip("address", "add", address, "dev", "lo", "nodad") if ":" in address else self.inet.ip("address", "add", address, "dev", "lo")
        for name, (four, six) in UPSTREAMS.items():
            machine = getattr(self, name)
            machine.ip("link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", self.inet.name)
            _configure(self.inet, name, (f"{four}.1/24", f"{six}:1/64"), ())
            _configure(machine, "eth0", (f"{four}.10/24", f"{six}:10/64"), (f"{four}.1", f"{six}:1"))
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            self.inet.sysctl(key, 1)
        self.upstreams = Upstreams(self)
        self.internet = Internet(self.inet, os.path.join(self.state_dir, "internet"))
        self.servers = [
            self.internet,
            Servers(self.inet, "inet", tcp=(22, 25, 80, 443, 853, 8080), udp=(53, 123, 443, 9999)),
            Servers(self.lan1, "lan1", tcp=(22, 80, 443, 8443), udp=(53, 9999)),
            Servers(self.lan2, "lan2", tcp=(22, 80, 443), udp=(53, 9999)),
            Servers(self.guest, "guest", tcp=(22, 80, 443), udp=(53, 9999)),
        ]

    def _box(self):
        """The machine as firmware and the lockdown unit hand it over: ports there but down, and nothing passes."""
        self.box.create()
        self.box.run("nft", "-f", os.path.join(self.root, "rootfs-overlay/usr/lib/portcullis/lockdown.nft"))
        for port, (mac, far_name, addresses) in PORTS.items():
            far = getattr(self, far_name)
            far_port = self.far_port(port)
            self.box.ip("link", "add", port, "address", mac, "type", "veth", "peer", "name", f"{self.prefix}-{port}")
            self.box.ip("link", "set", f"{self.prefix}-{port}", "netns", far.name or str(os.getpid()), "name", far_port)
            if far_name == "lan":
                far.ip("link", "set", far_port, "master", "switch", "up")
            else:
                gateways = ("192.168.3.1", "fd00:3::1") if far_name == "guest" else ()
                _configure(far, far_port, addresses, gateways)
        # The internet of the lab would carry leaked private addresses back, so that a leak is not hidden by a missing route.
        for network, via in (("192.168.0.0/16", "203.0.113.2"), ("fd00::/16", "2001:db8:113::2")):
            self.inet.ip("route", "replace", network, "via", via)

    def far_port(self, port):
        """What the other end of the box's port is called over there."""
        return {"guest0": "eth0", "lan0": "box", "mgmt0": f"{self.prefix}-mgmt"}.get(port, port.rstrip("0"))

    def _define_processes(self):
        own = {name: [os.path.join(self.binaries, f"portcullis-{name}")] for name in ("applier", "control", "forwarder", "observer")}
        self._add("applier", own["applier"] + ["--allow-user", "portcullis-control", "--allow-user", "portcullis-console", "--forwarder-user", "portcullis-forwarder"])
        self._add("control", own["control"])
        self._add("front", front.argv(self), unit="admin-front", notify=False, condition=lambda: front.can_start(self))
        self._add("forwarder", own["forwarder"] + ["--applier-user", "portcullis-applier", "--allow-user", "portcullis-control"])
        self._add("observer", own["observer"] + ["--allow-user", "portcullis-control"])

    def _add(self, name, argv, unit=None, **more):
        env = {
            "PORTCULLIS_RUN_DIR": self.run_dir,
            "PORTCULLIS_STATE_DIR": os.path.join(self.state_dir, name),
            "PORTCULLIS_POLICY_DIR": self.policy_dir,
            "RUST_BACKTRACE": "1",
        }
        log = os.path.join(self.log_dir, f"{name}.log")
        self.processes[name] = Process(name, argv, Unit(unit or name), self.box, log, self.run_dir, env, **more)

    # --- life ---

    def boot(self):
        """In the order of the units: the applier restores what was confirmed before anybody else is started."""
        self.start(*self.processes)

    def start(self, *names):
        for name in names:
            self.supervisor.start_process(self.processes[name])
            self.processes[name].wait_ready()

    def stop(self, *names, number=signal.SIGTERM):
        for name in names or list(self.processes):
            self.processes[name].stop(number)

    def power_cut(self):
        """Every process gone at once, and the box's namespace with everything the kernel knew. The state directory stays."""
        for process in self.processes.values():
            process.wanted = False
        for process in self.processes.values():
            process.send(signal.SIGKILL)
        self.stop()
        self.box.destroy()
        far_ends = [(getattr(self, far), self.far_port(port)) for port, (_, far, _) in PORTS.items()]
        # The kernel dismantles a namespace after `ip netns del` has returned.
        wait_until(lambda: not any(far.ip("link", "show", name, check=False) for far, name in far_ends), 10, "the old box is gone")
        # /run is memory.
        for name in os.listdir(self.run_dir):
            path = os.path.join(self.run_dir, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    def plug_in(self):
        """The machine after a power cut, before any of its programs runs."""
        self._box()

    def remove(self, path):
        shutil.rmtree(path, ignore_errors=True)

    def one_time_code(self):
        """With which the first administrator is made; the file is gone once it was used."""
        with open(os.path.join(self.run_dir, "setup-code")) as file:
            return file.read().strip()

    def log_marks(self):
        """How far everybody's log has come."""
        return {process.name: len(process.log()) for process in self.processes.values()}

    def logs_since(self, marks):
        told = []
        for process in self.processes.values():
            if new := process.log()[marks[process.name]:].strip():
                told.append(f"{process.name} wrote:\n    " + "\n    ".join(new.splitlines()[-12:]))
        return "\n".join(told)

    def seconds(self, promised):
        """How long something may take that is promised of an optimised build; one for debugging is several times as slow."""
        return promised if self.binaries.endswith("release") else 3 * promised

    def cli(self, *arguments, check=True, text_input=None, errors=False):
        """`portcullis` on the box's console; with `errors`, what it said there too."""
        command = (os.path.join(self.binaries, "portcullis"), "--run-dir", self.run_dir, *arguments)
        return self.box.run(*command, check=check, text_input=text_input, errors=errors)


def _run_dir(prefix):
    return "/run/portcullis" if prefix == "pc" else f"/run/portcullis-{prefix}"


def _state_dir(prefix):
    return f"/var/lib/portcullis-lab/{prefix}"


def _take(prefix):
    """The lock of a name, or None while somebody lives who holds it."""
    lock = open(os.path.join(LOCKS, f"portcullis-lab-{prefix}"), "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock
    except BlockingIOError:
        lock.close()
        return None


def _configure(machine, port, addresses, gateways):
    for address in addresses:
        machine.ip("address", "add", address, "dev", port, *(("nodad",) if ":" in address else ()))
    machine.ip("link", "set", port, "up")
    for gateway in gateways:
        machine.ip("route", "add", "default", "via", gateway, "dev", port)


def _interrupt(number, _frame):
    raise KeyboardInterrupt(signal.Signals(number).name)
