"""The capture matrix: whatever breaks, whatever is sent, not one frame of a mapped client reaches the WAN."""

import contextlib
import os
import random
import signal
import threading
import time

import packets
from mapped import EXITS, ONE, connected, exit_of, is_leak, permitted, policy, set_the_stage, wait_permitted, without_mappings
from stage import INET4, INET6, LAN_MAC, wait_until
from stories import expect_true, story

LEAST_TRIALS = 2000
MARKER = b"MAPPED"
CLIENTS = {"lan1": ("192.168.2.10", "fd00:2::10"), "lan2": ("192.168.2.11", "fd00:2::11")}
# What a client may send; each in both families. A frame of each is sent again and again while something breaks.
KINDS = {
    "tcp": lambda source, target, sport: packets.tcp(source, target, sport, 80, packets.SYN),
    "tcp to a high port": lambda source, target, sport: packets.tcp(source, target, sport, 9001, packets.SYN),
    "dns over tcp": lambda source, target, sport: packets.tcp(source, target, sport, 53, packets.SYN),
    "dns over tls": lambda source, target, sport: packets.tcp(source, target, sport, 853, packets.SYN),
    "udp": lambda source, target, sport: packets.udp(source, target, sport, 9999, MARKER),
    "quic": lambda source, target, sport: packets.udp(source, target, sport, 443, b"\xc3\0\0\0\1" + MARKER + bytes(1180)),
    "dns": lambda source, target, sport: packets.udp(source, target, sport, 53, MARKER),
    "icmp": lambda source, target, sport: packets.echo(source, target, sport, 1, MARKER),
    # A header without a key, of version 0: what looks like version 1 and is none is invalid to conntrack and would never leave.
    "gre": lambda source, target, sport: packets.ip(source, target, 47, bytes([0, 0, 8, 0]) + MARKER + bytes(32)),
}


