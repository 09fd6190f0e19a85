"""Translation, told by what the far side saw."""

import probes
from stage import BOX_WAN4, INET4, INET6
from stories import expect, story


@story("the internet sees the box's own address in IPv4, and the client's in IPv6")
def masquerade(stage):
    expect(probes.tcp(stage.lan1, INET4, 443).text, f"inet saw {BOX_WAN4}", "IPv4")
    expect(probes.udp(stage.lan1, INET4, 53).text, f"inet saw {BOX_WAN4}", "IPv4, UDP")
    expect(probes.tcp(stage.lan1, INET6, 443).text, "inet saw fd00:2::10", "IPv6")


@story("a forwarded port reaches its target, which sees the real client; the port beside it does not")
def port_forward(stage):
    expect(probes.tcp(stage.inet, BOX_WAN4, 8443, source=INET4).text, f"lan1 saw {INET4}", "inet to the forwarded port")
    expect(probes.tcp(stage.inet, BOX_WAN4, 8444, timeout=0.5), probes.SILENT, "inet to the port beside it")
    expect(probes.tcp(stage.inet, "192.168.2.10", 443, timeout=0.5), probes.SILENT, "inet to the target itself")


@story("the target's own neighbours use the outside address as well (hairpin)")
def hairpin(stage):
    expect(probes.tcp(stage.lan2, BOX_WAN4, 8443).text, "lan1 saw 192.168.2.1", "lan2 to the outside address")


@story("a guest does not get in through the hairpin")
def guest_hairpin(stage):
    expect(probes.tcp(stage.guest, BOX_WAN4, 8443, timeout=0.5), probes.SILENT, "guest to the outside address")


@story("a redirected port ends at the box itself")
def redirect(stage):
    # The box has no DNS server in this issue: what shows the redirect is the box's own `port unreachable`.
    expect(probes.udp(stage.guest, INET4, 53), probes.REFUSED, "guest's DNS is taken to the box")
