"""Mapped clients: carried through their upstream, or not at all."""

import contextlib
import signal
import socket
import statistics
import threading
import time

import packets
import probes
from internet import ANSWER, DOH_PORT, question
from mapped import (
    EXITS, ONE, ask_forwarder, connected, effects, exit_of, fetch, is_leak, permitted, policy, reason, set_secret, set_the_stage, wait_permitted,
)
from stage import INET4, INET6, LAN_MAC, wait_until
from stories import expect, expect_true, story
from upstreams import PASSWORD

TRIALS = 20
RESOLVER = "192.0.2.53"


@story("mapped clients come out at their upstream over both families, and everybody else as before")
def carried(stage):
    set_the_stage(stage)
    for machine, name in ((stage.lan1, "up1"), (stage.lan2, "up1")):
        expect(exit_of(machine), EXITS[name][0], f"{machine.name} over IPv4")
        expect(exit_of(machine, INET6), EXITS[name][1], f"{machine.name} over IPv6")
    expect(exit_of(stage.guest), "203.0.113.2", "the guest, who is not mapped")
    with packets.Capture(stage.inet, is_leak) as capture:
        fetch(stage.lan1, 20_000_000)
        fetch(stage.lan2, 5_000_000, INET6)
    expect(len(capture.frames), 0, "frames of mapped clients at the WAN")


@story("what their upstream cannot carry goes nowhere: ICMP, UDP, other protocols")
def nothing_else(stage):
    set_the_stage(stage)
    with packets.Capture(stage.inet, is_leak) as capture:
        for machine in (stage.lan1, stage.lan2):
            expect(probes.ping(machine, INET4, timeout=0.3) + probes.ping(machine, INET6, timeout=0.3), 0, "echo replies")
            for target in (INET4, INET6):
                for port in (53, 123, 443, 9999):
                    expect_true(probes.udp(machine, target, port, timeout=0.15) != probes.ANSWERED, f"UDP {port} is not answered")
        wire = packets.Wire(stage.lan1, "eth0", LAN_MAC)
        for protocol in (47, 50, 132):
            wire.send(packets.ip("192.168.2.10", INET4, protocol, bytes(64)))
            wire.send(packets.ip("fd00:2::10", INET6, protocol, bytes(64)))
        wire.close()
        time.sleep(0.2)
    expect(len(capture.frames), 0, "frames of mapped clients at the WAN")


@story("an HTTP proxy carries TCP with CONNECT")
def http_connect(stage):
    set_the_stage(stage, policy(**{ONE: "  upstream: http\n"}))
    expect(exit_of(stage.lan1), EXITS["up1"][0], "lan1 through tinyproxy")
    fetch(stage.lan1, 5_000_000)


@story("UDP is carried by an upstream that can, and its answers come from where they were asked")
def udp(stage):
    set_the_stage(stage, policy(**{ONE: "  upstream: datagrams\n"}))
    answer = probes.udp(stage.lan1, INET4, 9999, timeout=3)
    expect((str(answer), answer.text), (probes.ANSWERED, f"inet saw {EXITS['up1'][0]}"), "UDP through dante")
    expect(exit_of(stage.lan1), EXITS["up1"][0], "TCP through dante")
    for _ in range(20):
        expect(str(probes.udp(stage.lan1, INET4, 9999, timeout=2)), probes.ANSWERED, "more datagrams")


def _resolve(stage, timeout=3.0):
    with stage.lan1.inside():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(timeout)
        client.connect((RESOLVER, 53))
        client.send(question("portal.example.net"))
        try:
            return client.recv(4096)
        except OSError:
            return b""


@story("names: not at all, over TCP through the upstream, or over HTTPS through it, as the mapping says")
def names(stage):
    set_the_stage(stage)
    with packets.Capture(stage.inet, is_leak) as capture:
        expect(_resolve(stage, 0.4), b"", "an answer in mode drop")
        expect_true(exit_of(stage.lan1, INET4, 853, 0.4) in (probes.SILENT, probes.REFUSED), "DNS over TLS is dropped")
        stage.become(policy(**{ONE: ONE + "  dns: proxied\n"}))
        wait_permitted(stage, "one")
        expect_true(socket.inet_aton(ANSWER) in _resolve(stage), "an answer in mode proxied")
        authority = "".join(f"    {line}\n" for line in stage.lab.internet.authority.splitlines())
        stub = f"  dns: dohStub\n  dohUrl: https://dns.example.net:{DOH_PORT}/dns-query\n  dohServer: 198.51.100.10\n  dohAuthority: |\n{authority}"
        stage.become(policy(**{ONE: ONE + stub}))
        wait_permitted(stage, "one")
        expect_true(socket.inet_aton(ANSWER) in _resolve(stage, 5), "an answer in mode dohStub")
    expect(len(capture.frames), 0, "frames of mapped clients at the WAN")


