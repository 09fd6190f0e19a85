"""The console helps when other parts of the box do not."""

import os
import signal

import api
import probes
from console import PROMPT, Person, Rescue
from stage import INET4, wait_until
from stories import expect, expect_true, story

from stories.change import OPEN_SSH, SSH

NEW_PASSWORD = "seven green bottles on a wall"


@story("a trial that somebody else began is confirmed at the console, and goes back from there too")
def trials(stage):
    token = api.administrator(stage.lab)
    with Rescue(stage.lab), Person(stage.lab) as person:
        with api.Connection(stage.lab) as connection:
            api.apply(connection, token, stage.office(**{SSH: OPEN_SSH}))
        first = stage.status()["trial"]["generation"]
        expect_true("runs again" in person.choose(3), "the console ends the trial")
        expect(stage.status()["trial"], None, "the trial after it was ended")
        with api.Connection(stage.lab) as connection:
            api.apply(connection, token, stage.office(**{SSH: OPEN_SSH}))
        expect(stage.status()["trial"]["by"], api.USER, "who began the trial")
        expect_true(f"Generation {first + 1} is confirmed" in person.choose(2), "the console confirms")
    expect(stage.status()["lastConfirmed"], first + 1, "the confirmed generation")


@story("in safe mode nothing is forwarded and the pages answer, over a killed applier, until it is left")
def safe_mode(stage):
    token = api.administrator(stage.lab)
    expect_true(stage.works(), "permitted traffic passes before")
    with Rescue(stage.lab), Person(stage.lab) as person:
        expect_true("Safe mode is on" in person.choose(8, ("Type yes", "yes")), "safe mode is on")
        expect_true(not stage.works(), "nothing is forwarded in safe mode")
        with api.Connection(stage.lab) as connection:
            # Control asks the applier once a second.
            wait_until(lambda: connection.ask("GET", "/status", token=token)["safeMode"] == "console", 5, "the API says who switched it on")
        applier = stage.processes["applier"]
        applier.ready.clear()
        os.kill(applier.pid, signal.SIGKILL)
        applier.ready.wait(10)
        expect_true(not stage.works(), "nothing is forwarded after the applier was killed")
        expect_true("runs again" in person.choose(8, ("Type yes", "yes")), "safe mode is left")
    wait_until(stage.works, 5, "permitted traffic passes again")


@story("a password is reset while control is dead, stands in the audit log, and opens the pages")
def password(stage):
    token = api.administrator(stage.lab)
    stage.lab.stop("control", number=signal.SIGKILL)
    with Rescue(stage.lab), Person(stage.lab) as person:
        said = person.choose(6, ("Whose password", api.USER), ("New password", NEW_PASSWORD), ("The same again", NEW_PASSWORD))
        expect_true("has a new password" in said, f"the console says that it did it: {said}")
        expect_true(NEW_PASSWORD not in said, "the password is not shown")
        stage.lab.start("control")
        wait_until(lambda: api._answers(stage.lab), 10, "the pages answer")
        with api.Connection(stage.lab) as connection:
            try:
                connection.ask("GET", "/status", token=token)
                raise AssertionError("what the old password had opened is still open")
            except api.Refusal as refusal:
                expect(refusal.status, 401, "a token from before")
        with api.Connection(stage.lab) as connection:
            token = connection.ask("POST", "/tokens", {"user": api.USER, "password": NEW_PASSWORD})["token"]
            entries = connection.ask("GET", "/audit?limit=20", token=token)
            expect_true(any(entry["action"] == "user.password-reset" and entry["user"] == "console" for entry in entries), "the reset is audited")
            expect_true(connection.ask("GET", "/audit/verify", token=token)["intact"], "the audit chain verifies")
        # As the other stories know it.
        person.choose(6, ("Whose password", api.USER), ("New password", api.PASSWORD), ("The same again", api.PASSWORD))


