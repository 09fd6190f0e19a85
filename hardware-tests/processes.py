"""The box's processes: started with exactly the privileges they have on the box, watched, and started again."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time


class Process:
    """One supervised process. It is ready when it says so over NOTIFY_SOCKET, as under systemd."""

    def __init__(self, name, argv, unit, namespace, log, run_dir, env, notify=True, condition=lambda: True):
        self.name = name
        self.unit = unit
        self.log_path = log
        self.notify = notify
        self.condition = condition
        capabilities = ",".join(["-all", *(f"+{capability}" for capability in unit.capabilities)])
        privileges = [
            "setpriv", f"--reuid={unit.user}", f"--regid={unit.user}",
            f"--groups={','.join(unit.groups)}" if unit.groups else "--clear-groups",
            f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}", f"--bounding-set={capabilities}",
            "--no-new-privs", "--pdeathsig=KILL",
        ]
        limits = ["prlimit", f"--nofile={unit.descriptors}"] if unit.descriptors else []
        self.argv = [*namespace.command(*limits, *privileges), *argv]
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **unit.environment, **env}
        self.notify_path = os.path.join(run_dir, f"notify-{name}")
        self.listener = None
        self.child = None
        self.wanted = False
        self.restarts = 0
        self.ready = threading.Event()

    def start(self):
        """Must be called from a thread that outlives the process: the kernel kills it together with its parent thread."""
        self.wanted = True
        if not self.condition():
            return
        self.ready.clear()
        env = dict(self.env)
        if self.notify:
            env["NOTIFY_SOCKET"] = self.notify_path
            self._listen()
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True, umask=self.unit.umask)
        if not self.notify:
            self.ready.set()

    def _listen(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.notify_path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(self.notify_path)
        os.chmod(self.notify_path, 0o666)
        if self.listener:
            # close() alone would leave the thread waiting in recv().
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener = listener

        def attend(ready=self.ready):
            # Also after READY=1: a supervisor that hangs up is an error in the process's log.
            with listener:
                while message := listener.recv(4096):
                    if b"READY=1" in message.split(b"\n"):
                        ready.set()

        threading.Thread(target=attend, daemon=True).start()

    def wait_ready(self, seconds=15):
        if self.child is None and not self.condition():
            return
        end = time.monotonic() + seconds
        while not self.ready.wait(0.02):
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name} did not become ready within {seconds} s; the end of its log:\n{self.log_tail()}")

    @property
    def pid(self):
        return self.child.pid if self.child else None

    @property
    def alive(self):
        return self.child is not None and self.child.poll() is None

    def send(self, number):
        if self.alive:
            self.child.send_signal(number)

    def stop(self, number=signal.SIGTERM, seconds=5):
        """For good: nobody starts it again."""
        self.wanted = False
        self.send(number)
        if self.child:
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def kill_and_wait(self):
        """`kill -9`, and until its supervisor has it ready again."""
        self.ready.clear()
        self.send(signal.SIGKILL)
        self.wait_ready()

    def resident(self):
        """KiB of memory that is this process's alone or shared with nobody else here: Rss, as an administrator sees it."""
        with open(f"/proc/{self.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    def log(self):
        with contextlib.suppress(FileNotFoundError), open(self.log_path, errors="replace") as log:
            return log.read()
        return ""

    def log_tail(self, lines=15):
        return "\n".join("    " + line for line in self.log().splitlines()[-lines:])


class Supervisor(threading.Thread):
    """Starts again what ended though it is wanted, after the pause that the unit files say."""

    def __init__(self, processes):
        super().__init__(daemon=True)
        self.processes = processes
        self.orders = []
        self.todo = threading.Condition()
        self.over = False

    def start_process(self, process):
        """Has the process started from the thread that stays."""
        done = threading.Event()
        failure = []
        with self.todo:
            self.orders.append((process, done, failure))
            self.todo.notify()
        done.wait()
        if failure:
            raise failure[0]

    def run(self):
        died = {}
        while not self.over:
            with self.todo:
                self.todo.wait(0.02)
                orders, self.orders = self.orders, []
            for process, done, failure in orders:
                try:
                    process.start()
                except OSError as error:
                    failure.append(error)
                done.set()
            now = time.monotonic()
            for process in self.processes.values():
                if process.wanted and not process.alive and process.condition():
                    if now - died.setdefault(process.name, now) >= process.unit.restart_pause:
                        del died[process.name]
                        process.restarts += process.child is not None
                        process.start()
