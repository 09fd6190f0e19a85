"""The stories that a box has to live through, told by target. Each is one sentence and one function."""

import importlib

AREAS = ("filter", "nat", "hygiene", "change", "lockout", "front", "schedule", "restore", "drift", "reload", "kill", "proxy", "matrix", "churn", "console")
# What is told to the image in QEMU: what the image is for, and the foundation's stories as far as they ask nothing of the box that its console does
# not give. An area, or single stories of one.
IMAGE = ("image", "confined.enforced", "filter", "nat", "hygiene.scans_control", "hygiene.invalid", "hygiene.packet_too_big", "hygiene.spoofed", "change.goes_back",
         "change.confirmed_stays", "change.refused", "restore.killed_on_trial", "kill.control_run",
         "confined.nothing_denied", "confined.nobody_was_ended", "confined.shadow", "power")

_stories = []


class Untrue(AssertionError):
    """The story did not end as its sentence says."""


def story(sentence):
    """Registers a function of one argument, the stage on which the story plays."""

    def register(function):
        _stories.append((f"{function.__module__.rpartition('.')[2]}.{function.__name__}", sentence, function))
        return function

    return register


def all_stories(target="lab"):
    """In the order in which they are told."""
    names = AREAS if target == "lab" else IMAGE
    told = []
    for name in names:
        area = name.partition(".")[0]
        importlib.import_module(f"stories.{area}")
        # Some areas import others, whose stories have their own turn.
        told += [entry for entry in _stories if entry[0] == name or name == area and entry[0].startswith(area + ".")]
    return told


def expect(seen, wanted, what):
    if seen != wanted:
        raise Untrue(f"{what}: expected {wanted!r}, saw {seen!r}")


def expect_true(condition, what):
    if not condition:
        raise Untrue(what)
