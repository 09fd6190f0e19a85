#!/usr/bin/env python3
"""`scripts/bench forwarder`: what carrying costs, side by side in one run, in a lab with the real applier.

Five ways take turns in every round, and the order rotates: the kernel's forwarding, ours, HAProxy in TCP mode with forced splice (which
speaks no SOCKS), redsocks with splice, and v2ray (`dokodemo-door` to SOCKS5), which Debian has; hev-socks5-tproxy and shadowsocks-rust
are in no registry of programs for this release.

The SOCKS5 server is the bench's own and is its own destination: real ones take a thread for each connection (microsocks) or a process
for some (dante), and would be measured instead of the forwarders. One round goes through microsocks all the same.

Figures that hold on a busy machine are CPU time of the carrying process for each connection and each GB, beside the others' of the same
round. Client, server and forwarder share the machine's processors: throughput and connections a second say what all of them together
can do. What a process spends includes what the kernel does in its name. Congestion control: cubic.
"""

import argparse
import os
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lab import Lab  # noqa: E402
from mapped import policy, set_secret, wait_permitted  # noqa: E402
from stage import Stage  # noqa: E402
from upstreams import PASSWORD  # noqa: E402
from ways import POLICY, WAYS, Held, Ways, descriptors, memory, used, versions  # noqa: E402

LOAD = "target/load/release/load"
HELD = (0, 1_000, 4_000)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--binaries", default="target/release")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--connections", type=int, default=400, help="in a round, one after the other")
    options.add_argument("--megabytes", type=int, default=400, help="in a round, by one flow and then by eight")
    options.add_argument("--seconds", type=int, default=30, help="of as many connections as can be had")
    options.add_argument("--at-once", type=int, default=64, help="then")
    options.add_argument("--only", default="rounds,real,rate,held", help="parts, with commas")
    options = options.parse_args()
    parts = {"rounds": rounds, "real": real, "rate": rate, "held": held}
    print(versions())
    with Lab(prefix=f"pb{os.getpid()}", binaries=options.binaries) as lab:
        lab.boot()
        stage = Stage(lab)
        # Before any mapping: one that cannot be carried is refused.
        lab.upstreams.ready()
        ways = Ways(lab, os.path.join(lab.root, LOAD))
        try:
            set_secret(stage, "lab", PASSWORD)
            lead_ours_through(stage, "fast")
            for part in options.only.split(","):
                parts[part](stage, ways, options)
        finally:
            ways.close()


def lead_ours_through(stage, upstream):
    """lan1 is mapped to this upstream; lan2 is not mapped at all, and so the peers' client."""
    text = policy(**{"  upstream: socks\n": f"  upstream: {upstream}\n"})
    text = text[: text.index("---\napiVersion: portcullis/v1\nkind: ProxyMapping\nmetadata: { name: two }")] + POLICY
    stage.become(text)
    wait_permitted(stage, "one")


class Figures:
    """Of one way, by round."""

    def __init__(self):
        self.first, self.connection, self.gigabyte = [], [], []
        self.speed = {1: [], 8: []}

    def take(self, ways, way, options):
        pid = ways.pid(way)
        ways.ask(way, "first", 5)
        began = used(pid)
        self.first += [float(line) for line in ways.ask(way, "first", options.connections).split()]
        self.connection.append((used(pid) - began) * 1e6 / options.connections)
        began, count = used(pid), options.megabytes * 1_000_000
        for flows, speed in self.speed.items():
            speed.append(count * 8 / float(ways.ask(way, "bulk", count, flows)) / 1e9)
        self.gigabyte.append((used(pid) - began) * 1e9 / (len(self.speed) * count))


