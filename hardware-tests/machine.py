"""The image in QEMU: a disk with the image on it, a serial console, ports into namespaces, and a plug that can be pulled.

QEMU and its firmware come from the builder root that the image was built in, so the machine that runs this needs neither.
"""

import base64
import contextlib
import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build", "image")
BUILDER = os.path.join(BUILD, "builder")
ENTER = [os.path.join(ROOT, "image", "enter"), BUILDER]
FIRMWARE = "usr/share/OVMF"
DISK_BYTES = 4 << 30
# Paths as QEMU sees them, inside the builder root.
INSIDE = "/work"

TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000


def image():
    """The disk image that scripts/image made last."""
    folder = os.path.join(BUILD, "out")
    found = [os.path.join(folder, name) for name in os.listdir(folder)] if os.path.isdir(folder) else []
    found = [path for path in found if re.fullmatch(r"portcullis_[0-9.]*[0-9]\.raw", os.path.basename(path))]
    if not found:
        raise SystemExit("there is no image; scripts/image builds it")
    return max(found, key=os.path.getmtime)


def accelerator():
    """Hardware virtualisation where it is to be had, emulation otherwise; PORTCULLIS_QEMU_ACCEL decides for those who measure."""
    if chosen := os.environ.get("PORTCULLIS_QEMU_ACCEL"):
        return ["-accel", chosen, "-cpu", "max"]
    # A /dev/kvm alone says little: where the processor shows no extension, guests of firmware's 16-bit modes do not run.
    with open("/proc/cpuinfo") as processor:
        if os.access("/dev/kvm", os.R_OK | os.W_OK) and re.search(r"^flags.*\b(vmx|svm)\b", processor.read(), re.M):
            return ["-accel", "kvm", "-cpu", "max"]
    return ["-accel", "tcg,thread=multi", "-cpu", "max"]


class Port:
    """One network port of the machine. Its cable ends in a tap interface of a namespace, which stays while the machine is off."""

    def __init__(self, mac, namespace, interface):
        self.mac, self.interface = mac, interface
        with namespace.inside():
            self.tap = open("/dev/net/tun", "r+b", buffering=0)
            fcntl.ioctl(self.tap, TUNSETIFF, struct.pack("16sH22x", interface.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))

    def arguments(self, number):
        descriptor = self.tap.fileno()
        return ["-netdev", f"tap,id=n{number},fd={descriptor}", "-device", f"virtio-net-pci,netdev=n{number},mac={self.mac}"]

    def close(self):
        self.tap.close()


class UserPort:
    """A port for which QEMU itself plays the network, with ports of this machine's loopback led to the box."""

    tap = None

    def __init__(self, mac, network="", forwards=()):
        self.mac, self.network, self.forwards = mac, network, forwards

    def arguments(self, number):
        options = ["user", f"id=n{number}", *([self.network] if self.network else [])]
        options += [f"hostfwd=tcp:127.0.0.1:{here}-{there}" for here, there in self.forwards]
        return ["-netdev", ",".join(options), "-device", f"virtio-net-pci,netdev=n{number},mac={self.mac}"]

    def close(self):
        pass


