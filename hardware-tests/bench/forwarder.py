#!/usr/bin/env python3
"""`scripts/bench forwarder`: what carrying costs, side by side in one run, in a lab with the real applier and a real SOCKS5 server.

Ours carries lan1 through microsocks. redsocks carries the guest through the same microsocks, HAProxy (TCP, forced splice, no SOCKS) the guest
straight to the server, and `direct` is the kernel forwarding the guest. The four take turns in every round and the order rotates; medians
over the rounds. Figures that hold on a busy machine are CPU time of the forwarding process for each connection and each GB. microsocks and the
Python ends set the pace of bulk and of connections, so throughput compares ways only as far as they go. Congestion control: cubic.
"""

import argparse
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from internet import BULK_PORT, ECHO_PORT  # noqa: E402
from lab import Lab  # noqa: E402
from mapped import connected, fetch, policy, set_the_stage  # noqa: E402
from stage import INET4, Stage  # noqa: E402

REDSOCKS, SPLICED, SPLICED_BULK = 12345, 12346, 12347
TICK = os.sysconf("SC_CLK_TCK")
WAYS = ("direct", "ours", "haproxy", "redsocks")
# The peers are programs on the box, which a policy has to let the guest reach.
PEERS = f"""---
apiVersion: portcullis/v1
kind: FirewallPolicy
metadata: {{ name: peers }}
spec: {{ rules: [{{ name: in, from: guest, to: box, services: tcp/{REDSOCKS}-{SPLICED_BULK}, action: accept }}] }}
"""


