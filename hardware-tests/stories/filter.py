"""What passes and what does not."""

import packets
import probes
from stage import BOX_WAN4, INET4, INET6, LAN_MAC, WAN_MAC
from stories import expect, story


@story("what the policy permits passes, in IPv4 and in IPv6")
def permitted(stage):
    for target in (INET4, INET6):
        expect(probes.tcp(stage.lan1, target, 443), probes.ANSWERED, f"lan1 to {target} tcp/443")
        expect(probes.udp(stage.lan1, target, 53), probes.ANSWERED, f"lan1 to {target} udp/53")
        expect(probes.ping(stage.lan1, target), 1, f"lan1 pings {target}")
        expect(probes.tcp(stage.guest, target, 80), probes.ANSWERED, f"guest to {target} tcp/80")


@story("what no rule permits gets no answer, and not one frame of it reaches the far side")
def forbidden(stage):
    with stage.nothing_arrives(stage.inet, b"FORBIDDEN"):
        for target in (INET4, INET6):
            expect(probes.tcp(stage.lan1, target, 22, timeout=0.5), probes.SILENT, f"lan1 to {target} tcp/22")
            expect(probes.udp(stage.lan1, target, 123, timeout=0.5, payload=b"FORBIDDEN"), probes.SILENT, f"lan1 to {target} udp/123")
        wire = packets.Wire(stage.lan1, "eth0", LAN_MAC)
        for source, target in (("192.168.2.10", INET4), ("fd00:2::10", INET6)):
            wire.send(packets.tcp(source, target, 40000, 22, packets.SYN, payload=b"FORBIDDEN"))
            wire.send(packets.ip(source, target, 47, b"FORBIDDEN"))  # GRE
            wire.send(packets.ip(source, target, 253, b"FORBIDDEN"))  # RFC 3692 experiment
        wire.close()


@story("a guest reaches neither the lan, nor the management network, nor the box's pages")
def guest_isolation(stage):
    with stage.nothing_arrives(stage.lan1, b"FORBIDDEN"), stage.nothing_arrives(stage.admin, b"FORBIDDEN"):
        for target in ("192.168.2.10", "fd00:2::10", "192.168.77.2"):
            expect(probes.udp(stage.guest, target, 9999, timeout=0.3, payload=b"FORBIDDEN"), probes.SILENT, f"guest to {target} udp/9999")
            expect(probes.tcp(stage.guest, target, 443, timeout=0.3), probes.SILENT, f"guest to {target} tcp/443")
        for target in ("192.168.3.1", "fd00:3::1", "192.168.77.1", BOX_WAN4):
            expect(probes.tcp(stage.guest, target, 443, timeout=0.3), probes.SILENT, f"guest to the box at {target} tcp/443")


@story("the internet opens nothing on the box or behind it, even when it routes to private addresses")
def from_the_internet(stage):
    with stage.nothing_arrives(stage.lan1, b"FORBIDDEN"):
        for target in ("192.168.2.10", "fd00:2::10"):
            expect(probes.udp(stage.inet, target, 9999, timeout=0.3, payload=b"FORBIDDEN"), probes.SILENT, f"inet to {target} udp/9999")
            expect(probes.tcp(stage.inet, target, 80, timeout=0.3), probes.SILENT, f"inet to {target} tcp/80")
        expect(probes.tcp(stage.inet, BOX_WAN4, 443, timeout=0.3), probes.SILENT, "inet to the box's pages")
        wire = packets.Wire(stage.inet, "wan", WAN_MAC)
        wire.send(packets.tcp(INET4, "192.168.2.10", 443, 40000, packets.SYN | packets.ACK, payload=b"FORBIDDEN"))
        wire.close()


@story("reject answers TCP with a reset and everything else with `administratively prohibited`")
def reject_kinds(stage):
    for target in (INET4, INET6):
        expect(probes.tcp(stage.lan1, target, 25), probes.REFUSED, f"lan1 to {target} tcp/25")
        expect(probes.udp(stage.lan1, target, 9999), probes.PROHIBITED, f"lan1 to {target} udp/9999")


@story("the administrator's network reaches the pages, the lan does not")
def pages(stage):
    expect(probes.tcp(stage.admin, "192.168.77.1", 443) != probes.SILENT, True, "admin to the box tcp/443 gets an answer")
    expect(probes.tcp(stage.lan1, "192.168.77.1", 443, timeout=0.5), probes.SILENT, "lan1 to the box tcp/443")
