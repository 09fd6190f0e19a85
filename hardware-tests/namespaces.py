"""Network namespaces of one lab: made, entered and taken away again."""

import contextlib
import ctypes
import os
import subprocess
import time

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def run(*command, check=True, text_input=None, errors=False):
    """Runs a program and returns what it printed; a failure says what was tried and what it answered."""
    result = subprocess.run(command, capture_output=True, text=True, input=text_input)
    if check and result.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` failed: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout + (result.stderr if errors else "")


def _enter(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")
    finally:
        os.close(descriptor)


class Namespace:
    """One network namespace by name; the empty name is the machine's own."""

    def __init__(self, name):
        self.name = name

    @contextlib.contextmanager
    def inside(self):
        """A socket that is opened in this block belongs to the namespace for good; only this thread moves."""
        if not self.name:
            yield
            return
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _enter(f"/run/netns/{self.name}")
        try:
            yield
        finally:
            _libc.setns(home, _CLONE_NEWNET)
            os.close(home)

    def command(self, *command):
        """The command line that runs `command` in here."""
        return ("ip", "netns", "exec", self.name, *command) if self.name else command

    def run(self, *command, check=True, text_input=None, errors=False):
        return run(*self.command(*command), check=check, text_input=text_input, errors=errors)

    def ip(self, *arguments, check=True):
        return run("ip", *(("-n", self.name) if self.name else ()), *arguments, check=check)

    def sysctl(self, key, value, check=True):
        with self.inside():
            try:
                # /proc/sys/net shows the namespace of the thread that opens it.
                with open("/proc/sys/" + key.replace(".", "/"), "w") as file:
                    file.write(str(value))
            except OSError:
                if check:
                    raise

    def read_sysctl(self, key):
        with self.inside(), open("/proc/sys/" + key.replace(".", "/")) as file:
            return file.read().strip()

    def create(self):
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        # An inherited BBR without fq costs a factor of five and would be measured instead of us.
        self.sysctl("net.ipv4.tcp_congestion_control", "cubic", check=False)
        return self

    def be_a_host(self):
        """Addresses usable at once, and none that we did not give."""
        for scope in ("all", "default"):
            self.sysctl(f"net.ipv6.conf.{scope}.accept_dad", 0)
            self.sysctl(f"net.ipv6.conf.{scope}.accept_ra", 0)
        return self

    def destroy(self):
        if self.name and os.path.exists(f"/run/netns/{self.name}"):
            run("ip", "netns", "del", self.name, check=False)


def destroy_leftovers(prefix):
    """What a lab that was killed left behind: its processes and its namespaces. The caller holds the prefix's lock."""
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0]
        if name.startswith(prefix + "-"):
            for pid in run("ip", "netns", "pids", name, check=False).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
            run("ip", "netns", "del", name, check=False)
    run("ip", "link", "del", f"{prefix}-mgmt", check=False)


def wait_until(condition, seconds, what):
    """Polls until `condition()` is true and returns how long it took."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.01)
    return time.monotonic() - begin