class _Asking:
    """A client that goes on connecting, as browsers do; its failures are what tells the forwarder first."""

    def __init__(self, machine):
        self.machine, self.over, self.answers = machine, False, 0

    def __enter__(self):
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def _run(self):
        while not self.over:
            self.answers += exit_of(self.machine, timeout=0.5) == EXITS["up1"][0]
            time.sleep(0.005)

    def wait_carried(self):
        """A client that was shut out needs its own time to come back: until then nobody would notice anything."""
        answers = self.answers
        wait_until(lambda: self.answers > answers, 10, "the client is carried")

    def __exit__(self, *_):
        self.over = True
        self.thread.join()


def _spread(times):
    ordered = sorted(times)
    return f"p50 {statistics.median(ordered) * 1000:.0f} ms, p99 {ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000:.0f} ms"


@story(f"an upstream that is killed blocks its clients within a second, and they are back within two of its return, {TRIALS} times over")
def blocked_and_back(stage):
    set_the_stage(stage)
    upstream, blocked, back = stage.lab.upstreams["socks"], [], []
    with packets.Capture(stage.inet, is_leak) as capture, _Asking(stage.lan1) as client:
        for trial in range(TRIALS):
            wait_permitted(stage, "one")
            client.wait_carried()
            # At once after a good probe, and later.
            time.sleep(0.02 * trial)
            upstream.kill()
            blocked.append(wait_until(lambda: not permitted(stage, "one"), 5, "the mapping is blocked"))
            expect(reason(stage, "one"), "upstreamDown", "the reason")
            upstream.start()
            back.append(wait_until(lambda: permitted(stage, "one"), 10, "the mapping is let in again"))
    expect(len(capture.frames), 0, "frames of mapped clients at the WAN")
    told = f"blocked after {_spread(blocked)}; back after {_spread(back)}"
    expect_true(max(blocked) <= stage.lab.seconds(1) and max(back) <= stage.lab.seconds(2), told)
    return told


@story(f"an upstream that dies under an open connection blocks its client as soon as the connection is used, {TRIALS} times over")
def blocked_by_reset(stage):
    set_the_stage(stage)
    upstream, blocked = stage.lab.upstreams["socks"], []
    with packets.Capture(stage.inet, is_leak) as capture:
        for trial in range(TRIALS):
            wait_permitted(stage, "one")
            client = connected(stage.lan1)
            client.sendall(b"hello")
            expect(client.recv(16), b"hello", "the echo")
            time.sleep(0.02 * trial)
            upstream.kill()
            with contextlib.suppress(OSError):
                for _ in range(3):
                    client.sendall(b"still there?")
                    time.sleep(0.001)
            blocked.append(wait_until(lambda: not permitted(stage, "one"), 5, "the mapping is blocked"))
            client.close()
            upstream.start()
    expect(len(capture.frames), 0, "frames of mapped clients at the WAN")
    told = f"blocked after {_spread(blocked)}"
    expect_true(max(blocked) <= stage.lab.seconds(1), told)
    return told


@story("when a group's first member dies the next carries, and the first again after its return")
def failover(stage):
    set_the_stage(stage)
    expect(exit_of(stage.lan2), EXITS["up1"][0], "lan2 by the first member")
    stage.lab.upstreams["guarded"].kill()
    took = wait_until(lambda: exit_of(stage.lan2, timeout=1) == EXITS["up2"][0], 5, "lan2 is carried by the second")
    expect_true(permitted(stage, "two"), "the group stays let in")
    stage.lab.upstreams["guarded"].start()
    wait_until(lambda: exit_of(stage.lan2, timeout=1) == EXITS["up1"][0], 10, "lan2 is carried by the first again")
    expect_true(took <= stage.lab.seconds(1), f"the second carried after {took:.2f} s")
    return f"{took * 1000:.0f} ms until the second carried"