class Machine:
    """`folder`, under build/, holds the disk, the firmware's variables and the console's log."""

    def __init__(self, folder, ports, memory=1024, credentials=None, disk=None):
        self.folder = os.path.join(ROOT, folder)
        self.ports, self.memory, self.credentials = ports, memory, credentials or {}
        os.makedirs(self.folder, exist_ok=True)
        self.disk = disk or os.path.join(self.folder, "disk.raw")
        self.variables = os.path.join(self.folder, "variables.fd")
        self.console_log = os.path.join(self.folder, "console.log")
        self.process = None
        self.console = self.agent = None

    # --- the disk ---

    def write_disk(self, source=None, size=DISK_BYTES):
        """As an administrator writes it: the image's bytes on a larger disk."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.disk)
        subprocess.run(["cp", "--sparse=always", source or image(), self.disk], check=True)
        os.truncate(self.disk, size)
        shutil.copyfile(os.path.join(BUILDER, FIRMWARE, "OVMF_VARS_4M.fd"), self.variables)

    # --- power ---

    def power_on(self):
        self._sockets = {name: os.path.join(self.folder, name + ".sock") for name in ("console", "agent", "monitor")}
        for path in self._sockets.values():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        taps = [port.tap.fileno() for port in self.ports if port.tap]
        with open(os.path.join(self.folder, "qemu.log"), "ab") as log:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig=KILL", *ENTER, *self.command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            pass_fds=taps, start_new_session=True)
        _prefer(self.process.pid)
        self.console = Console(self._connect("console"), self.console_log)
        self.agent = Agent(self._connect("agent"))
        self.began = time.monotonic()

    def command(self, in_terminal=False):
        """QEMU's command line; in a terminal the serial console is what is seen there, and nothing else can be spoken to."""
        firmware = f"/{FIRMWARE}/OVMF_CODE_4M.fd"
        arguments = ["qemu-system-x86_64", *accelerator(), "-M", "q35", "-smp", "2", "-m", str(self.memory), "-nodefaults", "-no-user-config", "-display", "none",
                     "-drive", f"if=pflash,format=raw,readonly=on,file={firmware}", "-drive", f"if=pflash,format=raw,file={inside(self.variables)}",
                     "-drive", f"file={inside(self.disk)},format=raw,if=none,id=disk,cache=writeback", "-device", "virtio-blk-pci,drive=disk,bootindex=1",
                     "-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset"]
        arguments += ["-serial", "mon:stdio"] if in_terminal else self._channels()
        for number, port in enumerate(self.ports):
            arguments += port.arguments(number)
        for name, text in self.credentials.items():
            arguments += ["-smbios", f"type=11,value=io.systemd.credential.binary:{name}={_base64(text)}"]
        return arguments

    def _channels(self):
        sockets = [word for name, path in self._sockets.items() for word in ("-chardev", f"socket,id={name},path={inside(path)},server=on,wait=off")]
        return [*sockets, "-serial", "chardev:console", "-mon", "chardev=monitor,mode=control",
                "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=portcullis.agent"]

    def _connect(self, name):
        end = time.monotonic() + 20
        while True:
            client = socket.socket(socket.AF_UNIX)
            try:
                client.connect(self._sockets[name])
                return client
            except OSError:
                client.close()
                if self.process.poll() is not None or time.monotonic() > end:
                    with open(os.path.join(self.folder, "qemu.log"), errors="replace") as log:
                        raise RuntimeError("QEMU did not start: " + log.read()[-1000:]) from None
                time.sleep(0.05)

    def pull_the_plug(self):
        """Power gone at this instant: what was not written through is lost to the machine."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
        for end in (self.console, self.agent):
            if end:
                end.close()
        self.console = self.agent = None

    def power_on_in_terminal(self):
        """Until the machine is switched off; returns QEMU's exit code."""
        return subprocess.call([*ENTER, *self.command(in_terminal=True)])

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def seconds(self):
        return time.monotonic() - self.began


class Console:
    """The serial console: everything that was written there, as it comes, also in a log."""

    def __init__(self, connection, log):
        self.connection, self.log = connection, log
        self.text = ""
        self.arrived = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with open(self.log, "ab") as log:
            while True:
                try:
                    data = self.connection.recv(65536)
                except OSError:
                    data = b""
                if not data:
                    return
                log.write(data)
                log.flush()
                with self.arrived:
                    self.text += data.decode(errors="replace")
                    self.arrived.notify_all()

    def send(self, text):
        self.connection.sendall(text.encode())

    def expect(self, pattern, seconds, start=0):
        """Waits until the pattern was written, and returns the match."""
        end = time.monotonic() + seconds
        with self.arrived:
            while True:
                if match := re.compile(pattern, re.S).search(self.text, start):
                    return match
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"the console did not show {pattern!r} within {seconds} s; it shows:\n{self.text[-1500:]}")
                self.arrived.wait(left)

    def close(self):
        _hang_up(self.connection)


