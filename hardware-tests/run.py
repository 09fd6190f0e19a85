#!/usr/bin/env python3
"""Tells the stories to a target and counts: `hardware-tests/run.py [AREA or AREA.STORY ...]`."""

import argparse
import os
import sys
import time
import traceback

from lab import Lab
from qemulab import QemuLab
from stage import Stage
from stories import all_stories


TARGETS = {"lab": Lab, "qemu": QemuLab}


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help="an area (filter) or a story (filter.permitted); all without one")
    options.add_argument("--target", choices=("lab", "qemu"), default="lab", help="to whom: the box's processes in a namespace, or the image in QEMU")
    options.add_argument("--prefix", default=f"pt{os.getpid()}", help="name of the lab; each run has its own otherwise")
    options.add_argument("--binaries", default="target/debug", help="where the box's programs are")
    options.add_argument("--list", action="store_true", help="only list the stories")
    options = options.parse_args()

    stories = [(name, sentence, tell) for name, sentence, tell in all_stories(options.target) if wanted(name, options.names)]
    if options.list or not stories:
        print("\n".join(f"{name:32} {sentence}" for name, sentence, _ in stories) or "no such story")
        return 0 if stories else 2

    failed, again = [], []
    with TARGETS[options.target](prefix=options.prefix, binaries=options.binaries) as lab:
        lab.boot()
        for name, sentence, tell in stories:
            if told(lab, name, sentence, tell):
                continue
            # The machine is shared: a story may fail once for want of time. It is named, and told once more.
            again.append(name)
            failed += [] if told(lab, name, sentence, tell) else [name]
    if held := [name for name in again if name not in failed]:
        print("held only when told again: " + " ".join(held))
    if failed:
        print("failed: " + " ".join(failed))
    print(f"{len(stories) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def wanted(name, chosen):
    return not chosen or any(name == choice or name.startswith(choice + ".") for choice in chosen)


def told(lab, name, sentence, tell):
    begin = time.monotonic()
    mark = lab.log_marks()
    try:
        stage = Stage(lab)
        stage.begin()
        note = tell(stage)
    except Exception:  # whatever it was: the story did not end well, and the next one shall be told
        print(f"not ok  {sentence}  [{name}]")
        print("    " + traceback.format_exc().replace("\n", "\n    "))
        print("    " + lab.logs_since(mark).replace("\n", "\n    "), flush=True)
        return False
    print(f"ok  {sentence}  ({time.monotonic() - begin:.1f} s{'; ' + note if note else ''})", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
