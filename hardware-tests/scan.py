"""Which TCP ports of the box answer, from raw frames: each of the 65,535 is asked, and what the cable dropped is asked again."""

import json
import socket
import struct
import time

import packets
from packets import ACK, SYN

CHUNK = 2048
SOURCE_PORT = 45555


def open_ports(side, cable, gateway_mac, source, target):
    """The ports from which a SYN is answered by SYN and ACK. `side` and `cable` are a namespace and an interface each: where the frames are
    sent, and where they enter the machine, which is where they are dropped when it is too slow."""
    namespace, interface = side
    wire = packets.Wire(namespace, interface, gateway_mac)
    with packets.Capture(namespace, lambda packet: _answer(packet, target) is not None) as capture:
        for first in range(1, 65536, CHUNK):
            frames = [packets.tcp(source, target, SOURCE_PORT, port, SYN) for port in range(first, min(first + CHUNK, 65536))]
            rate = 8000
            while not _sent(wire, frames, cable, rate):
                rate = max(rate / 2, 500)
        time.sleep(2)
        frames = capture.stop()
    wire.close()
    return {_answer(frame, target) for frame in frames}


def _sent(wire, frames, cable, rate):
    before = _dropped(*cable)
    due = time.monotonic()
    for number, frame in enumerate(frames):
        wire.send(frame)
        due += 1 / rate
        if number % 64 == 0:
            time.sleep(max(0.0, due - time.monotonic()))
    time.sleep(0.05)
    return _dropped(*cable) == before


def _dropped(namespace, interface):
    return json.loads(namespace.ip("-s", "-j", "link", "show", interface))[0]["stats64"]["tx"]["dropped"]


def _answer(packet, target):
    """The port that the packet says is open."""
    if ":" in target:
        if len(packet) < 60 or packet[6] != 6 or packet[8:24] != socket.inet_pton(socket.AF_INET6, target):
            return None
        segment = packet[40:]
    else:
        if len(packet) < 40 or packet[9] != 6 or packet[12:16] != socket.inet_aton(target):
            return None
        segment = packet[(packet[0] & 15) * 4:]
    port, to = struct.unpack("!HH", segment[:4])
    return port if to == SOURCE_PORT and segment[13] & (SYN | ACK) == SYN | ACK else None