# In the machine: reads `ID COMMAND` (base64) and answers `ID STATUS OUTPUT ERRORS`. Commands run at once, so a slow one holds up nobody.
AGENT = r"""#!/bin/bash
exec 3<>/dev/virtio-ports/portcullis.agent
one() {
    scratch=$(mktemp -d /run/agent.XXXXXX)
    base64 -d <<<"$2" >"$scratch/in"
    head -n 1 "$scratch/in" | base64 -d >"$scratch/command"; tail -n 1 "$scratch/in" | base64 -d >"$scratch/text"
    /bin/bash "$scratch/command" <"$scratch/text" >"$scratch/out" 2>"$scratch/err"
    status=$?
    { flock 9; printf '%s %s =%s =%s\n' "$1" "$status" "$(base64 -w0 <"$scratch/out")" "$(base64 -w0 <"$scratch/err")" >&3; } 9>/run/agent.lock
    rm -r "$scratch"
}
echo hello >&3
while read -r -u 3 id request; do
    one "$id" "$request" 3>&3 &
done
"""
AGENT_UNIT = """[Unit]
Description=The stories' agent
DefaultDependencies=no
ConditionPathExists=!/etc/initrd-release
Requires=dev-virtio\\x2dports-portcullis.agent.device
After=dev-virtio\\x2dports-portcullis.agent.device
Conflicts=shutdown.target
Before=shutdown.target
[Service]
ExecStart=/bin/bash /run/credentials/@system/portcullis.agent
Restart=always
RestartSec=100ms
KillMode=process
"""
# Given to a machine whose kernel command line lets them in; a release's does not.
AGENT_CREDENTIALS = {
    "portcullis.agent": AGENT,
    "systemd.extra-unit.portcullis-agent.service": AGENT_UNIT,
    "systemd.unit-dropin.sysinit.target~agent": "[Unit]\nWants=portcullis-agent.service\n",
}


class Agent:
    """Root in the machine, over a virtio port: programs run, and what they said."""

    def __init__(self, connection):
        self.connection = connection
        self.number = 0
        self.answers = {}
        self.said_hello = False
        self.over = False
        self.arrived = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        buffer = b""
        while True:
            try:
                data = self.connection.recv(65536)
            except OSError:
                data = b""
            *lines, buffer = (buffer + data).split(b"\n")
            with self.arrived:
                for line in lines:
                    words = line.decode(errors="replace").split()
                    if words == ["hello"]:
                        self.said_hello = True
                    elif len(words) == 4:
                        self.answers[words[0]] = words[1:]
                self.over = self.over or not data
                self.arrived.notify_all()
            if not data:
                return

    def wait(self, seconds=300):
        with self.arrived:
            if not self.arrived.wait_for(lambda: self.said_hello or self.over, seconds) or self.over:
                raise TimeoutError(f"the machine's agent did not say hello within {seconds} s")
        return self

    def run(self, command, check=True, text_input="", errors=False, seconds=120):
        """A line of shell, or a list of words."""
        if not isinstance(command, str):
            command = " ".join(_quoted(word) for word in command)
        with self.arrived:
            self.number += 1
            number = str(self.number)
        request = _base64(_base64(command) + "\n" + _base64(text_input or "") + "\n")
        self.connection.sendall(f"{number} {request}\n".encode())
        with self.arrived:
            if not self.arrived.wait_for(lambda: number in self.answers or self.over, seconds) or number not in self.answers:
                raise TimeoutError(f"`{command}` gave no answer within {seconds} s")
            status, out, wrong = self.answers.pop(number)
        out, wrong = (_unbase64(text[1:]) for text in (out, wrong))
        if check and status != "0":
            raise RuntimeError(f"`{command}` failed with {status}: {wrong.strip() or out.strip()}")
        return out + (wrong if errors else "")

    def close(self):
        _hang_up(self.connection)


LOCK = b" systemd.import_credentials=no"


def let_credentials_in(disk):
    """The test's kernel line: the same bytes, root hash and all, but for the one word that keeps a hypervisor's credentials out."""
    with open(disk, "r+b") as file:
        found, offset, tail = 0, 0, b""
        while chunk := file.read(1 << 20):
            window = tail + chunk
            at = window.find(LOCK)
            while at >= 0:
                place = offset - len(tail) + at
                here = file.tell()
                file.seek(place)
                file.write(b" " * len(LOCK))
                file.seek(here)
                found += 1
                at = window.find(LOCK, at + len(LOCK))
            tail, offset = window[-len(LOCK) + 1:], offset + len(chunk)
            if offset > 300 << 20:
                break
    if not found:
        raise SystemExit("the image's kernel line lets credentials in already")
    return found


def _prefer(pid):
    """A machine that is starved is reset by its own watchdog, so its session goes before others where the kernel weighs sessions."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/autogroup", "w") as group:
        group.write("-10")


def inside(path):
    return INSIDE + "/" + os.path.relpath(path, ROOT)


def _base64(text):
    return base64.b64encode(text.encode()).decode()


def _unbase64(text):
    return base64.b64decode(text).decode(errors="replace")


def _quoted(word):
    return shlex.quote(word)


def _hang_up(connection):
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
