"""`kill -9` of any process, at any moment."""

import os
import random
import signal
import threading
import time

import packets
from stage import INET4, INET6, LAN_MAC, wait_until
from stories import expect_true, story
from stories.change import OPEN_SSH, SSH

TRIALS = 200
MARKER = b"FORBIDDEN"
FORBIDDEN = [
    packets.udp("192.168.2.10", INET4, 40030, 123, MARKER),
    packets.udp("fd00:2::10", INET6, 40030, 123, MARKER),
    packets.tcp("192.168.2.10", INET4, 40031, 8080, packets.SYN, payload=MARKER),
    packets.tcp("fd00:2::10", INET6, 40031, 8080, packets.SYN, payload=MARKER),
    packets.ip("192.168.2.10", INET4, 47, MARKER),
    packets.tcp("192.168.3.10", INET4, 40032, 443, packets.SYN, payload=MARKER),  # spoofed
]


def _flood(stage):
    return packets.Flood(packets.Wire(stage.lan1, "eth0", LAN_MAC), FORBIDDEN, rate=3000)


@story(f"no process killed at any moment, {TRIALS} times over, also in the middle of a change, lets one forbidden frame pass")
def any_process(stage):
    random.seed(os.environ.get("SEED") or 20261121)
    names = list(stage.processes)
    changes = [stage.office(**{SSH: OPEN_SSH}), stage.office()]
    with stage.nothing_arrives(stage.inet, MARKER), _flood(stage) as flood:
        for trial in range(TRIALS):
            # A third of the kills meets the applier while it applies, a third while it restores, the others any process at rest.
            changing, restoring = trial % 3 == 0, trial % 3 == 1
            victim = stage.processes["applier" if changing or restoring else names[trial // 3 % len(names)]]
            change = threading.Thread(target=stage.lab.cli, args=("apply", "--yes", "--json", "-"), kwargs={"check": False, "text_input": changes[trial % 2]})
            if changing:
                change.start()
            time.sleep(random.uniform(0, 0.12))
            victim.ready.clear()
            os.kill(victim.pid, signal.SIGKILL)
            if restoring:
                killed = victim.pid
                wait_until(lambda: victim.pid != killed and victim.alive, 5, "the supervisor started the applier again")
                time.sleep(random.uniform(0, 0.06))
                os.kill(victim.pid, signal.SIGKILL)
            if changing:
                change.join()
            if not victim.notify:
                victim.ready.set()
            victim.wait_ready()
        wait_until(stage.works, 5, "permitted traffic passes")
        sent = flood.sent
    expect_true(sent > 20 * TRIALS, f"{sent} forbidden frames were sent")
    return f"{sent} sent, 0 arrived"


@story("with the protection taken away the same capture does see the same frames, so it can see")
def control_run(stage):
    stage.lab.stop("applier", number=signal.SIGKILL)
    try:
        stage.box.run("nft", "delete", "table", "inet", "portcullis")
        for family in ("-4", "-6"):
            stage.box.ip(family, "rule", "del", "pref", "100")
        with packets.Capture(stage.inet, packets.carries(MARKER)) as capture, _flood(stage):
            wait_until(lambda: len(capture.frames) > 100, 5, "forbidden frames arrive without protection")
            seen = len(capture.frames)
    finally:
        stage.lab.start("applier")
    with stage.nothing_arrives(stage.inet, MARKER, settle=0.5), _flood(stage):
        wait_until(stage.works, 5, "permitted traffic passes")
    return f"{seen} seen"
