"""The console at a terminal of its own, and what systemd does for it: a rescue program for each connection."""

import contextlib
import os
import pty
import re
import socket
import subprocess
import threading
import time

from units import Unit

PROMPT = "Enter shows this again:"


class Rescue:
    """Stands in for `portcullis-rescue.socket` (Accept=yes), with the user of `portcullis-rescue@.service`."""

    def __init__(self, lab):
        self.lab = lab
        self.path = os.path.join(lab.run_dir, "rescue.sock")

    def __enter__(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o666)
        self.listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def _accept(self):
        unit = Unit("rescue@")
        program = [os.path.join(self.lab.binaries, "portcullis-control"), "--rescue"]
        privileges = ["setpriv", f"--reuid={unit.user}", f"--regid={unit.user}", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
        env = {"PATH": os.environ["PATH"], "PORTCULLIS_RUN_DIR": self.lab.run_dir, "PORTCULLIS_STATE_DIR": os.path.join(self.lab.state_dir, "control")}
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, open(os.path.join(self.lab.log_dir, "rescue.log"), "ab") as log:
                subprocess.Popen([*privileges, *program], stdin=connection, stdout=log, stderr=log, env=env)

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        os.unlink(self.path)


class Person:
    """Somebody at a terminal in the box, as the console's own user. Whatever is shown has to be plain."""

    def __init__(self, lab):
        master, slave = pty.openpty()
        privileges = ("setpriv", "--reuid=portcullis-console", "--regid=portcullis-console", "--clear-groups", "--bounding-set=-all", "--no-new-privs")
        command = lab.box.command(*privileges, os.path.join(lab.binaries, "portcullis"), "--run-dir", lab.run_dir, "console")
        self.child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.terminal = master
        self.seen = b""

    def __enter__(self):
        return self

    def type(self, line):
        os.write(self.terminal, line.encode() + b"\r")

    def read_until(self, words, seconds=60):
        """What was shown until these words; line breaks count as spaces, since they may stand anywhere."""
        end = time.monotonic() + seconds
        os.set_blocking(self.terminal, False)
        while True:
            text = re.sub(r"\s+", " ", self.seen.decode())
            if (at := text.find(words)) >= 0:
                self.seen = text[at + len(words):].encode()
                return text[:at + len(words)]
            if time.monotonic() > end:
                raise TimeoutError(f"{words!r} was not shown, but this: {text[-1500:]}")
            with contextlib.suppress(BlockingIOError):
                piece = os.read(self.terminal, 4096)
                if wrong := [line for line in piece.decode("latin-1").split("\r\n") if len(line) > 80 or not re.fullmatch(r"[\r\n\x08 -~]*", line)]:
                    raise AssertionError(f"not plain text of 80 columns: {wrong}")
                self.seen += piece
            time.sleep(0.01)

    def choose(self, number, *steps, end="Enter goes back to the menu."):
        """From the menu and back to it; steps are pairs: what is shown, what is typed then."""
        self.read_until(PROMPT)
        self.type(str(number))
        said = "".join(self._step(words, answer) for words, answer in steps)
        said += self.read_until(end)
        self.type("")
        return said

    def _step(self, words, answer):
        said = self.read_until(words)
        self.type(answer)
        return said

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        os.close(self.terminal)
