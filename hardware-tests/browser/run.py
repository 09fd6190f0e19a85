#!/usr/bin/env python3
"""Walks the pages in headless Chromium, against a lab with the real processes: `hardware-tests/browser/run.py [WALK ...]`.

Playwright and axe-core come from PyPI into the user's cache at the first run; Chromium is the system's own.
"""

import argparse
import os
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
# Outside of the clone, so that the next one need not ask for it again.
VENV = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "portcullis", "browser-venv")
# axe-playwright-python carries axe-core's axe.min.js, so that no second package manager is needed.
PACKAGES = ["playwright==1.65.2", "axe-playwright-python==0.1.8"]


def main():
    in_venv()
    sys.path.insert(0, os.path.dirname(HERE))
    from lab import Lab
    from people import Browser
    from stage import Stage
    import walks

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", metavar="WALK", help="only these; the first one, set_up, always comes first")
    options.add_argument("--prefix", default=f"pw{os.getpid()}")
    options.add_argument("--binaries", default="target/debug")
    options.add_argument("--pictures", metavar="DIR", help="where to put a picture of each page, in both themes and narrow")
    options = options.parse_args()

    chosen = [walk for walk in walks.ALL if not options.names or walk is walks.ALL[0] or walk.__name__ in options.names]
    failed = 0
    with Lab(prefix=options.prefix, binaries=options.binaries) as lab:
        lab.boot()
        stage = Stage(lab)
        stage.become(stage.office())
        stage.wait_for_ipv6()
        with Browser(lab, options.pictures) as browser:
            for walk in chosen:
                if went_well(walk, stage, browser, lab):
                    continue
                # The machine is shared: a walk may fail once for want of time. A box is set up only once.
                if walk is not walks.ALL[0] and went_well(walk, stage, browser, lab):
                    print(f"held only when walked again: {walk.__name__}")
                    continue
                failed += 1
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


def went_well(walk, stage, browser, lab):
    begin = time.monotonic()
    marks = {process.name: len(process.log()) for process in lab.processes.values()}
    try:
        note = walk(stage, browser)
    except Exception as error:  # whatever it was, the next walk shall be made
        # Playwright appends the whole page; the picture tells that better.
        what = str(error).partition("Aria snapshot")[0].strip().replace("\n", "\n    ")
        where = [frame for frame in traceback.extract_tb(error.__traceback__) if os.path.dirname(frame.filename) == HERE][-1]
        print(f"not ok  {walk.__doc__}  [{walk.__name__}]\n    line {where.lineno}: {where.line}\n    {type(error).__name__}: {what}")
        for process in lab.processes.values():
            if new := process.log()[marks[process.name]:].strip():
                print(f"    {process.name} wrote:\n        " + "\n        ".join(new.splitlines()[-8:]))
        browser.leave_picture(walk.__name__)
        return False
    finally:
        browser.close_pages()
    print(f"ok  {walk.__doc__}  ({time.monotonic() - begin:.1f} s{'; ' + note if note else ''})", flush=True)
    return True


def in_venv():
    """Continues inside the virtual environment, made if it is missing or older than what is asked for."""
    python = os.path.join(VENV, "bin", "python")
    stamp = os.path.join(VENV, "packages")
    wanted = "\n".join(PACKAGES)
    if not os.path.exists(stamp) or open(stamp).read() != wanted:
        print("Installing Playwright and axe-core ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
        with open(stamp, "w") as file:
            file.write(wanted)
    if os.path.abspath(sys.prefix) != VENV:
        os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
