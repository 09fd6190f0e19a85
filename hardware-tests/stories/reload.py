"""A changed file in the policy folder becomes a revision: it waits for someone, or goes on trial, as the policy says."""

import os
import time

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


def _waiting(stage, token):
    """The text of the revision that waits for someone, as the API tells it."""
    with api.Connection(stage.lab) as connection:
        waiting = [revision for revision in connection.ask("GET", "/revisions", token=token) if revision["outcome"] == "waiting"]
        return str(connection.ask("GET", f"/revisions/{waiting[0]['id']}", token=token)) if waiting else ""


@story("with `hotReload: apply` a changed file goes on trial, and back when nobody confirms it")
def applied(stage):
    hot = {"hotReload: wait": "hotReload: apply", "confirmWithin: 60s": "confirmWithin: 10s"}
    stage.become(stage.office(**hot))
    # Control looks once a second at what the box runs, and so learns that it may apply now.
    time.sleep(2)
    _put(stage, stage.office(**hot, **{SSH: OPEN_SSH}))
    wait_until(lambda: stage.status()["trial"], 8, "the changed file is on trial")
    expect(stage.status()["trial"]["by"], "hot-reload", "on whose behalf")
    expect_true(_ssh_works(stage), "the change works while it is on trial")
    wait_until(lambda: not stage.status()["trial"], 15, "the trial ended")
    expect_true(not _ssh_works(stage), "the change is gone")


@story("with `hotReload: wait` a changed file waits for someone and changes nothing")
def waits(stage):
    token = api.administrator(stage.lab)
    before = stage.status()["running"]
    _put(stage, stage.office(**{SSH: OPEN_SSH + "    # by file\n"}))
    wait_until(lambda: "# by file" in _waiting(stage, token), 8, "the changed file waits")
    expect(stage.status()["running"], before, "what runs")
    expect_true(not _ssh_works(stage), "nothing was opened")


@story("a changed file with problems changes nothing; it waits together with what is wrong")
def broken(stage):
    token = api.administrator(stage.lab)
    before = stage.status()["running"]
    _put(stage, stage.office() + "---\nkind: Nonsense\n# broken by file\n")
    wait_until(lambda: "# broken by file" in _waiting(stage, token), 8, "the broken text waits")
    expect_true("problem" in _waiting(stage, token), "it says that there are problems")
    expect(stage.status()["running"], before, "what runs")
    expect_true(stage.works(), "permitted traffic passes")
