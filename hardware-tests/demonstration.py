#!/usr/bin/env python3
"""What `scripts/run` shows: the lab with the example policy, real packets through it, and the address of the pages."""

import argparse
import os
import signal
import sys

import probes
from lab import Lab
from probes import ANSWERED, PROHIBITED, REFUSED, SILENT
from stage import Stage

EXAMPLE = "examples/small-office.yaml"

# From, to, what, expected.
TRIES = (
    ("lan1", "198.51.100.10", "tcp/443", ANSWERED),
    ("lan1", "2001:db8:51::10", "tcp/443", ANSWERED),
    ("lan2", "198.51.100.10", "udp/53", ANSWERED),
    ("guest", "198.51.100.10", "tcp/443", ANSWERED),
    ("inet", "203.0.113.2", "tcp/8080", ANSWERED),
    ("lan1", "198.51.100.10", "tcp/22", SILENT),
    ("lan1", "2001:db8:51::10", "udp/9999", SILENT),
    ("lan1", "192.0.2.53", "tcp/443", REFUSED),
    ("guest", "192.168.2.10", "tcp/80", REFUSED),
    ("guest", "fd00:2::10", "udp/53", PROHIBITED),
    ("guest", "192.168.77.1", "tcp/443", SILENT),
    ("inet", "203.0.113.2", "tcp/443", SILENT),
    ("inet", "192.168.2.10", "tcp/80", SILENT),
)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--prefix", default="pc")
    options.add_argument("--binaries", default="target/release")
    options.add_argument("--check", action="store_true", help="leave after the demonstration")
    options = options.parse_args()
    try:
        with Lab(prefix=options.prefix, binaries=options.binaries, admin_is_this_machine=options.prefix == "pc") as lab:
            good = demonstrate(lab)
            if not options.check:
                wait(lab)
    except KeyboardInterrupt:
        print("\nThe lab is gone.")
        return 0
    return 0 if good else 1


def demonstrate(lab):
    print("Starting the box ...")
    lab.boot()
    example = os.path.join(lab.root, EXAMPLE)
    print(f"Applying {EXAMPLE} ...")
    print(indented(lab.cli("apply", "--yes", example)))
    print(indented(lab.cli("confirm")))
    Stage(lab).wait_for_ipv6()

    print(f"\n{'from':6} {'to':16} {'what':8} {'expected':10} seen")
    good = True
    for source, target, what, expected in TRIES:
        kind, _, port = what.partition("/")
        answer = getattr(probes, kind)(getattr(lab, source), target, int(port))
        print(f"{source:6} {target:16} {what:8} {expected:10} {answer}{'' if answer == expected else '   <-- WRONG'}{' (' + answer.text + ')' if answer.text else ''}")
        good = good and answer == expected
    print("\nEverything as the policy says." if good else "\nNot as the policy says!")
    return good


def wait(lab):
    print(f"""
The pages:          https://192.168.77.1/   (the certificate is the lab's own)
The one-time code:  {lab.one_time_code()}
A client's view:    ip netns exec {lab.lan1.name} curl -m2 http://198.51.100.10/
The console:        {os.path.relpath(lab.binaries)}/portcullis --run-dir {lab.run_dir} status
The logs:           {lab.log_dir}/

Ctrl-C takes everything away again.""", flush=True)
    while True:
        signal.pause()


def indented(text):
    return "".join(f"  {line}\n" for line in text.splitlines()).rstrip()


if __name__ == "__main__":
    sys.exit(main())