def rounds(stage, ways, options):
    figures = {way: Figures() for way in WAYS}
    for number in range(options.rounds):
        place = number % len(WAYS)
        for way in WAYS[place:] + WAYS[:place]:
            ways.lead(way)
            figures[way].take(ways, way, options)
    print(f"\n{options.rounds} rounds of {options.connections} connections, and twice {options.megabytes} MB, by each way")
    print(f"{'':10}{'first byte, µs: p50':>22}{'p95':>8}{'p99':>8}{'added: p50':>12}{'p95':>8}{'p99':>8}{'CPU µs/conn':>13}{'CPU s/GB':>10}{'Gbit/s, 1 flow':>16}{'8 flows':>9}")
    base = percentiles(figures["direct"].first)
    for way, seen in figures.items():
        there = percentiles(seen.first)
        added = [mine - bare for mine, bare in zip(there, base)]
        own = f"{statistics.median(seen.connection):13.0f}{statistics.median(seen.gigabyte):10.3f}" if ways.pid(way) else f"{'-':>13}{'-':>10}"
        extra = "".join(f"{figure:{width}.0f}" for figure, width in zip(added, (12, 8, 8))) if way != "direct" else f"{'-':>12}{'-':>8}{'-':>8}"
        print(f"{way:10}{there[0]:22.0f}{there[1]:8.0f}{there[2]:8.0f}{extra}{own}{statistics.median(seen.speed[1]):16.2f}{statistics.median(seen.speed[8]):9.2f}")
    for other in WAYS[2:]:
        ratio("CPU for each connection", figures["ours"].connection, figures[other].connection, other)
        ratio("CPU for each GB", figures["ours"].gigabyte, figures[other].gigabyte, other)
        ratio("bulk, one flow", figures["ours"].speed[1], figures[other].speed[1], other)
        ratio("bulk, eight flows", figures["ours"].speed[8], figures[other].speed[8], other)


def ratio(what, ours, theirs, other):
    ratios = sorted(mine / their for mine, their in zip(ours, theirs) if their)
    if ratios:
        print(f"{what}, ours to {other}: {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")


def real(stage, ways, options):
    """One round through microsocks, a server that people use."""
    lead_ours_through(stage, "socks")
    print("\none round through microsocks")
    figures = {}
    for way in ("ours", "redsocks-real"):
        ways.lead(way)
        seen = figures[way] = Figures()
        seen.take(ways, way, options)
        there = percentiles(seen.first)
        print(f"{way.removesuffix('-real'):10}first byte, µs: p50 {there[0]:.0f}, p95 {there[1]:.0f}; CPU µs/conn {seen.connection[0]:.0f}, CPU s/GB {seen.gigabyte[0]:.3f}, Gbit/s {seen.speed[1][0]:.2f} by one flow, {seen.speed[8][0]:.2f} by eight")
    ratio("CPU for each connection", figures["ours"].connection, figures["redsocks-real"].connection, "redsocks")
    ratio("CPU for each GB", figures["ours"].gigabyte, figures["redsocks-real"].gigabyte, "redsocks")
    lead_ours_through(stage, "fast")


def rate(stage, ways, options):
    print(f"\n{options.seconds} s of as many connections as can be had, {options.at_once} at a time; processors in use are of {os.cpu_count()} for all ends together")
    print(f"{'':10}{'a second':>10}{'worst second':>14}{'failed':>8}{'CPU µs/conn':>13}{'its processors':>16}{'the server':>12}")
    costs = {}
    for way in WAYS:
        ways.lead(way)
        pid, server = ways.pid(way), ways.server.pid
        began, served = used(pid), used(server)
        answer = ways.ask(way, "rate", options.seconds, options.at_once).split()
        made, failed, each = int(answer[0]), int(answer[1]), [int(word) for word in answer[2:]]
        spent, served = used(pid) - began, used(server) - served
        costs[way] = spent * 1e6 / max(made, 1)
        own = f"{costs[way]:13.1f}{spent / options.seconds:16.2f}" if pid else f"{'-':>13}{'-':>16}"
        print(f"{way:10}{made / options.seconds:10.0f}{min(each):14}{failed:8}{own}{served / options.seconds:12.2f}")
    for other in WAYS[2:]:
        print(f"CPU for each connection at full rate, ours to {other}: {costs['ours'] / costs[other]:.2f}")


def held(stage, ways, options):
    print("\nheld connections: RSS and PSS in MiB, and descriptors more than with none")
    for way in WAYS[1:]:
        ways.lead(way)
        pid, bare, line = ways.pid(way), descriptors(ways.pid(way)), []
        holding = Held(ways.client(way), ways.load)
        try:
            for wanted in HELD:
                holding.to(wanted)
                rss, pss = memory(pid)
                line.append(f"{wanted}: {rss:.1f}, {pss:.1f}, {descriptors(pid) - bare}")
        except ConnectionError as error:
            line.append(str(error))
        holding.close()
        print(f"{way:10}{'   '.join(line)}")


def percentiles(figures):
    cuts = statistics.quantiles(figures, n=100)
    return cuts[49], cuts[94], cuts[98]


if __name__ == "__main__":
    main()
