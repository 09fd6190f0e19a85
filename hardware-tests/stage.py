"""What a story can use: a lab whose box runs the stories' policy, and words to change and to watch it."""

import contextlib
import json
import os
import time

import packets
import probes
from namespaces import wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
OFFICE = os.path.join(HERE, "policies", "office.yaml")

INET4, INET6 = "198.51.100.10", "2001:db8:51::10"
BOX_WAN4, BOX_WAN6 = "203.0.113.2", "2001:db8:113::2"
LAN_MAC, WAN_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01"


class Stage:
    def __init__(self, lab):
        self.lab = lab

    def __getattr__(self, name):
        # box, inet, lan1, lan2, guest, admin, processes: the lab's own.
        return getattr(self.lab, name)

    # --- policies ---

    def office(self, **replacements):
        """The stories' policy, with pieces of its text replaced; a piece that is not in it is the story's mistake."""
        with open(OFFICE) as file:
            text = file.read()
        for old, new in replacements.items():
            if old not in text:
                raise ValueError(f"{old!r} is not in {OFFICE}")
            text = text.replace(old, new)
        return text

    def apply(self, text, within=60):
        """On trial, over the console; returns what the applier answered."""
        return json.loads(self.lab.cli("apply", "--yes", "--json", "--confirm-within", str(within), "-", text_input=text))

    def become(self, text):
        """Applied and kept."""
        answer = self.apply(text)
        self.lab.cli("confirm", str(answer["generation"]))
        return answer

    def begin(self):
        """The state in which every story finds the box."""
        for process in self.processes.values():
            if not process.alive:
                self.lab.start(process.name)
        status = self.status()
        if status["trial"]:
            self.lab.cli("rollback")
        running = self.lab.cli("sources", "--json", check=False)
        if not running or list(json.loads(running).values()) != [self.office()]:
            self.become(self.office())
        self.wait_for_ipv6()

    def wait_for_ipv6(self):
        # Duplicate address detection takes a second or two after a link came up (RFC 4862 section 5.4).
        wait_until(lambda: "tentative" not in self.box.ip("-6", "address", "show"), 10, "IPv6 addresses of the box are usable")

    # --- watching ---

    def status(self):
        return json.loads(self.lab.cli("status", "--json"))

    def counters(self):
        return json.loads(self.lab.cli("counters", "--json"))["rules"]

    @contextlib.contextmanager
    def counted(self, rule, at_least=1):
        """The block makes the rule's counter grow."""
        before = self.counters().get(rule, {"packets": 0})["packets"]
        yield
        grown = self.counters().get(rule, {"packets": 0})["packets"] - before
        if grown < at_least:
            raise AssertionError(f"counter {rule} grew by {grown}, expected at least {at_least}")

    def works(self):
        """Permitted traffic passes, right now."""
        return probes.tcp(self.lan1, INET4, 443, timeout=0.3) == probes.ANSWERED

    @contextlib.contextmanager
    def nothing_arrives(self, where, marker, settle=0.1):
        """No frame that carries the marker arrives in the namespace during the block and shortly after."""
        with packets.Capture(where, packets.carries(marker)) as capture:
            yield capture
            time.sleep(settle)
            frames = capture.stop()
        if frames:
            raise AssertionError(f"{len(frames)} forbidden frames arrived in {where.name}, the first: {frames[0].hex()}")