class Senders:
    """Both clients send every kind in both families, from ports that change; what was sent is counted."""

    def __init__(self, stage):
        self.floods = []
        for name, sources in CLIENTS.items():
            frames = [
                make(source, target, random.randrange(20000, 60000))
                for source, target in zip(sources, (INET4, INET6))
                for make in KINDS.values()
            ]
            self.floods.append(packets.Flood(packets.Wire(getattr(stage, name), "eth0", LAN_MAC), frames, rate=900))

    @property
    def sent(self):
        """Whole rounds of all kinds that every client has sent."""
        return min(flood.sent // (2 * len(KINDS)) for flood in self.floods)

    def __enter__(self):
        for flood in self.floods:
            flood.start()
        return self

    def __exit__(self, *_):
        for flood in self.floods:
            flood.__exit__()


class OpenFlows:
    """Connections through the upstream that are open when things break, send on, and are opened again when they end."""

    def __init__(self, stage):
        self.over, self.carried = False, 0
        places = [(getattr(stage, name), target) for name in CLIENTS for target in (INET4, INET6)]
        self.threads = [threading.Thread(target=self._run, args=place, daemon=True) for place in places]

    def _run(self, machine, target):
        while not self.over:
            with contextlib.suppress(OSError), connected(machine, target, timeout=0.5) as client:
                while not self.over:
                    client.sendall(MARKER * 20)
                    self.carried += len(client.recv(4096)) > 0
                    time.sleep(0.02)
            time.sleep(0.02)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        for thread in self.threads:
            thread.join()


# --- what breaks ---


@contextlib.contextmanager
def _upstreams_do(stage, before, after):
    proxies = [stage.lab.upstreams[name] for name in ("socks", "guarded", "spare")]
    for proxy in proxies:
        before(proxy)
    try:
        yield
    finally:
        for proxy in proxies:
            after(proxy)


def upstreams_killed(stage):
    return _upstreams_do(stage, lambda proxy: proxy.kill(), lambda proxy: proxy.start())


def upstreams_hung(stage):
    return _upstreams_do(stage, lambda proxy: proxy.pause(), lambda proxy: proxy.resume())


@contextlib.contextmanager
def upstreams_half_open(stage):
    """Nothing comes back, and nobody says so."""
    for name in EXITS:
        getattr(stage.lab, name).run("nft", "add table inet fault; add chain inet fault in { type filter hook input priority 0; policy drop; }")
    try:
        yield
    finally:
        for name in EXITS:
            getattr(stage.lab, name).run("nft", "delete table inet fault")


@contextlib.contextmanager
def upstreams_refuse(stage):
    rules = "add table inet fault; add chain inet fault in { type filter hook input priority 0; }; add rule inet fault in meta l4proto tcp reject with tcp reset"
    for name in EXITS:
        getattr(stage.lab, name).run("nft", rules)
    try:
        yield
    finally:
        for name in EXITS:
            getattr(stage.lab, name).run("nft", "delete table inet fault")


def authentication_fails(stage):
    return stage.lab.upstreams["guarded"].expecting("another-password")


@contextlib.contextmanager
def upstreams_slow(stage):
    """Awake for a tenth of the time."""
    over = threading.Event()
    proxies = [stage.lab.upstreams[name] for name in ("socks", "guarded", "spare")]

    def crawl():
        while not over.is_set():
            for proxy in proxies:
                proxy.pause()
            over.wait(0.18)
            for proxy in proxies:
                proxy.resume()
            over.wait(0.02)

    thread = threading.Thread(target=crawl, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _killed(name):
    @contextlib.contextmanager
    def fault(stage):
        process = stage.processes[name]
        process.ready.clear()
        process.send(signal.SIGKILL)
        yield
        process.wait_ready()

    return fault


@contextlib.contextmanager
def forwarder_hung(stage):
    stage.processes["forwarder"].send(signal.SIGSTOP)
    try:
        yield
    finally:
        stage.processes["forwarder"].send(signal.SIGCONT)


@contextlib.contextmanager
def forwarder_and_applier_killed(stage):
    both = [stage.processes[name] for name in ("forwarder", "applier")]
    for process in both:
        process.ready.clear()
        process.send(signal.SIGKILL)
    yield
    for process in both:
        process.wait_ready()


@contextlib.contextmanager
def policy_reloaded(stage):
    # Another rule, the same mappings.
    stage.become(policy(**{"- { name: box,": "- { name: no-mail, from: guest, to: wan, services: tcp/25, action: drop }\n    - { name: box,"}))
    yield
    stage.become(policy())


@contextlib.contextmanager
def mapping_edited(stage):
    stage.become(policy(**{ONE: "  upstream: spare\n  tcp: tproxy\n"}))
    yield
    stage.become(policy())


@contextlib.contextmanager
def gone_back(stage):
    stage.apply(policy(**{ONE: "  upstream: spare\n"}))
    yield
    stage.lab.cli("rollback")


@contextlib.contextmanager
def tables_flushed(stage):
    stage.box.run("nft", "flush", "ruleset", check=False)
    stage.box.run("nft", "delete", "table", "inet", "portcullis", check=False)
    yield


def _link_flaps(port):
    @contextlib.contextmanager
    def fault(stage):
        stage.box.ip("link", "set", port, "down")
        time.sleep(0.1)
        stage.box.ip("link", "set", port, "up")
        yield

    return fault


@contextlib.contextmanager
def restarted(stage):
    stage.lab.power_cut()
    stage.lab.plug_in()
    stage.lab.boot()
    yield


# Fault, how often, seconds that it lasts, whether the text of the fault itself takes longer.
FAULTS = [
    ("upstreams killed", upstreams_killed, 4, 0.6),
    ("upstreams hung", upstreams_hung, 4, 0.8),
    ("upstreams half-open", upstreams_half_open, 4, 0.8),
    ("upstreams refuse", upstreams_refuse, 4, 0.6),
    ("authentication fails", authentication_fails, 4, 0.5),
    ("upstreams slow", upstreams_slow, 4, 0.8),
    ("forwarder killed", _killed("forwarder"), 6, 0.5),
    ("forwarder hung", forwarder_hung, 4, 0.5),
    ("applier killed", _killed("applier"), 6, 0.5),
    ("control killed", _killed("control"), 2, 0.3),
    ("forwarder and applier killed", forwarder_and_applier_killed, 4, 0.5),
    ("policy reloaded", policy_reloaded, 2, 0.2),
    ("mapping edited", mapping_edited, 2, 0.2),
    ("gone back", gone_back, 2, 0.2),
    ("tables flushed by an outsider", tables_flushed, 3, 0.5),
    ("link to the clients flaps", _link_flaps("lan0"), 3, 0.3),
    ("link to the internet flaps", _link_flaps("wan0"), 3, 0.3),
    ("box restarted", restarted, 2, 0.5),
]


def _round(stage, fault, seconds):
    """One fault while everything is sent; None when nothing was sent meanwhile, which is no trial."""
    senders_before = stage.senders.sent
    with fault(stage):
        wait_until(lambda: stage.senders.sent > senders_before, 5, "every kind was sent during the fault")
        time.sleep(seconds)
    stage.lab.upstreams.ready()


@story(f"in every fault, with every kind of traffic over both families, not one frame of a mapped client reaches the WAN in {LEAST_TRIALS} trials")
def capture(stage):
    random.seed(os.environ.get("SEED") or 20261128)
    set_the_stage(stage)
    # One trial: one kind of traffic of one client in one family, sent while one fault was there; and the four open connections.
    each = len(KINDS) * 2 * len(CLIENTS) + 2 * len(CLIENTS)
    trials, leaks, effective = 0, [], 0
    with packets.Capture(stage.inet, is_leak) as seen, Senders(stage) as stage.senders, OpenFlows(stage) as flows:
        for name, fault, times, seconds in _shuffled(FAULTS):
            # In effect before it breaks, or the fault would have nothing to break.
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: permitted(stage, "one", "two"), 8, "let in")
                effective += 1
            before = len(seen.frames)
            _round(stage, fault, seconds)
            trials += each
            if len(seen.frames) > before:
                leaks.append(f"{name}: {len(seen.frames) - before}, the first {seen.frames[before][:48].hex()}")
        carried = flows.carried
        rounds = stage.senders.sent
        wait_permitted(stage, "one", "two", seconds=45)
    expect_true(not leaks, f"leaks: {leaks}")
    expect_true(not seen.frames, f"{len(seen.frames)} frames of mapped clients reached the WAN")
    count = sum(times for _, _, times, _ in FAULTS)
    expect_true(trials >= LEAST_TRIALS and effective > 0.8 * count, f"{trials} trials; the mappings were in effect before {effective} of {count} faults")
    expect_true(carried > 100, f"open connections carried {carried} times")
    expect_true(exit_of(stage.lan1) == EXITS["up1"][0], "lan1 is carried afterwards")
    return f"{trials} trials in {count} faults, {rounds * each} frames, 0 leaks; open connections carried {carried} times"


def _shuffled(faults):
    each = [(name, fault, times, seconds) for name, fault, times, seconds in faults for _ in range(times)]
    random.shuffle(each)
    return each


@story("with the protection taken away the same capture sees every kind of the same traffic, so it can see")
def control_run(stage):
    set_the_stage(stage)
    wanted = {(name, family) for name in KINDS for family in (4, 6)}
    # First the mappings alone are gone: the rules let everybody out, as they did all the time.
    stage.become(without_mappings())
    with packets.Capture(stage.inet, is_leak) as seen, Senders(stage):
        wait_until(lambda: _kinds(seen.frames) >= wanted or len(seen.frames) > 20_000, 10, "frames leak without mappings")
    missing = wanted - _kinds(seen.frames)
    expect_true(not missing, f"the capture never saw {sorted(missing)}")
    # Then everything else: no table, no rule for packets without the mark, and the applier dead.
    stage.become(policy())
    stage.lab.stop("applier", number=signal.SIGKILL)
    try:
        stage.box.run("nft", "delete", "table", "inet", "portcullis")
        for family in ("-4", "-6"):
            stage.box.ip(family, "rule", "del", "pref", "100")
        with packets.Capture(stage.inet, is_leak) as bare, Senders(stage):
            wait_until(lambda: _kinds(bare.frames) >= wanted, 10, "frames leak without any protection")
    finally:
        stage.lab.start("applier")
    return f"{len(seen.frames)} and {len(bare.frames)} leaks seen, of all {len(wanted)} kinds"


def _kinds(frames):
    """Which kinds of traffic these frames are, by protocol and port."""
    found = set()
    for frame in frames[-5000:]:
        family = frame[0] >> 4
        protocol, payload = (frame[6], frame[40:]) if family == 6 else (frame[9], frame[(frame[0] & 15) * 4:])
        port = int.from_bytes(payload[2:4], "big")
        name = {
            (6, 80): "tcp", (6, 9001): "tcp to a high port", (6, 53): "dns over tcp", (6, 853): "dns over tls",
            (17, 9999): "udp", (17, 443): "quic", (17, 53): "dns",
        }.get((protocol, port)) or {1: "icmp", 58: "icmp", 47: "gre"}.get(protocol)
        if name:
            found.add((name, family))
    return found
