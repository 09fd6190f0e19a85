"""Permits that depend on the time: what ends them is the kernel's own clock."""

import datetime
import signal
import time

import probes
from stage import INET4
from stories import expect, expect_true, story
from stories.change import SSH


def _clock(moment):
    return moment.strftime("%H:%M")


@story("a permit that a timetable gave ends at its minute, even though the applier is dead by then")
def window_closes(stage):
    now = datetime.datetime.now(datetime.timezone.utc)
    # Windows end at full minutes; at least ten seconds are needed to see it open.
    end = (now + datetime.timedelta(seconds=70)).replace(second=0, microsecond=0)
    rule = f'    - {{ name: nightly, from: lan, to: wan, services: ssh, action: accept, schedule: {{ from: "{_clock(now - datetime.timedelta(minutes=5))}", until: "{_clock(end)}" }} }}\n'
    stage.become(stage.office(**{SSH: rule + SSH}))
    expect(probes.tcp(stage.lan1, INET4, 22), probes.ANSWERED, "lan1 to tcp/22 inside the window")
    stage.lab.stop("applier", number=signal.SIGKILL)
    try:
        left = (end - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
        expect_true(left > 0, "the window is still open")
        time.sleep(max(0, left - 2))
        expect(probes.tcp(stage.lan1, INET4, 22), probes.ANSWERED, "two seconds before its end")
        time.sleep(3.5)
        expect(probes.tcp(stage.lan1, INET4, 22, timeout=0.5), probes.SILENT, "a second after its end")
        expect_true(stage.works(), "what has no timetable still passes")
    finally:
        stage.lab.start("applier")
    return f"open for the last {left:.0f} s without an applier"


@story("outside its window the same permit opens nothing")
def outside(stage):
    now = datetime.datetime.now(datetime.timezone.utc)
    begin, end = now + datetime.timedelta(minutes=10), now + datetime.timedelta(minutes=20)
    rule = f'    - {{ name: nightly, from: lan, to: wan, services: ssh, action: accept, schedule: {{ from: "{_clock(begin)}", until: "{_clock(end)}" }} }}\n'
    stage.become(stage.office(**{SSH: rule + SSH}))
    expect(probes.tcp(stage.lan1, INET4, 22, timeout=0.5), probes.SILENT, "lan1 to tcp/22 outside the window")
