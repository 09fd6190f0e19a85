"""The lab around the image in QEMU: the same machines and the same names, but the box is a whole machine with a disk and a power plug.

Its ports end in tap interfaces inside the lab's namespaces. What a story wants done on the box is done by an agent there, which the test's kernel
line lets in (machine.let_credentials_in); everything else about the image is as it is shipped.
"""

import os
import shutil
import signal
import time

from lab import PORTS, Lab, _configure
from machine import AGENT_CREDENTIALS, ROOT, Machine, Port, let_credentials_in
from namespaces import wait_until

SERVICES = ("applier", "control", "forwarder", "observer")


class QemuLab(Lab):
    """`with QemuLab(...) as lab:` has the machine ready, switched off, with the image on its disk."""

    def __enter__(self):
        super().__enter__()
        try:
            self.machine.write_disk()
            let_credentials_in(self.machine.disk)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if hasattr(self, "machine"):
            self.machine.pull_the_plug()
        super().__exit__()
        for port in self.cables:
            port.close()
        shutil.rmtree(os.path.join(ROOT, "build/qemu", self.prefix), ignore_errors=True)

    # --- building ---

    cables = ()

    def _box(self):
        """The cables, and a machine that is off."""
        self.cables = []
        for port, (mac, far_name, addresses) in PORTS.items():
            far, far_port = getattr(self, far_name), self.far_port(port)
            self.cables.append(Port(mac, far, far_port))
            if far_name == "lan":
                far.ip("link", "set", far_port, "master", "switch", "up")
            else:
                _configure(far, far_port, addresses, ("192.168.3.1", "fd00:3::1") if far_name == "guest" else ())
        for network, via in (("192.168.0.0/16", "203.0.113.2"), ("fd00::/16", "2001:db8:113::2")):
            self.inet.ip("route", "replace", network, "via", via)
        self.machine = Machine(os.path.join("build/qemu", self.prefix), self.cables, credentials=self.credentials())
        self.box = RemoteBox(self)

    def credentials(self, **more):
        """The agent, the names by which policies call the ports, and what a story wants beside."""
        links = {f"network.link.10-{port}": f"[Match]\nMACAddress={mac}\n[Link]\nName={port}\n" for port, (mac, _, _) in PORTS.items()}
        return {**AGENT_CREDENTIALS, **links, **more}

    def _define_processes(self):
        self.processes = {name: RemoteProcess(name, self) for name in SERVICES}

    # --- life ---

    def boot(self):
        """Switched on, until the applier says what runs."""
        self.machine.power_on()
        self.machine.agent.wait(self.patience)
        wait_until(self.answers, self.patience, "the applier answers")
        self.boot_seconds = self.machine.seconds()

    # An emulated processor on a machine that does other things too.
    patience = 400

    def answers(self):
        if not self.machine.running:
            raise RuntimeError("the machine is off; its console's last words:\n" + self.machine.console.text[-1500:])
        return bool(self.cli("status", "--json", check=False))

    def power_cut(self):
        self.machine.pull_the_plug()

    def plug_in(self):
        """The machine is there as it was."""

    def start(self, *names):
        for name in names:
            self.processes[name].start()

    def stop(self, *names, number=signal.SIGTERM):
        for name in names:
            self.processes[name].stop(number)

    def cli(self, *arguments, check=True, text_input=None, errors=False):
        return self.box.run("portcullis", *arguments, check=check, text_input=text_input, errors=errors)

    def seconds(self, promised):
        """What is promised is promised of a processor; this one is emulated."""
        return 20 * promised

    def bring_files(self):
        """What a person reads off the box's screen or a browser remembers: the code of the first set-up, the pages' certificate."""
        for name in ("front.pem", "setup-code"):
            here = os.path.join(self.run_dir, name)
            text = self.box.run("cat", f"/run/portcullis/{name}", check=False)
            if text:
                with open(here, "w") as file:
                    file.write(text)
            elif os.path.exists(here):
                os.unlink(here)

    def log_marks(self):
        return time.monotonic()

    def logs_since(self, mark):
        if not self.machine.running or not self.machine.agent:
            return ""
        since = int(time.monotonic() - mark) + 1
        try:
            return self.box.run(f"journalctl -b --no-pager -o short-monotonic --since -{since}s | tail -n 25", check=False)
        except (OSError, TimeoutError) as error:
            return str(error)


class RemoteBox:
    """The box's own view of itself, asked through the agent."""

    name = "the box"

    def __init__(self, lab):
        self.lab = lab

    def run(self, *command, check=True, text_input=None, errors=False):
        return self.lab.machine.agent.run(command[0] if len(command) == 1 else command, check=check, text_input=text_input, errors=errors)

    def ip(self, *arguments, check=True):
        return self.run("ip", *arguments, check=check)

    def sysctl(self, key, value, check=True):
        self.run("sysctl", "-q", "-w", f"{key}={value}", check=check)

    def read_sysctl(self, key):
        return self.run("sysctl", "-n", key).strip()


class RemoteProcess:
    """One service under the box's own service manager, which starts it again by itself."""

    wanted = False

    def __init__(self, name, lab):
        self.name, self.lab = name, lab
        self.unit = f"portcullis-{name}.service"

    @property
    def alive(self):
        return self._systemctl("is-active", self.unit).strip() == "active"

    def send(self, number):
        self._systemctl("kill", "--kill-whom=main", f"--signal={int(number)}", self.unit)

    def kill_and_wait(self):
        """`kill -9`, and until the service manager has it ready again."""
        self.lab.box.run(f"before=$(systemctl show -P MainPID {self.unit}); systemctl kill --kill-whom=main --signal=9 {self.unit}; "
                         f"until systemctl -q is-active {self.unit} && [ $(systemctl show -P MainPID {self.unit}) != $before ]; do sleep 0.1; done")

    def start(self):
        self._systemctl("start", self.unit)

    def stop(self, number=signal.SIGTERM):
        """For good: nobody starts it again, and those who need it do not go with it."""
        self.lab.box.run(f"mkdir -p /run/systemd/system/{self.unit}.d; printf '[Service]\\nRestart=no\\n' >/run/systemd/system/{self.unit}.d/still.conf; "
                         f"systemctl daemon-reload; systemctl kill --kill-whom=all --signal={int(number)} {self.unit}; "
                         f"while systemctl -q is-active {self.unit}; do sleep 0.1; done; rm /run/systemd/system/{self.unit}.d/still.conf; systemctl daemon-reload")

    def _systemctl(self, *arguments):
        return self.lab.box.run("systemctl", *arguments, check=False)
