"""What the first packet of a connection costs: our compiled form against the same rules as a linear chain.

    client ── box (the ruleset under test, forwarding) ── server (echoes UDP)

A policy of N rules, each one host to one host on one port; the packets measured match the last rule, so that a linear
chain has to walk all of it. Every datagram leaves from a new source port and is therefore a new connection. Three forms take
turns in every round: no ruleset at all (what the machine itself costs), ours, and the linear chain. Reported is the median
round trip above that of no ruleset, and the ratio linear : ours with its range over the rounds.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from namespaces import Namespace, run  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RULES = (10, 1_000, 10_000)
ROUNDS, PACKETS = 7, 600
PREFIX = f"pcb{os.getpid()}"

SYSTEM = """apiVersion: portcullis/v1
kind: System
metadata: { name: gate }
spec: { hostname: gate, admin: { zones: [lan] } }
---
apiVersion: portcullis/v1
kind: Zone
metadata: { name: lan }
spec: {}
---
apiVersion: portcullis/v1
kind: Zone
metadata: { name: wan }
spec: {}
---
apiVersion: portcullis/v1
kind: Interface
metadata: { name: lan0 }
spec: { zone: lan, addresses: [10.1.0.1/24] }
---
apiVersion: portcullis/v1
kind: Interface
metadata: { name: wan0 }
spec: { zone: wan, addresses: [10.2.0.1/24] }
---
apiVersion: portcullis/v1
kind: FirewallPolicy
metadata: { name: many }
spec:
  rules:
"""


def targets(count):
    """Destination and port of each rule; the last is the server that answers."""
    return [(f"10.2.{64 + i // 250}.{i % 250 + 1}", 1024 + i) for i in range(count - 1)] + [("10.2.0.2", 7)]


def compiled(count):
    rules = "".join(
        f"    - {{ name: r{i}, from: lan, to: wan, sources: 10.1.0.2, destinations: {host}, services: udp/{port}, action: accept }}\n"
        for i, (host, port) in enumerate(targets(count))
    )
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(SYSTEM + rules)
        file.flush()
        return run(os.path.join(ROOT, "target/release/portcullis"), "plan", "--ruleset", file.name)


def linear(count):
    rules = "".join(
        f'iifname "lan0" oifname "wan0" ip saddr 10.1.0.2 ip daddr {host} udp dport {port} counter accept\n'
        for host, port in targets(count)
    )
    return (
        "add table inet portcullis\ndelete table inet portcullis\ntable inet portcullis {\nchain forward {\n"
        f" type filter hook forward priority filter; policy drop; ct state established,related accept\n{rules}}}\n}}\n"
    )


NOTHING = "flush ruleset\n"


class Wire:
    """The three machines. `measure` sends first packets one after another and returns their round trips in microseconds."""

    def __enter__(self):
        self.client, self.box, self.server = (Namespace(f"{PREFIX}-{name}").create() for name in ("c", "b", "s"))
        for port, other, inside, outside, address in (
            ("lan0", self.client, "10.1.0.1/24", "10.1.0.2/24", "10.1.0.1"),
            ("wan0", self.server, "10.2.0.1/24", "10.2.0.2/24", "10.2.0.1"),
        ):
            self.box.ip("link", "add", port, "type", "veth", "peer", "name", "up0", "netns", other.name)
            for namespace, device, own in ((self.box, port, inside), (other, "up0", outside)):
                namespace.ip("addr", "add", own, "dev", device)
                namespace.ip("link", "set", device, "up")
            other.ip("route", "add", "default", "via", address)
        self.box.sysctl("net.ipv4.ip_forward", 1)
        # Connections are tracked in every form, also with no rules, or their cost would be counted as the ruleset's.
        self.box.sysctl("net.netfilter.nf_conntrack_max", 1_000_000, check=False)
        with self.server.inside():
            self.echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.echo.bind(("10.2.0.2", 7))
        self.thread = threading.Thread(target=self._answer, daemon=True)
        self.thread.start()
        self.port = 1024
        return self

    def __exit__(self, *_):
        self.echo.close()
        for namespace in (self.client, self.box, self.server):
            namespace.destroy()

    def _answer(self):
        try:
            while True:
                data, sender = self.echo.recvfrom(64)
                self.echo.sendto(data, sender)
        except OSError:
            return

    def load(self, script):
        self.box.run("nft", "-f", "-", text_input="flush ruleset\n" + script)

    def track(self):
        """What every form needs to be comparable with a stateful one."""
        self.box.run(
            "nft", "-f", "-",
            text_input="table inet track {\nchain c {\ntype filter hook prerouting priority mangle; ct state new accept\n}\n}\n",
        )

    def measure(self):
        times = []
        for _ in range(PACKETS):
            self.port = 1024 + (self.port - 1023) % 60_000
            with self.client.inside():
                connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with connection:
                connection.bind(("10.1.0.2", self.port))
                connection.connect(("10.2.0.2", 7))
                connection.settimeout(2)
                begin = time.perf_counter_ns()
                connection.send(b"x")
                connection.recv(64)
                times.append((time.perf_counter_ns() - begin) / 1000)
        self.box.run("conntrack", "-F", check=False)
        return statistics.median(times)


def main():
    print(f"first packet of a connection: kernel {os.uname().release}, {ROUNDS} rounds of {PACKETS} UDP round trips for each form, taking turns")
    print(f"{'rules':>7} {'none µs':>9} {'ours +µs':>9} {'linear +µs':>11}   linear : ours, whole round trip (range)")
    with Wire() as wire:
        for count in RULES:
            forms = {"none": NOTHING, "ours": compiled(count), "linear": linear(count)}
            seen = {name: [] for name in forms}
            for turn in range(ROUNDS):
                names = list(forms)
                for name in names[turn % 3:] + names[:turn % 3]:
                    wire.load(forms[name])
                    if name == "none":
                        wire.track()
                    seen[name].append(wire.measure())
            none, ours, line = (statistics.median(seen[name]) for name in ("none", "ours", "linear"))
            ratios = [b / a for a, b in zip(seen["ours"], seen["linear"])]
            print(
                f"{count:>7} {none:>9.1f} {ours - none:>9.1f} {line - none:>11.1f}   "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, subprocess.SubprocessError) as error:
        sys.exit(str(error))
