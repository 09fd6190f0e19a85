"""An administrator who saws at the branch that they sit on."""

import time

import api
import probes
from stage import wait_until
from stories import expect, expect_true, story

PAGES = "192.168.77.1"
SAWN = {"admin: { zones: mgmt }": "admin: { zones: lan }"}


def _reachable(stage):
    return probes.tcp(stage.admin, PAGES, 443, timeout=0.4) != probes.SILENT


@story("an administrator who cuts off their own access gets the box back without doing anything")
def cut_off(stage):
    token = api.administrator(stage.lab)
    with api.Connection(stage.lab) as connection:
        applied = api.apply(connection, token, stage.office(**SAWN), within=10)
    begin = time.monotonic()
    expect_true(not _reachable(stage), "no new connection gets through, the branch is off")
    wait_until(lambda: _reachable(stage), 15, "the pages can be reached again")
    took = time.monotonic() - begin
    with api.Connection(stage.lab) as connection:
        # Control looks at the applier once a second.
        wait_until(lambda: not connection.ask("GET", "/status", token=token)["trial"], 3, "the pages say that no trial is left")
        running = connection.ask("GET", "/status", token=token)["running"]
    expect_true(running["number"] != applied["generation"], "the box is back at the generation before")
    return f"back after {took:.1f} s"


@story("a change that does not cut anyone off is kept by a confirmation over a new connection, and only by that")
def confirm(stage):
    token = api.administrator(stage.lab)
    with api.Connection(stage.lab) as old, api.Connection(stage.lab) as first:
        old.ask("GET", "/status", token=token)
        applied = api.apply(first, token, stage.office(**{"hostname: office-gw": "hostname: other-gw"}), within=30)
        try:
            old.ask("POST", "/trial/confirm", {"generation": applied["generation"]}, token)
            expect_true(False, "a connection that is older than the change must not confirm it")
        except api.Refusal as refusal:
            expect_true(400 <= refusal.status < 500, f"the refusal is the client's matter: {refusal}")
        expect(stage.status()["trial"]["generation"], applied["generation"], "still on trial")
    with api.Connection(stage.lab) as new:
        new.ask("POST", "/trial/confirm", {"generation": applied["generation"]}, token)
        expect(new.ask("GET", "/status", token=token)["trial"], None, "trial")
    expect(stage.status()["lastConfirmed"], applied["generation"], "confirmed")


@story("somebody else cannot confirm a trial that is not theirs; whoever stands at the console can")
def same_principal(stage):
    token = api.administrator(stage.lab)
    with api.Connection(stage.lab) as connection:
        try:
            connection.ask("POST", "/users", {"name": "boris", "role": "admin", "password": "another pair of hands 7"}, token)
        except api.Refusal as refused:
            expect(refused.status, 409, "boris is there from an earlier telling")
        other = connection.ask("POST", "/tokens", {"user": "boris", "password": "another pair of hands 7"})["token"]
    with api.Connection(stage.lab) as connection:
        applied = api.apply(connection, token, stage.office(**{"hostname: office-gw": "hostname: other-gw"}), within=30)
    with api.Connection(stage.lab) as connection:
        try:
            connection.ask("POST", "/trial/confirm", {"generation": applied["generation"]}, other)
            expect("confirmed", "refused", "another administrator's word")
        except api.Refusal as refused:
            expect(refused.status, 409, "another administrator is refused")
    expect(stage.status()["trial"]["generation"], applied["generation"], "still on trial")
    stage.lab.cli("confirm", str(applied["generation"]))
    expect(stage.status()["trial"], None, "the console kept it")


@story("no rule can take the administrator's way: one that drops everything to the box leaves the pages reachable")
def own_rules(stage):
    # The administrator's way is compiled in before all rules: no rule can take it away.
    token = api.administrator(stage.lab)
    text = stage.office(**{"    - { name: no-mail": "    - { name: nothing, from: any, to: box, action: drop }\n    - { name: no-mail"})
    with api.Connection(stage.lab) as connection:
        applied = api.apply(connection, token, text, within=30)
    expect_true(_reachable(stage), "the pages are reachable although a rule drops everything to the box")
    with api.Connection(stage.lab) as connection:
        connection.ask("POST", "/trial/confirm", {"generation": applied["generation"]}, token)
