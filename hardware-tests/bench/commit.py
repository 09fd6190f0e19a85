#!/usr/bin/env python3
"""`scripts/bench commit`: a full commit (request to read-back) and a full go-back of 1,000 rules, through the real applier of a lab.

Round by round: ours puts the other of two policies on trial and goes back, then `nft -f` loads the same rules into a namespace of its own.
Medians over the rounds; the ratio is the median of the rounds' ratios.
"""

import argparse
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from applier_socket import ApplierSocket  # noqa: E402
from lab import Lab  # noqa: E402
from namespaces import Namespace  # noqa: E402
from stage import OFFICE  # noqa: E402

CONSOLE = {"name": "console", "address": None, "connectedAt": None}


def policy(rules, variant):
    """The stories' office with that many more rules: half of them exact (they share a map), half with ranges and logs."""
    lines = []
    for number in range(rules):
        host = f"10.{variant}.{number // 250}.{number % 250 + 1}"
        if number % 2:
            lines.append(f"    - {{ name: r{number}, from: lan, to: wan, destinations: {host}, services: tcp/{1000 + number}, action: accept }}")
        else:
            lines.append(f"    - {{ name: r{number}, from: lan, to: wan, destinations: {host}-10.{variant}.255.255, services: 'udp/{1000 + number}-{1004 + number}', action: drop, log: true }}")
    with open(OFFICE) as office:
        text = office.read()
    many = "\n".join(lines)
    return f"{text}---\napiVersion: portcullis/v1\nkind: FirewallPolicy\nmetadata: {{ name: many }}\nspec:\n  order: 200\n  rules:\n{many}\n"


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--rules", type=int, default=1000)
    options.add_argument("--binaries", default="target/release")
    options = options.parse_args()
    with Lab(prefix=f"pb{os.getpid()}", binaries=options.binaries) as lab:
        lab.boot()
        texts = [policy(options.rules, variant) for variant in (1, 2)]
        digests = [lab.cli("plan", "--digest", "-", text_input=text).strip() for text in texts]
        script = lab.cli("plan", "--ruleset", "-", text_input=texts[1])
        lab.cli("apply", "--yes", "-", text_input=texts[0])
        lab.cli("confirm")
        rounds = [one_round(lab, texts[1], digests[1], script) for _ in range(options.rounds)]
        report(lab, rounds, options.rules)


def one_round(lab, text, digest, script):
    applier = ApplierSocket(lab)
    begin = time.perf_counter()
    applied = applier.ask("apply", sources={"stdin.yaml": text}, digest=digest, confirmWithin=60, by=CONSOLE)
    commit = time.perf_counter() - begin
    if applied["response"] != "onTrial":
        raise RuntimeError(f"the applier answered {str(applied)[:400]}")
    begin = time.perf_counter()
    back = applier.ask("goBack", generation=None, by=CONSOLE)
    go_back = time.perf_counter() - begin
    if back["response"] != "wentBack":
        raise RuntimeError(f"the applier answered {str(back)[:400]}")
    applier.close()
    return {"commit": commit, "go back": go_back, "nft -f": nft(lab, script), "phases": applied["phases"]}


def nft(lab, script):
    peer = Namespace(f"{lab.prefix}-nft").create()
    command = ("nft", "-f", "-")
    begin = time.perf_counter()
    peer.run(*command, text_input=script)
    took = time.perf_counter() - begin
    peer.destroy()
    return took


def report(lab, rounds, rules):
    median = statistics.median
    print(f"commit: {rules} rules on top of the office policy, {len(rounds)} rounds, medians (range)")
    for what in ("commit", "go back", "nft -f"):
        times = [1000 * one[what] for one in rounds]
        ratio = median(one[what] / one["nft -f"] for one in rounds)
        note = "" if what == "nft -f" else f"   {ratio:.2f} times `nft -f` alone"
        print(f"  {what:8} {median(times):8.1f} ms  ({min(times):.1f}-{max(times):.1f}){note}")
    for phase in rounds[0]["phases"]:
        print(f"    of the commit, {phase:12} {median(one['phases'][phase] for one in rounds) / 1000:8.1f} ms")
    print("resident memory afterwards:")
    for name, process in lab.processes.items():
        if process.alive:
            print(f"  {name:10} {process.resident() / 1024:6.1f} MiB")


if __name__ == "__main__":
    main()