@story("a mapping to a dead upstream is refused with its reason, and nothing changes")
def gate(stage):
    set_the_stage(stage)
    stage.lab.upstreams["http"].kill()
    before = stage.status()["running"]["digest"]
    answer = stage.lab.cli("apply", "--yes", "-", check=False, text_input=policy(**{ONE: "  upstream: http\n"}), errors=True)
    expect_true("one" in answer and "http" in answer, f"the reason names mapping and upstream: {answer}")
    status = stage.status()
    expect((status["running"]["digest"], status["trial"]), (before, None), "what runs")
    expect(exit_of(stage.lan1), EXITS["up1"][0], "lan1 afterwards")
    # The exit is asked for too, not only whether there is one.
    elsewhere = policy(**{ONE: "  upstream: spare\n", "address: 100.64.2.10, port: 1080,": 'address: 100.64.2.10, port: 1080, expectExit: 192.0.2.0/24,'})
    answer = stage.lab.cli("apply", "--yes", "-", check=False, text_input=elsewhere, errors=True)
    expect_true(EXITS["up2"][0] in answer, f"the reason names the exit: {answer}")


@story("without its secret an upstream carries nobody; with a wrong one neither; with the right one it does")
def secrets(stage):
    set_the_stage(stage)
    set_secret(stage, "lab", "wrong")
    stage.lab.upstreams["spare"].kill()
    # Nobody uses the second of the group, so its death shows at the next round, or when somebody asks.
    stage.lab.cli("proxy", "probe", check=False)
    wait_until(lambda: not permitted(stage, "two"), 10, "two is blocked by a wrong password")
    set_secret(stage, "lab", "")
    wait_until(lambda: reason(stage, "two") in ("secretMissing", "upstreamDown"), 10, "two is blocked without one")
    set_secret(stage, "lab", PASSWORD)
    took = wait_permitted(stage, "two", seconds=45)
    return f"let in {took:.1f} s after the right one"


@story("a quota that is spent blocks its mapping and no other")
def quota(stage):
    set_the_stage(stage)
    # Other stories of this day have used some of it.
    limit = effects(stage)["one"]["today"] // 1_000_000 + 3
    set_the_stage(stage, policy(**{ONE: ONE + f"  dailyMb: {limit}\n"}))
    expect(effects(stage)["one"]["daily"], limit * 1_000_000, "the limit in bytes")
    with contextlib.suppress(OSError):  # The flow ends when the quota does.
        fetch(stage.lan1, 12_000_000, timeout=5)
    wait_until(lambda: reason(stage, "one") == "dailyQuota", 5, "the reason is the quota")
    expect_true(exit_of(stage.lan1, timeout=0.5) in (probes.SILENT, probes.REFUSED), "lan1 is blocked")
    expect(exit_of(stage.lan2), EXITS["up1"][0], "lan2 goes on")


@story("a mapping's speed is what it says, downwards and for it alone")
def shaping(stage):
    set_the_stage(stage, policy(**{ONE: ONE + "  downMbit: 8\n  upMbit: 8\n"}))
    slow = 2_500_000 * 8 / fetch(stage.lan1, 2_500_000) / 1e6
    fast = 10_000_000 * 8 / fetch(stage.lan2, 10_000_000) / 1e6
    expect_true(4 < slow < 10, f"lan1 gets {slow:.1f} Mbit/s of 8")
    expect_true(fast > 20, f"lan2 gets {fast:.1f} Mbit/s")
    return f"{slow:.1f} of 8 Mbit/s, the other client {fast:.0f}"


@story("with strict output nobody on the box but the forwarder reaches an upstream, even where a rule lets the box out")
def strict_output(stage):
    set_the_stage(stage, policy(**{"output: accept": "output: strict"}))
    expect(str(probes.tcp(stage.box, "100.64.1.10", 1080, timeout=0.4)), probes.SILENT, "root on the box to the upstream")
    expect(str(probes.tcp(stage.box, INET4, 80, timeout=1)), probes.ANSWERED, "root on the box to where the rule lets it")
    expect(exit_of(stage.lan1), EXITS["up1"][0], "lan1")


@story("the forwarder itself reaches upstreams and nothing else, so no probe can ever leave directly")
def astray(stage):
    set_the_stage(stage)
    ask = "import socket,sys; s=socket.socket(); s.settimeout(0.5); print(s.connect_ex((sys.argv[1], int(sys.argv[2]))))"
    as_forwarder = ("setpriv", "--reuid=911", "--clear-groups", "python3", "-c", ask)
    expect_true(stage.box.run(*as_forwarder, INET4, "8088").strip() != "0", "the forwarder's user to the probe's server directly")
    expect_true(stage.box.run(*as_forwarder, "100.64.1.10", "22").strip() != "0", "to another port of an upstream")
    expect(stage.box.run(*as_forwarder, "100.64.1.10", "1080").strip(), "0", "to an upstream")


