"""Power comes and goes: the box is shut from its first instant, and comes back as it was confirmed."""

import json
import os
import random
import time

import packets
from api import Connection, administrator
from stage import INET4, INET6, LAN_MAC, wait_until
from stories import expect, expect_true, story
from stories.change import OPEN_SSH, SSH

CUTS = int(os.environ.get("POWER_CUTS", 5))

PERMITTED, FORBIDDEN = b"PERMITTED", b"FORBIDDEN"
FRAMES = [
    packet
    for source, target in (("192.168.2.10", INET4), ("fd00:2::10", INET6))
    for packet in (
        packets.tcp(source, target, 40100, 443, packets.SYN, payload=PERMITTED),
        packets.udp(source, target, 40100, 53, PERMITTED),
        packets.echo(source, target, 40100, 1, PERMITTED),
        packets.tcp(source, target, 40101, 22, packets.SYN, payload=FORBIDDEN),
        packets.udp(source, target, 40101, 123, FORBIDDEN),
        packets.ip(source, target, 47, FORBIDDEN),
    )
]

# Run as root just before the policy is restored: the ports are brought up and forwarding is switched on, as a mistake in the
# image might do it. Lockdown alone has to hold; then it is taken away, so that the capture is seen to see; then it stands again.
TOO_EARLY = r"""
say() { echo "STAGE $1" >/dev/ttyS0; }
ip address add 203.0.113.2/24 dev wan0; ip -6 address add 2001:db8:113::2/64 dev wan0 nodad
ip address add 192.168.2.1/24 dev lan0; ip -6 address add fd00:2::1/64 dev lan0 nodad
ip link set wan0 up; ip link set lan0 up
ip route replace default via 203.0.113.1; ip -6 route replace default via 2001:db8:113::1
sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
sleep 5
say unguarded; sleep 1
nft delete table inet portcullis; sleep 4
nft -f /usr/lib/portcullis/lockdown.nft; sleep 1
say guarded; sleep 3
say policy
exit 0
"""
# A unit of its own: the applier's may not write to the console.
EARLY = """[Unit]
DefaultDependencies=no
After=portcullis-lockdown.service portcullis-first-policy.service systemd-udev-settle.service
Before=portcullis-applier.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash /run/credentials/@system/portcullis.early
"""
HOLD = {
    "portcullis.early": TOO_EARLY,
    "systemd.extra-unit.portcullis-early.service": EARLY,
    "systemd.unit-dropin.portcullis-applier.service~early": "[Unit]\nRequires=portcullis-early.service\nAfter=portcullis-early.service\n",
}


class Arrivals:
    """When which marker arrived at the internet's side."""

    def __init__(self, stage):
        self.seen = []
        self.capture = packets.Capture(stage.inet, self._note)

    def _note(self, packet):
        for marker in (PERMITTED, FORBIDDEN):
            if marker in packet:
                self.seen.append((time.monotonic(), marker, packet))
        return False

    def between(self, begin, end, *markers):
        return [packet.hex() for when, marker, packet in self.seen if begin <= when < end and marker in markers]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.capture.stop()


def _flood(stage, rate=600):
    return packets.Flood(packets.Wire(stage.lan1, "eth0", LAN_MAC), FRAMES, rate)


@story("while the box boots and clients send, no frame passes before the policy stands, and forbidden ones never; without lockdown they are seen")
def shut_from_the_start(stage):
    lab = stage.lab
    lab.power_cut()
    machine, usual = lab.machine, lab.machine.credentials
    machine.credentials = lab.credentials(**HOLD)
    try:
        with Arrivals(stage) as arrivals, _flood(stage) as flood:
            begin = time.monotonic()
            machine.power_on()
            when = {}
            for word in ("unguarded", "guarded", "policy"):
                machine.console.expect(f"STAGE {word}", lab.patience)
                when[word] = time.monotonic()
            wait_until(lambda: arrivals.between(when["policy"], time.monotonic(), PERMITTED), lab.patience, "permitted frames pass once the policy stands")
            stands = time.monotonic()
            time.sleep(3)
            end = time.monotonic()
    finally:
        machine.credentials = usual
    machine.agent.wait(lab.patience)
    both = PERMITTED, FORBIDDEN
    expect(arrivals.between(begin, when["unguarded"], *both)[:1], [], "frames under lockdown alone, ports up and forwarding on")
    control = len(arrivals.between(when["unguarded"], when["guarded"], *both))
    expect_true(control > 50, f"{control} frames were seen without lockdown: the capture must be able to see")
    expect(arrivals.between(when["guarded"], when["policy"], *both)[:1], [], "frames under lockdown again")
    expect(arrivals.between(when["policy"], end, FORBIDDEN)[:1], [], "forbidden frames")
    passed = len(arrivals.between(when["policy"], end, PERMITTED))
    expect_true(passed > 10, f"{passed} permitted frames passed under the policy")
    return f"{flood.sent} sent in {end - begin:.0f} s; 0 under lockdown, {control} without it, {passed} permitted and 0 forbidden under the policy, which stood after {stands - begin:.0f} s"


