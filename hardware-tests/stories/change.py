"""One generation: it changes as a whole, goes back as a whole, and only the one who changed it may keep it."""

import json
import time

import probes
from stage import INET4, wait_until
from stories import expect, expect_true, story

SSH = "    - { name: ping, "
OPEN_SSH = "    - { name: shell, from: lan, to: wan, services: ssh, action: accept }\n" + SSH


def _ssh_works(stage):
    return probes.tcp(stage.lan1, INET4, 22, timeout=0.3) == probes.ANSWERED


@story("an unconfirmed change goes back by itself at its deadline")
def goes_back(stage):
    answer = stage.apply(stage.office(**{SSH: OPEN_SSH}), within=10)
    expect_true(_ssh_works(stage), "the change works while it is on trial")
    expect(stage.status()["trial"]["generation"], answer["generation"], "generation on trial")
    took = wait_until(lambda: not _ssh_works(stage), 14, "the change went back")
    expect_true(stage.works(), "what was permitted before is permitted again")
    expect(stage.status()["trial"], None, "no trial is left")
    return f"after {took:.1f} s"


@story("a confirmed change stays, and an earlier generation can be put on trial again")
def confirmed_stays(stage):
    before = stage.status()["lastConfirmed"]
    stage.become(stage.office(**{SSH: OPEN_SSH}))
    expect(stage.status()["trial"], None, "no trial is left")
    expect_true(_ssh_works(stage), "the change works")
    stage.lab.cli("rollback", str(before))
    expect_true(not _ssh_works(stage), "the earlier generation runs")
    stage.lab.cli("rollback")
    expect_true(_ssh_works(stage), "its trial was ended, the confirmed one runs")


@story("what is refused changes nothing: a problem, a false assertion with its counter-example, a digest that differs")
def refused(stage):
    running = stage.status()["running"]
    before = stage.box.run("nft", "list", "ruleset")
    for text, told in (
        (stage.office(**{"services: tcp/25": "services: tcp/smtpp"}), "problem"),
        (stage.office(**{"to: [lan, mgmt], expect: never": "to: wan, expect: never"}), "guest-stays-out"),
    ):
        expect_true(not stage.lab.cli("apply", "--yes", "-", check=False, text_input=text), "the console's apply says nothing on standard output")
        try:
            stage.apply(text)
        except RuntimeError as error:
            expect_true(told in str(error), f"the refusal tells {told!r}: {error}")
    stage.lab.cli("rollback", "999999", check=False)
    expect(stage.status()["running"], running, "the running generation")
    expect(_without_counters(stage.box.run("nft", "list", "ruleset")), _without_counters(before), "the kernel's ruleset")


def _without_counters(text):
    words = iter(text.split())
    kept = []
    for word in words:
        if word in ("packets", "bytes", "expires"):
            next(words)
        else:
            kept.append(word)
    return kept


@story("traffic that both policies permit is not interrupted by a change")
def uninterrupted(stage):
    failures = []
    for round_ in range(6):
        text = stage.office(**{SSH: OPEN_SSH}) if round_ % 2 == 0 else stage.office()
        stage.become(text)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            answer = probes.tcp(stage.lan1, INET4, 443, timeout=0.5)
            if answer != probes.ANSWERED:
                failures.append(answer)
    expect(failures, [], "connections that failed during six changes")


@story("the timings of a change are reported phase by phase")
def phases(stage):
    answer = stage.apply(stage.office(**{SSH: OPEN_SSH}))
    stage.lab.cli("rollback")
    expect_true(len(answer["phases"]) >= 3, f"phases: {json.dumps(answer['phases'])}")
    return ", ".join(f"{phase} {took / 1000:.1f} ms" for phase, took in answer["phases"].items())
