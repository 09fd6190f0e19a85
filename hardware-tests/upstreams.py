"""Real proxies on the machines up1 and up2: killed, hung, refused and started again by the stories."""

import contextlib
import os
import signal
import socket
import subprocess

from namespaces import wait_until

USER, PASSWORD = "gate", "a-password-of-the-lab"

# Proxy: the machine it runs on, its port.
PLACES = {
    "socks": ("up1", 1080),
    "guarded": ("up1", 1081),
    "datagrams": ("up1", 1082),
    "http": ("up1", 3128),
    "spare": ("up2", 1080),
}

DANTE = """logoutput: {log}
internal: 0.0.0.0 port = {port}
external: eth0
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 0/0 to: 0/0 }}
socks pass {{ from: 0/0 to: 0/0 command: bind connect udpassociate }}
socks pass {{ from: 0/0 to: 0/0 command: bindreply udpreply }}
"""
TINYPROXY = """Port {port}
Listen 0.0.0.0
LogFile "{log}"
LogLevel Error
MaxClients 200
Timeout 60
"""


class Upstreams:
    """All of them by name: `lab.upstreams["socks"].kill()`."""

    def __init__(self, lab):
        directory = os.path.join(lab.state_dir, "upstreams")
        os.makedirs(directory, exist_ok=True)
        self.all = {name: Proxy(name, getattr(lab, machine), port, directory, lab.log_dir) for name, (machine, port) in PLACES.items()}

    def __getitem__(self, name):
        return self.all[name]

    def ready(self):
        """Every one of them runs and answers."""
        for proxy in self.all.values():
            proxy.resume()
            proxy.start()

    def close(self):
        for proxy in self.all.values():
            proxy.kill()


class Proxy:
    def __init__(self, name, machine, port, directory, log_dir):
        self.name, self.machine, self.port = name, machine, port
        self.log = os.path.join(log_dir, f"upstream-{name}.log")
        self.config = os.path.join(directory, name)
        self.child = None
        self.password = PASSWORD

    def argv(self):
        microsocks = ["microsocks", "-i", "0.0.0.0", "-p", str(self.port)]
        match self.name:
            case "datagrams":
                return ["danted", "-f", self._config(DANTE)]
            case "http":
                return ["tinyproxy", "-d", "-c", self._config(TINYPROXY)]
            case "guarded":
                return [*microsocks, "-u", USER, "-P", self.password]
            case _:
                return microsocks

    def _config(self, template):
        with open(self.config, "w") as file:
            file.write(template.format(port=self.port, log=self.log))
        return self.config

    def start(self):
        if self.alive:
            return
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(self.machine.command(*self.argv()), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_until(self.listens, 5, f"the upstream {self.name} listens")

    def listens(self):
        with self.machine.inside():
            probe = socket.socket()
        with probe:
            probe.settimeout(0.2)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def alive(self):
        return self.child is not None and self.child.poll() is None

    def kill(self):
        """Its port refuses and its connections end, from one moment to the next."""
        self._send(signal.SIGKILL)
        if self.child:
            self.child.wait()

    def pause(self):
        """Hung: the kernel still takes connections for it, and nothing answers."""
        self._send(signal.SIGSTOP)

    def resume(self):
        self._send(signal.SIGCONT)

    def _send(self, number):
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, number)

    @contextlib.contextmanager
    def expecting(self, password):
        """Wants another password than the policy's secret while the block runs."""
        self.kill()
        self.password = password
        self.start()
        try:
            yield
        finally:
            self.kill()
            self.password = PASSWORD
            self.start()