@story(f"power is cut {CUTS} times, in the middle of a boot, of a change and right after a confirmation: what was confirmed runs, and the audit chain holds")
def power_cuts(stage):
    lab, machine = stage.lab, stage.lab.machine
    chance = random.Random(os.environ.get("SEED") or time.time_ns())
    wait_until(lambda: _audit(stage), 300, "the pages answer")
    told, closed, opened = [], stage.office(), stage.office(**{SSH: OPEN_SSH})
    confirmed = closed
    kinds = [("change", "boot", "confirmed")[number % 3] for number in range(CUTS)]
    with Arrivals(stage) as arrivals, _flood(stage, 200) as flood:
        for number, kind in enumerate(kinds):
            if kind == "boot":
                moment = chance.uniform(2, lab.boot_seconds)
                machine.power_on()
                time.sleep(moment)
            else:
                if not machine.running:
                    _comes_back(stage, confirmed)
                other = opened if confirmed == closed else closed
                if kind == "change":
                    moment = chance.uniform(0, 4)
                    _begin_apply(stage, other)
                    time.sleep(moment)
                else:
                    moment = 0.0
                    stage.become(other)
                    confirmed = other
            lab.power_cut()
            told.append(f"{kind} {moment:.1f} s")
        _comes_back(stage, confirmed)
        if confirmed == opened:
            stage.become(closed)
    leaked = arrivals.between(0, time.monotonic(), FORBIDDEN)
    # SSH is what the change opens; everything else that is forbidden stays so.
    expect([frame for frame in leaked if not _is_ssh(frame)][:1], [], "forbidden frames, over all boots")
    expect_true(flood.sent > 100 * CUTS, f"{flood.sent} frames were sent")
    return "cut at: " + ", ".join(told)


def _begin_apply(stage, text):
    """Started in the box, and not waited for."""
    stage.box.run("cat >/run/change.yaml; (portcullis apply --yes --confirm-within 300 /run/change.yaml >/dev/null 2>&1 &)", text_input=text)


def _comes_back(stage, confirmed):
    lab = stage.lab
    lab.boot()
    status = stage.status()
    expect(status["trial"], None, "a trial after the power cut")
    running = list(json.loads(lab.cli("sources", "--json")).values())
    expect(running, [confirmed], "the policy that runs")
    wait_until(lambda: _audit(stage), 300, "the pages answer after the power cut")
    verdict = _audit(stage)
    expect_true(verdict["intact"], f"the audit chain: {verdict}")
    expect_true(stage.works() or wait_until(stage.works, 60, "permitted traffic passes") >= 0, "permitted traffic")


def _audit(stage):
    """What control says of its audit chain, or None while it does not answer."""
    try:
        stage.lab.bring_files()
        token = administrator(stage.lab)
        with Connection(stage.lab, timeout=30.0) as connection:
            return connection.ask("GET", "/audit/verify", token=token)
    except (OSError, TimeoutError):
        return None


def _is_ssh(frame):
    packet = bytes.fromhex(frame)
    at = 40 if packet[0] >> 4 == 6 else (packet[0] & 15) * 4
    protocol = packet[6] if packet[0] >> 4 == 6 else packet[9]
    return protocol == 6 and packet[at + 2:at + 4] == b"\x00\x16"


