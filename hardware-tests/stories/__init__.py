"""The stories that a box has to live through, told by target. Each is one sentence and one function."""

import importlib

AREAS = ("filter", "nat", "hygiene", "change", "lockout", "front", "schedule", "restore", "drift", "reload", "kill", "proxy", "matrix", "churn", "console")

_stories = []


class Untrue(AssertionError):
    """The story did not end as its sentence says."""


def story(sentence):
    """Registers a function of one argument, the stage on which the story plays."""

    def register(function):
        _stories.append((f"{function.__module__.rpartition('.')[2]}.{function.__name__}", sentence, function))
        return function

    return register


def all_stories():
    for area in AREAS:
        importlib.import_module(f"stories.{area}")
    return list(_stories)


def expect(seen, wanted, what):
    if seen != wanted:
        raise Untrue(f"{what}: expected {wanted!r}, saw {seen!r}")


def expect_true(condition, what):
    if not condition:
        raise Untrue(what)
