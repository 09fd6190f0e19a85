#!/usr/bin/env python3
"""`scripts/bench mappings`: 256 clients, each with its own mapping, over 16 upstreams; what that costs when nothing happens, and what as
many connections as the forwarder's 20,000 descriptors allow cost when all are held.

The upstreams are one server of the bench's own under 16 names: each is probed for itself, every 30 seconds.
"""

import argparse
import ipaddress
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lab import Lab  # noqa: E402
from mapped import set_secret, wait_permitted, without_mappings  # noqa: E402
from stage import Stage  # noqa: E402
from upstreams import PASSWORD  # noqa: E402
from ways import SERVER, SOCKS_PORT, Held, Ways, descriptors, memory, used  # noqa: E402

LOAD = "target/load/release/load"
FIRST, MAPPINGS, UPSTREAMS = "10.9.0.2", 256, 16
HELD = (0, 1_000, 4_000, 9_000)


def policy():
    # A zone of mapped clients alone: what else is there, IPv6 too, goes nowhere.
    text = without_mappings().replace("name: lan }, spec: {}", "name: lan }, spec: { proxied: true }").replace("192.168.2.1/24,", "192.168.2.1/24, 10.9.0.1/16,")
    for number in range(UPSTREAMS):
        text += f'---\n{{ apiVersion: portcullis/v1, kind: Upstream, metadata: {{ name: exit{number} }}, spec: {{ type: socks5, udp: false, address: {SERVER}, port: {SOCKS_PORT}, probe: "http://198.51.100.10:8088/" }} }}\n'
    for number, address in enumerate(addresses()):
        text += f"---\n{{ apiVersion: portcullis/v1, kind: ProxyMapping, metadata: {{ name: client{number} }}, spec: {{ clients: {address}, upstream: exit{number % UPSTREAMS} }} }}\n"
    return text


def addresses():
    return [ipaddress.ip_address(FIRST) + number for number in range(MAPPINGS)]


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--binaries", default="target/release")
    options.add_argument("--seconds", type=int, default=90, help="of nothing")
    options = options.parse_args()
    with Lab(prefix=f"pb{os.getpid()}", binaries=options.binaries) as lab:
        lab.boot()
        stage = Stage(lab)
        lab.upstreams.ready()
        set_secret(stage, "lab", PASSWORD)
        for address in addresses():
            lab.lan1.ip("address", "add", f"{address}/16", "dev", "eth0")
        ways = Ways(lab, os.path.join(lab.root, LOAD), peers=False)
        try:
            stage.become(policy())
            wait_permitted(stage, *(f"client{number}" for number in range(MAPPINGS)))
            idle(lab, options.seconds)
            hold(lab, ways)
        finally:
            ways.close()


def idle(lab, seconds):
    # What the change itself set off is over by then.
    time.sleep(10)
    names = ("applier", "forwarder")
    began, before = time.monotonic(), [used(lab.processes[name].pid) for name in names]
    time.sleep(seconds)
    took, after = time.monotonic() - began, [used(lab.processes[name].pid) for name in names]
    shares = [100 * (late - early) / took for early, late in zip(before, after)]
    told = ", ".join(f"{name} {share:.2f} %" for name, share in zip(names, shares))
    print(f"{MAPPINGS} mappings over {UPSTREAMS} upstreams, {took:.0f} s without a client: {sum(shares):.2f} % of a core ({told})")


def hold(lab, ways):
    pid = lab.processes["forwarder"].pid
    bare = descriptors(pid)
    holding = Held(lab.lan1, ways.load, FIRST, MAPPINGS)
    for wanted in HELD:
        holding.to(wanted)
        rss, pss = memory(pid)
        print(f"{wanted} connections held by {MAPPINGS} clients: RSS {rss:.1f} MiB, PSS {pss:.1f} MiB, {descriptors(pid) - bare} descriptors more than with none")
    holding.close()


if __name__ == "__main__":
    main()
