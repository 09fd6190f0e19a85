"""The box comes back as it was confirmed, before anything can pass."""

import os
import signal
import threading
import time

import packets
import probes
from stage import INET4, INET6, LAN_MAC, wait_until
from stories import expect, expect_true, story

from stories.change import OPEN_SSH, SSH


@story("a killed applier is back within a second, and permitted traffic never stopped")
def applier_restart(stage):
    applier = stage.processes["applier"]
    answers, over = [], threading.Event()

    def go_on():
        while not over.is_set():
            # The instant in which one table replaces the other may cost a packet; a SYN is sent again after a second (RFC 6298).
            answers.append(probes.tcp(stage.lan1, INET4, 443, timeout=4))

    client = threading.Thread(target=go_on)
    client.start()
    begin = time.monotonic()
    applier.ready.clear()
    os.kill(applier.pid, signal.SIGKILL)
    applier.ready.wait(5)
    took = time.monotonic() - begin
    over.set()
    client.join()
    failures = [answer for answer in answers if answer != probes.ANSWERED]
    expect_true(answers, "the client tried")
    expect(failures, [], "connections that failed meanwhile")
    expect_true(took < stage.lab.seconds(1.0) + applier.unit.restart_pause, f"ready after {took:.2f} s")
    return f"{took:.2f} s"


@story("what was taken away while the applier was dead is restored within a second of its start")
def restores_what_is_missing(stage):
    stage.lab.stop("applier", number=signal.SIGKILL)
    _remove_protection(stage)
    expect_true(not stage.works(), "nothing is forwarded without the table, not even what is permitted")
    begin = time.monotonic()
    stage.lab.start("applier")
    wait_until(stage.works, 3, "permitted traffic passes again")
    took = time.monotonic() - begin
    expect_true(took < stage.lab.seconds(1.0), f"restored after {took:.2f} s")
    return f"{took:.2f} s"


def _remove_protection(stage):
    stage.box.run("nft", "flush", "ruleset", check=False)
    stage.box.run("nft", "delete", "table", "inet", "portcullis", check=False)
    expect_true("chain" not in stage.box.run("nft", "list", "ruleset"), "the outsider could remove the table of a dead applier")


@story("a trial that was running when the applier was killed goes back, it is not kept")
def killed_on_trial(stage):
    stage.apply(stage.office(**{SSH: OPEN_SSH}), within=300)
    expect_true(probes.tcp(stage.lan1, INET4, 22, timeout=0.5) == probes.ANSWERED, "the change works while it is on trial")
    stage.processes["applier"].kill_and_wait()
    expect(probes.tcp(stage.lan1, INET4, 22, timeout=0.5), probes.SILENT, "lan1 to tcp/22")
    expect(stage.status()["trial"], None, "trial")
    expect_true(stage.works(), "the confirmed policy runs")


@story("after a power cut the confirmed policy is back before the links are, and not one forbidden frame passes while clients send")
def reboot(stage):
    forbidden = [
        packets.udp("192.168.2.10", INET4, 40010, 123, b"FORBIDDEN"),
        packets.udp("fd00:2::10", INET6, 40010, 123, b"FORBIDDEN"),
        packets.tcp("192.168.2.10", INET4, 40011, 22, packets.SYN, payload=b"FORBIDDEN"),
        packets.tcp("fd00:2::10", INET6, 40011, 22, packets.SYN, payload=b"FORBIDDEN"),
    ]
    before = stage.status()["running"]["digest"]
    with stage.nothing_arrives(stage.inet, b"FORBIDDEN"), packets.Flood(packets.Wire(stage.lan1, "eth0", LAN_MAC), forbidden, rate=4000) as flood:
        stage.lab.power_cut()
        stage.lab.plug_in()
        begin = time.monotonic()
        stage.lab.boot()
        took = wait_until(stage.works, 10, "permitted traffic passes") and time.monotonic() - begin
        time.sleep(0.5)
        expect_true(flood.sent > 1000, f"{flood.sent} forbidden frames were sent")
    expect(stage.status()["running"]["digest"], before, "the digest that runs")
    stage.wait_for_ipv6()
    expect(probes.tcp(stage.lan1, INET6, 443), probes.ANSWERED, "IPv6 afterwards")
    return f"{flood.sent} sent, 0 arrived, permitted traffic {took:.2f} s after the start"


@story("a box that never had a policy forwards nothing and offers nothing but its pages' set-up")
def lockdown(stage):
    lab = stage.lab
    lab.power_cut()
    state = os.path.join(lab.state_dir, "applier")
    aside = state + ".aside"
    os.rename(state, aside)
    try:
        lab._own_directory(state, "portcullis-applier", 0o700)
        lab.plug_in()
        lab.start("applier")
        # Somebody configures the ports by hand: still nothing may pass.
        for port, address in (("wan0", "203.0.113.2/24"), ("lan0", "192.168.2.1/24")):
            stage.box.ip("address", "add", address, "dev", port, check=False)
            stage.box.ip("link", "set", port, "up")
        stage.box.ip("route", "replace", "default", "via", "203.0.113.1")
        stage.box.sysctl("net.ipv4.ip_forward", 1)
        with stage.nothing_arrives(stage.inet, b"FORBIDDEN"):
            expect_true(probes.udp(stage.lan1, INET4, 53, timeout=0.5, payload=b"FORBIDDEN") != probes.ANSWERED, "lan1 to the internet")
            expect_true(probes.ping(stage.lan1, "192.168.2.1", timeout=0.3) == 0, "lan1 pings the locked box")
        expect(stage.status()["running"], None, "running")
    finally:
        lab.power_cut()
        for leftover in (state,):
            lab.remove(leftover)
        os.rename(aside, state)
        lab.plug_in()
        lab.boot()