@story("with the applier killed and kept down the console says so, and the gate stands")
def applier_down(stage):
    stage.lab.stop("applier", number=signal.SIGKILL)
    with Rescue(stage.lab), Person(stage.lab) as person:
        said = person.read_until(PROMPT)
        expect_true("the applier is down" in said and "stays as it is" in said, said)
        person.type("8")
        person.read_until("NOT DONE: the applier is down")
        person.type("")
        expect(probes.tcp(stage.lan1, INET4, 443), probes.ANSWERED, "permitted traffic")
        expect(probes.tcp(stage.inet, "203.0.113.2", 443, timeout=1), probes.SILENT, "forbidden traffic")
        person.read_until(PROMPT)
        stage.lab.start("applier")
        person.type("")
        expect_true("Policy generation" in person.read_until(PROMPT), "the console sees it again")


@story("a hung applier hangs neither the console nor what does not need it")
def applier_hangs(stage):
    applier = stage.processes["applier"]
    os.kill(applier.pid, signal.SIGSTOP)
    try:
        with Rescue(stage.lab), Person(stage.lab) as person:
            expect_true("the applier hangs" in person.read_until(PROMPT, seconds=30), "the console says so")
            person.type("5")
            expect_true("mgmt0" in person.read_until("Which port"), "links are seen")
            person.type("")
    finally:
        os.kill(applier.pid, signal.SIGCONT)


@story("a database full of garbage is named, put aside, and the box set up again at the console")
def garbage(stage):
    api.administrator(stage.lab)
    path = os.path.join(stage.lab.state_dir, "control", "config.v1.db")
    stage.lab.stop("control", number=signal.SIGKILL)
    for name in ("config.v1.db-wal", "config.v1.db-shm"):
        if os.path.exists(os.path.join(os.path.dirname(path), name)):
            os.unlink(os.path.join(os.path.dirname(path), name))
    with open(path, "r+b") as file:
        file.write(os.urandom(8192))
    stage.lab.start("control")
    with Rescue(stage.lab), Person(stage.lab) as person:
        expect_true("the database cannot be used" in person.read_until(PROMPT), "the console says so")
        person.type("6")
        person.read_until("Choose 14 to begin a new one")
        person.type("")
        expect_true("A new database was begun" in person.choose(14, ("Type yes", "yes")), "a new one is begun")
        said = person.read_until(PROMPT)
        expect_true(f"https://192.168.77.1/ and type the code {stage.lab.one_time_code()}" in said, f"address and code are shown: {said}")
        # Without a restart of control.
        api.administrator(stage.lab)
        person.type("")
        expect_true("SET UP" not in person.read_until(PROMPT), "the code is gone once it was used")
    expect_true(stage.works(), "the policy stood all the time")


@story("the port for administration gets another address at the console, on trial, and it is reached there")
def network(stage):
    with Rescue(stage.lab), Person(stage.lab) as person:
        person.read_until(PROMPT)
        person.type("5")
        said = person.read_until("Which port")
        number = next(word for word, name in zip(said.split(), said.split()[1:]) if name == "mgmt0")
        person.type(number)
        for words, answer in (("Its zone", "mgmt"), ("Its address", "192.168.77.3/24"), ("The gateway", ""), ("Type yes", "yes")):
            person.read_until(words)
            person.type(answer)
        person.read_until("is on trial")
        person.type("")
        stage.admin.run("ping", "-c", "1", "-W", "3", "192.168.77.3", check=False)
        wait_until(lambda: _reaches(stage, "192.168.77.3"), 5, "the pages answer at the new address")
        expect_true("runs again" in person.choose(3), "the trial is ended")
    wait_until(lambda: _reaches(stage, "192.168.77.1"), 5, "the pages answer at the old address again")


def _reaches(stage, address):
    try:
        api.Connection(stage.lab, address=address, timeout=0.5).close()
        return True
    except OSError:
        return False
