#!/usr/bin/env python3
"""EVE alerts into the observer at a fixed rate, with detectors on, while somebody asks; then a full store and its pages.

The peer is a plain reader: Python's json and sqlite3, one table, three indexes, commits of 5,000 rows; no packaged EVE consumer with a store of its own can be
installed from a registry. It is told the same lines as fast as it takes them, and so is ours, after one another in each round, and their processor seconds per
million events are compared. The sender's own time is not counted for either.
"""

import json
import os
import random
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
RATE = int(sys.argv[2]) if len(sys.argv) > 2 else 50_000
FULL = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000_000
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
PIECE = 1_000  # events in one write


def main():
    pieces = [piece(n) for n in range(200)]
    print(f"one event is {len(pieces[0]) // PIECE} bytes as it comes")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder, Observer(folder) as observer:
        steady(observer, pieces)
        full(observer, pieces)
    for round in range(3):
        side_by_side(pieces, round)


def steady(observer, pieces):
    """At the wanted rate for the wanted time, with questions in between."""
    asked, stop = [], threading.Event()
    asker = threading.Thread(target=ask_on, args=(observer, asked, stop))
    before, memory = observer.cpu(), []
    asker.start()
    begun, sent = time.monotonic(), 0
    while time.monotonic() - begun < SECONDS:
        observer.send(pieces[sent // PIECE % len(pieces)])
        sent += PIECE
        ahead = sent / RATE - (time.monotonic() - begun)
        if ahead > 0:
            time.sleep(ahead)
        if sent % (RATE * 5) < PIECE:
            memory.append(observer.resident())
    took = time.monotonic() - begun
    stop.set()
    asker.join()
    status = observer.wait(sent)
    print(f"sent {sent} in {took:.1f} s: {sent / took:.0f} a second, stored {status['stored']}, dropped {status['dropped']}, garbled {status['garbled']}")
    print(f"processor: {(observer.cpu() - before) / took * 100:.0f} % of one; memory {min(memory) >> 20} to {max(memory) >> 20} MiB, {status['bytes'] >> 20} MiB on disk, {status['alertsOpen']} alerts open")
    print(f"questions meanwhile ({len(asked)}): p50 {percentile(asked, 50):.1f} ms, p95 {percentile(asked, 95):.1f} ms, p99 {percentile(asked, 99):.1f} ms")


def full(observer, pieces):
    """Pages of a store that holds what it was made for."""
    sent = observer.status()["stored"]
    while sent < FULL:
        observer.send(pieces[sent // PIECE % len(pieces)])
        sent += PIECE
        if sent % 100_000 == 0:
            while observer.status()["stored"] < sent - 100_000:
                time.sleep(0.05)
    observer.wait(sent)
    time.sleep(5)  # The last full partition is being indexed.
    for name, question in questions().items():
        times = [observer.timed(question()) for _ in range(40)]
        print(f"with {sent / 1e6:.0f} million events, {name}: p50 {percentile(times, 50):.1f} ms, p99 {percentile(times, 99):.1f} ms")


def questions():
    def events(before=None, **filter):
        return lambda: {"request": "events", "filter": {key: value() for key, value in filter.items()}, "before": before and before(), "limit": 50}

    return {
        "newest page": events(),
        "an old page": events(before=lambda: random.randrange(1, 10) << 32 | random.randrange(1, 500_000)),
        "one source": events(address=lambda: f"203.0.113.{random.randrange(256)}"),
        "one signature": events(signature=lambda: 2_000_000 + random.randrange(50)),
        "an address that is not there": events(address=lambda: "192.0.2.1"),
        "a port and a source": events(address=lambda: f"203.0.113.{random.randrange(256)}", port=lambda: 443),
        "trend of a day": lambda: {"request": "trend", "from": int((time.time() - 86_400) * 1e6), "until": int(time.time() * 1e6), "buckets": 96},
        "alerts": lambda: {"request": "alerts", "filter": {}, "before": None, "limit": 50},
    }


def side_by_side(pieces, round):
    count = 1_000_000
    names = ["observer", "peer"] if round % 2 == 0 else ["peer", "observer"]
    figures = {}
    for name in names:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
            with (Observer if name == "observer" else Peer)(folder) as reader:
                before, begun = reader.cpu(), time.monotonic()
                for n in range(count // PIECE):
                    reader.send(pieces[n % len(pieces)])
                    if n % 50 == 0:  # As fast as it takes them, and not faster: nothing may be dropped here.
                        reader.keep_up((n - 50) * PIECE)
                reader.keep_up(count)
                figures[name] = (time.monotonic() - begun, reader.cpu() - before)
    ours, peer = figures["observer"], figures["peer"]
    print(f"a million events, round {round + 1}: ours {ours[0]:.1f} s and {ours[1]:.1f} processor seconds, Python and SQLite {peer[0]:.1f} s and {peer[1]:.1f}: {ours[1] / peer[1]:.2f} times the processor")


class Observer:
    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        environment = {**os.environ, "PORTCULLIS_RUN_DIR": self.folder, "PORTCULLIS_STATE_DIR": f"{self.folder}/state", "RUST_LOG": "error"}
        self.process = subprocess.Popen([f"{ROOT}/target/release/portcullis-observer", "--keep", str(8 << 30)], env=environment)
        self.sensor = connect(f"{self.folder}/eve.sock")
        self.asking = connect(f"{self.folder}/observer.sock")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def send(self, piece):
        self.sensor.sendall(piece)

    def keep_up(self, count):
        while self.status()["stored"] < count:
            time.sleep(0.01)

    def wait(self, count):
        until = time.monotonic() + 60
        while (status := self.status())["stored"] + status["dropped"] < count and time.monotonic() < until:
            time.sleep(0.05)
        return status

    def status(self):
        return self.ask({"request": "status"})

    def ask(self, question, over=None):
        over = over or self.asking
        text = json.dumps(question).encode()
        over.sendall(struct.pack(">I", len(text)) + text)
        (length,) = struct.unpack(">I", exactly(over, 4))
        answer = json.loads(exactly(over, length))
        assert answer["response"] != "refused", answer
        return answer

    def timed(self, question, over=None):
        begun = time.monotonic()
        answer = self.ask(question, over)
        while answer.get("resume"):  # A search that was cut goes on, as a page would.
            answer = self.ask({**question, "before": answer["resume"]}, over)
        return (time.monotonic() - begun) * 1e3

    def cpu(self):
        return cpu(self.process.pid)

    def resident(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))


class Peer:
    """The plain way, in a process of its own."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        ours, theirs = socket.socketpair()
        self.sensor = ours
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            plain_reader(theirs, f"{self.folder}/events.db")
            os._exit(0)
        theirs.close()
        return self

    def __exit__(self, *_):
        self.sensor.close()
        os.waitpid(self.pid, 0)

    def send(self, piece):
        self.sensor.sendall(piece)

    def keep_up(self, count):
        if not hasattr(self, "reading"):
            self.reading = None
        while stored(f"{self.folder}/events.db") < count:
            time.sleep(0.02)

    def cpu(self):
        return cpu(self.pid)


def plain_reader(stream, path):
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript("PRAGMA journal_mode = WAL; CREATE TABLE events (at TEXT, kind TEXT, source TEXT, destination TEXT, signature INTEGER, line TEXT);"
                     "CREATE INDEX a ON events (source); CREATE INDEX b ON events (destination); CREATE INDEX c ON events (signature);")
    rows = []
    for line in stream.makefile("r"):
        event = json.loads(line)
        rows.append((event["timestamp"], event["event_type"], event["src_ip"], event["dest_ip"], event["alert"]["signature_id"], line))
        if len(rows) == 5_000:
            db.execute("BEGIN")
            db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
            db.execute("COMMIT")
            rows = []


def stored(path):
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        count = db.execute("SELECT max(rowid) FROM events").fetchone()[0] or 0
        db.close()
        return count
    except sqlite3.Error:
        return 0


def ask_on(observer, asked, stop):
    over = connect(f"{observer.folder}/observer.sock")
    kinds = list(questions().values())
    while not stop.is_set():
        asked.append(observer.timed(random.choice(kinds)(), over))
        time.sleep(0.05)


def piece(seed):
    chance = random.Random(seed)
    return b"".join(event(chance) for _ in range(PIECE))


def event(chance):
    signature = chance.randrange(50)
    now = time.gmtime(time.time() - chance.randrange(600))
    return (json.dumps({
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", now) + f".{chance.randrange(1_000_000):06}+0000",
        "flow_id": chance.getrandbits(50), "in_iface": "eth1", "event_type": "alert",
        "src_ip": f"203.0.113.{chance.randrange(256)}", "src_port": chance.randrange(1024, 65536), "dest_ip": f"192.168.{chance.randrange(4)}.{chance.randrange(256)}", "dest_port": chance.choice([22, 23, 80, 443, 445]),
        "proto": "TCP", "pkt_src": "wire/pcap",
        "alert": {"action": "allowed", "gid": 1, "signature_id": 2_000_000 + signature, "rev": 3, "signature": f"BENCH signature number {signature} with words of the usual length", "category": "Attempted Information Leak", "severity": 2 + signature % 2,
                  "metadata": {"created_at": ["2010_07_30"], "updated_at": ["2024_03_08"], "confidence": ["Medium"]}},
        "app_proto": "http", "direction": "to_server",
        "flow": {"pkts_toserver": 4, "pkts_toclient": 3, "bytes_toserver": 614, "bytes_toclient": 1024, "start": "2026-11-28T06:33:00.000000+0000", "src_ip": "203.0.113.7", "dest_ip": "192.168.2.10", "src_port": 50123, "dest_port": 80},
    }, separators=(",", ":")) + "\n").encode()


def connect(path):
    until = time.monotonic() + 20
    while True:
        over = socket.socket(socket.AF_UNIX)
        try:
            over.connect(path)
            return over
        except OSError:
            over.close()
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def exactly(over, length):
    parts = b""
    while len(parts) < length:
        part = over.recv(length - len(parts))
        assert part, "the observer closed the connection"
        parts += part
    return parts


def cpu(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * part // 100)] if values else float("nan")


if __name__ == "__main__":
    main()