class Peers:
    """redsocks and HAProxy in the box's namespace, and which of them the guest is led to."""

    def __init__(self, lab):
        self.lab = lab
        folder = os.path.join(lab.state_dir, "bench")
        os.makedirs(folder)
        texts = {
            "redsocks": f"base {{ log_info = off; daemon = off; redirector = iptables; log = stderr; }}\n"
                        f"redsocks {{ local_ip = 0.0.0.0; local_port = {REDSOCKS}; ip = 100.64.1.10; port = 1080; type = socks5; splice = on; }}\n",
            "haproxy": "global\n  maxconn 5000\n  nbthread 2\ndefaults\n  mode tcp\n  option splice-request\n  option splice-response\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
                       f"listen echo\n  bind :{SPLICED}\n  server s {INET4}:{ECHO_PORT}\nlisten bulk\n  bind :{SPLICED_BULK}\n  server s {INET4}:{BULK_PORT}\n",
        }
        for name, text in texts.items():
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        commands = {"redsocks": ["redsocks", "-c", f"{folder}/redsocks"], "haproxy": ["haproxy", "-db", "-f", f"{folder}/haproxy"]}
        self.processes = {
            name: subprocess.Popen(lab.box.command(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for name, command in commands.items()
        }
        time.sleep(1)
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise SystemExit(f"{name} does not start: try `{' '.join(commands[name])}`")

    def lead(self, way):
        self.lab.box.run("nft", "delete", "table", "ip", "bench", check=False)
        echo, bulk = {"redsocks": (REDSOCKS, REDSOCKS), "haproxy": (SPLICED, SPLICED_BULK)}.get(way, (None, None))
        if echo:
            rules = f"iifname guest0 tcp dport {ECHO_PORT} redirect to :{echo}; iifname guest0 tcp dport {BULK_PORT} redirect to :{bulk};"
            self.lab.box.run("nft", f"table ip bench {{ chain in {{ type nat hook prerouting priority -101; {rules} }}\n}}")

    def pid(self, way):
        """Of the process that carries; the kernel itself has none."""
        return {"ours": self.lab.processes["forwarder"].pid}.get(way) or (self.processes[way].pid if way in self.processes else None)

    def close(self):
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--binaries", default="target/release")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--connections", type=int, default=400, help="in a round, one after the other")
    options.add_argument("--megabytes", type=int, default=200, help="in a round, by one flow")
    options = options.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (18_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with Lab(prefix=f"pb{os.getpid()}", binaries=options.binaries) as lab:
        lab.boot()
        stage = Stage(lab)
        set_the_stage(stage, policy() + PEERS)
        peers = Peers(lab)
        try:
            measure(lab, peers, options)
            hold(lab, peers)
        finally:
            peers.close()


def measure(lab, peers, options):
    firsts = {way: [] for way in WAYS}
    costs, bulk, cpu = ({way: [] for way in WAYS} for _ in range(3))
    for number in range(options.rounds):
        for way in WAYS[number % 4:] + WAYS[:number % 4]:
            peers.lead(way)
            client, pid = lab.lan1 if way == "ours" else lab.guest, peers.pid(way)
            first_byte(client)
            began = used(pid)
            firsts[way] += [first_byte(client) for _ in range(options.connections)]
            costs[way].append((used(pid) - began) * 1e6 / options.connections)
            began, count = used(pid), options.megabytes * 1_000_000
            bulk[way].append(count * 8 / fetch(client, count) / 1e6)
            cpu[way].append((used(pid) - began) * 1e9 / count)
    print(f"{options.rounds} rounds of {options.connections} connections and {options.megabytes} MB each")
    print(f"{'':10}{'added to first byte, µs: p50':>30}{'p95':>8}{'p99':>8}{'CPU µs/connection':>20}{'CPU s/GB':>10}{'Mbit/s':>8}")
    base = percentiles(firsts["direct"])
    for way in WAYS:
        added = [seen - bare for seen, bare in zip(percentiles(firsts[way]), base)] if way != "direct" else base
        own = "of its own" if way == "direct" else ""
        figures = f"{statistics.median(costs[way]):20.0f}{statistics.median(cpu[way]):10.3f}" if way != "direct" else f"{'in the kernel':>20}{'':10}"
        print(f"{way:10}{own:>20}{added[0]:10.0f}{added[1]:8.0f}{added[2]:8.0f}{figures}{statistics.median(bulk[way]):8.0f}")
    ratio(costs, "ours", "redsocks", "CPU for each connection, ours to redsocks")
    ratio(costs, "ours", "haproxy", "CPU for each connection, ours to HAProxy (no SOCKS)")
    ratio(cpu, "ours", "haproxy", "CPU for each GB, ours to HAProxy with forced splice")
    ratio(cpu, "ours", "redsocks", "CPU for each GB, ours to redsocks with splice")


def ratio(figures, ours, theirs, what):
    ratios = sorted(mine / other for mine, other in zip(figures[ours], figures[theirs]) if other)
    print(f"{what}: {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})" if ratios else f"{what}: too little to measure")


def hold(lab, peers):
    """Memory and descriptors of our forwarder while a client holds connections."""
    pid, held = peers.pid("ours"), []
    bare = descriptors(pid)
    for wanted in (0, 1_000, 4_000):
        try:
            while len(held) < wanted:
                held.append(connected(lab.lan1))
                # The server answers, so the connection is carried and not only accepted.
                held[-1].sendall(b"x")
                held[-1].recv(1)
        except OSError as error:
            print(f"ours with {len(held)} held connections: the next was not carried ({error}); microsocks takes a thread for each")
            break
        print(f"ours with {wanted} held connections: {resident(pid) / 1024:.1f} MiB, {descriptors(pid) - bare} descriptors more than with none")
    for connection in held:
        connection.close()


def first_byte(client):
    """Microseconds from connecting to the first byte of an answer; the box answers connect() itself."""
    began = time.perf_counter()
    with connected(client) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"x")
        connection.recv(1)
        return (time.perf_counter() - began) * 1e6


def percentiles(figures):
    cuts = statistics.quantiles(figures, n=100)
    return cuts[49], cuts[94], cuts[98]


def used(pid):
    """Seconds of CPU of a process and all its threads; 0 for the kernel's own way."""
    if pid is None:
        return 0.0
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


if __name__ == "__main__":
    main()