@story("a connection that is closed from the box ends, and the client's others do not")
def close_one(stage):
    set_the_stage(stage)
    first, second = connected(stage.lan1), connected(stage.lan1)
    for client in (first, second):
        client.sendall(b"hello")
        expect(client.recv(16), b"hello", "the echo")
    flows = ask_forwarder(stage, "flows", mapping="one", client=None, limit=100)["flows"]
    port = first.getsockname()[1]
    flow = next(flow for flow in flows if flow["client"].endswith(f":{port}"))
    expect(ask_forwarder(stage, "close", flow=flow["id"], client=None).get("flows"), 1, "flows that were closed")
    try:
        expect(first.recv(16), b"", "what the closed connection still says")
    except ConnectionResetError:
        pass
    second.sendall(b"again")
    expect(second.recv(16), b"again", "the other connection")
    first.close()
    second.close()


@story("a tightened mapping ends what it no longer carries: an open connection does not outlive its permit")
def open_connection_ends(stage):
    set_the_stage(stage)
    client = connected(stage.lan1)
    client.sendall(b"hello")
    expect(client.recv(16), b"hello", "the echo")
    stage.become(policy(**{ONE: ONE + "  enabled: false\n"}))
    client.settimeout(3)
    try:
        client.sendall(b"x")
        ended = client.recv(16) == b""
    except OSError:
        ended = True
    expect_true(ended, "the connection has ended")
    expect_true(exit_of(stage.lan1, timeout=0.4) in (probes.SILENT, probes.REFUSED), "no other can be made")
    client.close()


@story("the forwarder killed takes every permit with it, and comes back with them")
def forwarder_killed(stage):
    set_the_stage(stage)
    forwarder, times = stage.processes["forwarder"], []
    with packets.Capture(stage.inet, is_leak) as capture:
        for _ in range(5):
            wait_permitted(stage, "one", "two")
            forwarder.ready.clear()
            forwarder.send(signal.SIGKILL)
            begin = time.monotonic()
            forwarder.wait_ready()
            wait_permitted(stage, "one", "two")
            expect(exit_of(stage.lan1), EXITS["up1"][0], "lan1 afterwards")
            times.append(time.monotonic() - begin)
    expect(len(capture.frames), 0, "frames of mapped clients at the WAN")
    return f"carried again after {_spread(times)}"


@story("a forwarder that hangs while it stays connected loses its permits, and has them again when it goes on")
def forwarder_hangs(stage):
    set_the_stage(stage)
    forwarder = stage.processes["forwarder"]
    with packets.Capture(stage.inet, is_leak) as capture:
        forwarder.send(signal.SIGSTOP)
        try:
            took = wait_until(lambda: not permitted(stage, "one") and not permitted(stage, "two"), 60, "the mappings are blocked")
            expect(reason(stage, "one"), "upstreamDown", "the reason")
            expect_true(exit_of(stage.lan1, timeout=0.5) in (probes.SILENT, probes.REFUSED), "lan1 is blocked")
        finally:
            forwarder.send(signal.SIGCONT)
        wait_permitted(stage, "one", "two")
        wait_until(lambda: exit_of(stage.lan1, timeout=0.5) == EXITS["up1"][0], 5, "lan1 is carried")
    expect(len(capture.frames), 0, "frames of mapped clients at the WAN")
    expect_true(took <= stage.lab.seconds(46), f"blocked after {took:.1f} s")
    return f"blocked {took:.0f} s after it hung"


@story("after a power cut every mapping is effective within 5 s, and not a frame of a mapped client passes before")
def reboot(stage):
    set_the_stage(stage)
    forbidden = [packets.udp(source, target, 40200, port, b"MAPPED") for source, target in (("192.168.2.10", INET4), ("fd00:2::10", INET6)) for port in (53, 443)]
    forbidden += [packets.tcp("192.168.2.10", INET4, 40201, 443, packets.SYN), packets.tcp("fd00:2::10", INET6, 40201, 443, packets.SYN)]
    with packets.Capture(stage.inet, is_leak) as capture, packets.Flood(packets.Wire(stage.lan1, "eth0", LAN_MAC), forbidden, rate=2000) as flood:
        stage.lab.power_cut()
        stage.lab.plug_in()
        stage.lab.boot()
        begin = time.monotonic()
        wait_until(lambda: permitted(stage, "one", "two"), 30, "the mappings are let in")
        took = time.monotonic() - begin
        wait_until(lambda: exit_of(stage.lan1, timeout=0.5) == EXITS["up1"][0], 5, "lan1 is carried")
        sent = flood.sent
    expect(len(capture.frames), 0, "frames of mapped clients at the WAN")
    expect_true(took <= stage.lab.seconds(5), f"effective after {took:.1f} s")
    return f"{sent} sent, 0 passed, effective {took:.2f} s after the services"
