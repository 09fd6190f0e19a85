"""A changed file in the policy folder becomes a candidate."""

import os

import api
from stage import wait_until
from stories import expect, expect_true, story

from stories.change import OPEN_SSH, SSH, _ssh_works


def _put(stage, text):
    """As editors and `git checkout` do: written beside, then renamed."""
    target = os.path.join(stage.lab.policy_dir, "office.yaml")
    with open(target + ".tmp", "w") as file:
        file.write(text)
    os.rename(target + ".tmp", target)


@story("with `hotReload: apply` a changed file goes on trial, and back when nobody confirms it")
def applied(stage):
    hot = {"hotReload: wait": "hotReload: apply", "confirmWithin: 60s": "confirmWithin: 10s"}
    stage.become(stage.office(**hot))
    _put(stage, stage.office(**hot, **{SSH: OPEN_SSH}))
    wait_until(lambda: stage.status()["trial"], 5, "the changed file is on trial")
    expect_true(_ssh_works(stage), "the change works while it is on trial")
    wait_until(lambda: not stage.status()["trial"], 15, "the trial ended")
    expect_true(not _ssh_works(stage), "the change is gone")


@story("with `hotReload: wait` a changed file waits as the candidate and changes nothing")
def waits(stage):
    token = api.administrator(stage.lab)
    before = stage.status()["running"]
    _put(stage, stage.office(**{SSH: OPEN_SSH + "    # by file\n"}))

    def candidate():
        with api.Connection(stage.lab) as connection:
            return connection.ask("GET", "/candidate", token=token)

    wait_until(lambda: "# by file" in str(candidate()["sources"]), 5, "the candidate is the changed file")
    expect(stage.status()["running"], before, "what runs")
    expect_true(not _ssh_works(stage), "nothing was opened")


@story("a changed file with problems changes nothing and the problems are told")
def broken(stage):
    token = api.administrator(stage.lab)
    before = stage.status()["running"]
    _put(stage, stage.office() + "---\nkind: Nonsense\n# broken by file\n")

    def candidate():
        with api.Connection(stage.lab) as connection:
            return connection.ask("GET", "/candidate", token=token)

    wait_until(lambda: "# broken by file" in str(candidate()["sources"]), 5, "the broken text waits as the candidate")
    expect(stage.status()["running"], before, "what runs")
    expect_true(stage.works(), "permitted traffic passes")
