"""Somebody else's hands on the kernel: nothing opens, and the box becomes what it was, with a name to it."""

import time

import packets
import probes
from stage import INET4, INET6, LAN_MAC, wait_until
from stories import expect_true, story

FORBIDDEN = [
    packets.udp("192.168.2.10", INET4, 40020, 123, b"FORBIDDEN"),
    packets.udp("fd00:2::10", INET6, 40020, 123, b"FORBIDDEN"),
    packets.tcp("192.168.2.10", INET4, 40021, 22, packets.SYN, payload=b"FORBIDDEN"),
]


def _flood(stage):
    return packets.Flood(packets.Wire(stage.lan1, "eth0", LAN_MAC), FORBIDDEN, rate=3000)


@story("an outsider's `nft flush ruleset` opens nothing and stops nothing that is permitted")
def flushed(stage):
    with stage.nothing_arrives(stage.inet, b"FORBIDDEN"), _flood(stage):
        for _ in range(20):
            stage.box.run("nft", "flush", "ruleset", check=False)
            time.sleep(0.02)
        wait_until(stage.works, 35, "permitted traffic passes")
    expect_true("chain" in stage.box.run("nft", "list", "ruleset"), "the table is there")


@story("a forwarding switch, a route rule and an address changed by hand are put back and reported")
def repaired(stage):
    with stage.nothing_arrives(stage.inet, b"FORBIDDEN"), _flood(stage):
        stage.box.sysctl("net.ipv4.conf.all.rp_filter", 0)
        stage.box.ip("rule", "del", "pref", "100", check=False)
        stage.box.ip("address", "del", "192.168.3.1/24", "dev", "guest0")
        took = wait_until(lambda: "192.168.3.1/24" in stage.box.ip("address", "show", "guest0"), 40, "the address is back")
        wait_until(lambda: "100:" in stage.box.ip("rule", "show"), 5, "the rule is back")
        wait_until(lambda: stage.box.read_sysctl("net.ipv4.conf.all.rp_filter") == "1", 5, "the switch is back")
    findings = stage.status()["drift"]
    told = " ".join(finding["what"] for finding in findings)
    for what in ("rp_filter", "192.168.3.1", "rule"):
        expect_true(what in told or any(what in str(finding) for finding in findings), f"the drift report names {what}: {told}")
    return f"after {took:.1f} s"


@story("an outsider's rule does not stay in our table, and an outsider's own table is not ours to touch")
def foreign(stage):
    stage.box.run("nft", "add", "table", "inet", "theirs")
    try:
        owned = "table-owner" in stage.status()["features"]
        with stage.nothing_arrives(stage.inet, b"FORBIDDEN"), _flood(stage):
            inserted = _insert_accept(stage)
            expect_true(not (owned and inserted), "the kernel refuses a stranger's rule in a table that has an owner")
        wait_until(lambda: "outsider" not in stage.box.run("nft", "list", "ruleset"), 40, "the foreign rule is gone")
        expect_true("theirs" in stage.box.run("nft", "list", "tables"), "the outsider's own table is left alone")
    finally:
        stage.box.run("nft", "delete", "table", "inet", "theirs", check=False)


def _insert_accept(stage):
    try:
        stage.box.run("nft", "insert", "rule", "inet", "portcullis", "forward", "udp", "dport", "1", "accept", "comment", "outsider")
        return True
    except RuntimeError:
        return False


@story("with `drift: report` the change is reported and left alone")
def reported(stage):
    stage.become(stage.office(**{"drift: repair": "drift: report"}))
    stage.box.sysctl("net.ipv4.conf.all.send_redirects", 1)
    wait_until(lambda: any("send_redirects" in str(finding) for finding in stage.status()["drift"]), 40, "the drift is reported")
    expect_true(not any(finding["repaired"] for finding in stage.status()["drift"] if "send_redirects" in str(finding)), "it says that it was not repaired")
    expect_true(stage.box.read_sysctl("net.ipv4.conf.all.send_redirects") == "1", "it was left alone")
    stage.box.sysctl("net.ipv4.conf.all.send_redirects", 0)
    expect_true(stage.works(), "permitted traffic passes")
    expect_true(probes.tcp(stage.lan1, INET4, 22, timeout=0.3) == probes.SILENT, "forbidden traffic does not")
