"""What no honest host sends, and what an honest one needs although it looks odd."""

import socket
import time

import packets
import probes
from nflog import Log
from packets import ACK, FIN, PSH, RST, SYN, URG
from stage import INET4, INET6, LAN_MAC, WAN_MAC, wait_until
from stories import expect, expect_true, story

SCANS = {"null": 0, "fin": FIN, "xmas": FIN | PSH | URG, "syn-fin": SYN | FIN, "syn-rst": SYN | RST}
BOTH = (("192.168.2.10", INET4), ("fd00:2::10", INET6))


def _scan(stage, wire, flags):
    for source, target in BOTH:
        # Towards a port that is permitted: only the flags are wrong.
        wire.send(packets.tcp(source, target, 40001, 443, flags, payload=b"SCAN"))


@story("null, FIN, Xmas, SYN+FIN and SYN+RST scans are dropped and logged, each of them, in both families")
def scans(stage):
    wire = packets.Wire(stage.lan1, "eth0", LAN_MAC)
    for name, flags in SCANS.items():
        with Log(stage.box) as log, stage.nothing_arrives(stage.inet, b"SCAN"):
            _scan(stage, wire, flags)
            wait_until(lambda: {packet[0] >> 4 for _, packet in log.entries if b"SCAN" in packet} == {4, 6}, 2, f"the log tells of the {name} scan")
    wire.close()


@story("an honest first packet from the same wire does arrive, so the scan test can see")
def scans_control(stage):
    wire = packets.Wire(stage.lan1, "eth0", LAN_MAC)
    with packets.Capture(stage.inet, packets.carries(b"HONEST")) as capture:
        for source, target in BOTH:
            wire.send(packets.tcp(source, target, 40002, 443, SYN, payload=b"HONEST"))
        wait_until(lambda: len(capture.frames) >= 2, 2, "both frames arrive")
    wire.close()


@story("a packet that belongs to no connection and cannot begin one is dropped and counted")
def invalid(stage):
    wire = packets.Wire(stage.lan1, "eth0", LAN_MAC)
    with stage.counted("posture/invalid", at_least=2), stage.nothing_arrives(stage.inet, b"STRAY"):
        for source, target in BOTH:
            wire.send(packets.tcp(source, target, 40003, 443, RST, payload=b"STRAY"))
    wire.close()


@story("the box answers at most about ten pings a second, and keeps answering")
def icmp_limit(stage):
    time.sleep(1.5)  # a full bucket, whatever went before
    for target in ("192.168.2.1", "fd00:2::1"):
        answered = probes.ping(stage.lan1, target, count=100, interval=0.02, timeout=0.3)
        # Two seconds of flood: ten a second and one bucket's burst.
        expect_true(10 <= answered <= 45, f"{answered} of 100 pings to {target} within two seconds were answered")
        time.sleep(1.2)
        expect(probes.ping(stage.lan1, target), 1, f"one ping to {target} afterwards")


@story("ICMPv6 `packet too big` from the internet reaches the client whose packet it is about")
def packet_too_big(stage):
    with stage.lan1.inside():
        client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with client:
        client.settimeout(1)
        client.connect((INET6, 53))
        client.send(b"x")
        client.recv(100)
        port = client.getsockname()[1]
        quoted = packets.udp("fd00:2::10", INET6, port, 53, b"y" * 1200)
        message = b"\x02\0\0\0" + (1300).to_bytes(4) + quoted[:1232]
        total = packets.checksum(packets._pseudo("2001:db8:113::1", "fd00:2::10", 58, len(message)) + message)
        message = message[:2] + total.to_bytes(2) + message[4:]
        wire = packets.Wire(stage.inet, "wan", WAN_MAC)
        wire.send(packets.ip("2001:db8:113::1", "fd00:2::10", 58, message))
        wire.close()
        wait_until(lambda: client.getsockopt(socket.IPPROTO_IPV6, 24) == 1300, 2, "the client's path MTU is 1300")  # IPV6_MTU


@story("a source address that cannot live behind its port gets nowhere")
def spoofed(stage):
    lan, wan = packets.Wire(stage.lan1, "eth0", LAN_MAC), packets.Wire(stage.inet, "wan", WAN_MAC)
    with stage.nothing_arrives(stage.inet, b"SPOOFED"), stage.nothing_arrives(stage.lan1, b"SPOOFED"):
        for source, target in (("192.168.3.10", INET4), ("203.0.113.77", INET4), ("127.0.0.1", INET4), ("fd00:3::10", INET6), ("2001:db8:77::1", INET6)):
            lan.send(packets.tcp(source, target, 40004, 443, SYN, payload=b"SPOOFED"))
        for source in ("192.168.2.11", "192.168.3.10", "127.0.0.1", "203.0.113.2"):
            wan.send(packets.tcp(source, "203.0.113.2", 40004, 8443, SYN, payload=b"SPOOFED"))
    with packets.Capture(stage.inet, packets.carries(b"ROOTED")) as capture:
        lan.send(packets.tcp("192.168.2.77", INET4, 40005, 443, SYN, payload=b"ROOTED"))
        wait_until(lambda: capture.frames, 2, "a neighbour's honest address passes")
    lan.close()
    wan.close()
