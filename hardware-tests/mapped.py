"""Words for the stories about mapped clients: their policy, their permits, their flows, and what a leak is."""

import ipaddress
import os
import socket
import struct
import time

import probes
from applier_socket import ApplierSocket
from internet import BULK_PORT, ECHO_PORT
from namespaces import wait_until
from stage import BOX_WAN4, BOX_WAN6, HERE, INET4, INET6
from upstreams import PASSWORD

POLICY = os.path.join(HERE, "policies", "proxy.yaml")
ONE, TWO = "  upstream: socks\n", "  group: either\n"
EXITS = {"up1": ("100.64.1.10", "2001:db8:64:1::10"), "up2": ("100.64.2.10", "2001:db8:64:2::10")}
CLIENTS = [ipaddress.ip_network(net) for net in ("192.168.2.0/24", "fd00:2::/64")]
TARGETS = {ipaddress.ip_address(address) for address in (INET4, INET6)}
BOX = {ipaddress.ip_address(address) for address in (BOX_WAN4, BOX_WAN6)}


def policy(**replacements):
    """The policy of these stories with pieces of its text replaced; a piece that is not in it is the story's mistake."""
    with open(POLICY) as file:
        text = file.read()
    for old, new in replacements.items():
        if old not in text:
            raise ValueError(f"{old!r} is not in {POLICY}")
        text = text.replace(old, new)
    return text


def without_mappings():
    return policy().split("---\n# mappings\n")[0]


def set_the_stage(stage, text=None):
    """Upstreams run, the secret is set, the policy stands, and both clients are let in."""
    stage.lab.upstreams.ready()
    set_secret(stage, "lab", PASSWORD)
    stage.become(text or policy())
    stage.wait_for_ipv6()
    wait_permitted(stage, "one", "two")


def set_secret(stage, name, value):
    with ApplierSocket(stage.lab) as applier:
        answer = applier.ask("setSecret", name=name, value=value, by={"name": "console", "address": None, "connectedAt": None})
    if answer["response"] != "done":
        raise AssertionError(answer)


def effects(stage):
    """By mapping: permitted, blocked and why, bytes."""
    with ApplierSocket(stage.lab) as applier:
        return applier.ask("proxy")["mappings"]


def permitted(stage, *names):
    try:
        found = effects(stage)
    except (OSError, KeyError):
        return False
    return all(name in found and found[name]["permitted"] for name in names)


def wait_permitted(stage, *names, seconds=10):
    try:
        return wait_until(lambda: permitted(stage, *names), seconds, f"{' and '.join(names)} are let in")
    except TimeoutError as error:
        raise AssertionError(f"{error}; they are {effects(stage)}") from error


def reason(stage, name):
    """Why a mapping is blocked, or None."""
    blocked = effects(stage)[name]["blocked"]
    return blocked and blocked["because"]


def ask_forwarder(stage, request, **fields):
    with ApplierSocket(stage.lab, "forwarder.sock") as forwarder:
        return forwarder.ask(request, **fields)


def exit_of(machine, target=INET4, port=80, timeout=2.0):
    """Where the client's connection comes out, or the word for why it does not."""
    answer = probes.tcp(machine, target, port, timeout=timeout)
    return answer.text.removeprefix("inet saw ") if answer == probes.ANSWERED else str(answer)


def connected(machine, target=INET4, port=ECHO_PORT, timeout=3.0):
    """An open connection of the client."""
    with machine.inside():
        client = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET)
    client.settimeout(timeout)
    client.connect((target, port))
    return client


def fetch(machine, count, target=INET4, timeout=30):
    """Seconds that it takes to get so many bytes; fewer than asked for are an error."""
    begin, got = time.monotonic(), 0
    with connected(machine, target, BULK_PORT, timeout) as client:
        client.sendall(b"%d\n" % count)
        while got < count and (data := client.recv(1 << 16)):
            got += len(data)
    if got < count:
        raise ConnectionError(f"{got} bytes of {count}")
    return time.monotonic() - begin


def is_leak(packet):
    """On the WAN side: a packet of a mapped client, as it is or behind the box's own address."""
    if packet[0] >> 4 == 6 and len(packet) >= 40:
        source, target = ipaddress.IPv6Address(packet[8:24]), ipaddress.IPv6Address(packet[24:40])
    elif packet[0] >> 4 == 4 and len(packet) >= 20:
        source, target = ipaddress.IPv4Address(packet[12:16]), ipaddress.IPv4Address(packet[16:20])
    else:
        return False
    return any(source in net for net in CLIENTS if net.version == source.version) or source in BOX and target in TARGETS


def reset(client):
    """Closes with RST instead of FIN."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
