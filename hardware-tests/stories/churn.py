"""Connections by the thousand, cut and half-closed, while upstreams come and go: nothing is left behind."""

import contextlib
import os
import random
import socket
import threading
import time

from internet import BULK_PORT
from mapped import ask_forwarder, connected, reset, set_the_stage, wait_permitted
from stage import INET4, INET6, wait_until
from stories import expect_true, story

SECONDS = int(os.environ.get("CHURN_SECONDS") or 30)
CLIENTS = 12


def _exchange(client):
    client.sendall(b"hello")
    client.recv(16)
    client.close()


def _half_close(client):
    client.sendall(b"hello")
    client.shutdown(socket.SHUT_WR)
    while client.recv(4096):
        pass
    client.close()


def _cut(client):
    client.sendall(b"hello" * 1000)
    reset(client)


def _linger(client):
    client.sendall(b"hello")
    time.sleep(random.uniform(0, 1))
    client.close()


def _say_nothing(client):
    client.close()


def _bulk_cut(machine, target):
    with connected(machine, target, BULK_PORT) as client:
        client.sendall(b"50000000\n")
        client.recv(random.randrange(1, 1 << 20))
        reset(client)


class Churn:
    def __init__(self, stage):
        self.over, self.made, self.failed = False, 0, 0
        self.threads = [threading.Thread(target=self._run, args=(stage, number), daemon=True) for number in range(CLIENTS)]

    def _run(self, stage, number):
        machine = stage.lan1 if number % 2 else stage.lan2
        while not self.over:
            target = random.choice((INET4, INET6))
            try:
                if random.random() < 0.05:
                    _bulk_cut(machine, target)
                else:
                    random.choice((_exchange, _exchange, _half_close, _cut, _linger, _say_nothing))(connected(machine, target, timeout=2))
                self.made += 1
            except OSError:
                self.failed += 1
                time.sleep(0.02)


def _left(stage):
    """Descriptors, pipes and flows of the forwarder, and tracked connections of the clients that are not over."""
    status = ask_forwarder(stage, "status")
    tracked = stage.box.run("conntrack", "-L", "-p", "tcp", check=False).splitlines() + stage.box.run("conntrack", "-L", "-f", "ipv6", "-p", "tcp", check=False).splitlines()
    clients = [line for line in tracked if "src=192.168.2." in line or "src=fd00:2::" in line]
    alive = [line for line in clients if not any(over in line for over in ("TIME_WAIT", "CLOSE", "LAST_ACK"))]
    return status["descriptors"], status["pipes"], status["flows"], len(alive)


@story(f"{SECONDS} s of connections opened, cut and half-closed while upstreams come and go leave no descriptor, pipe or tracked connection behind")
def churn(stage):
    random.seed(os.environ.get("SEED") or 20261128)
    set_the_stage(stage)
    time.sleep(1)
    before, memory = _left(stage), stage.processes["forwarder"].resident()
    churn = Churn(stage)
    for thread in churn.threads:
        thread.start()
    end = time.monotonic() + SECONDS
    most = 0
    while time.monotonic() < end:
        proxy = stage.lab.upstreams[random.choice(("socks", "guarded", "spare"))]
        random.choice((proxy.kill, proxy.pause))()
        time.sleep(random.uniform(0.2, 1.0))
        proxy.resume()
        proxy.start()
        with contextlib.suppress(OSError, KeyError):
            most = max(most, ask_forwarder(stage, "status")["flows"])
        time.sleep(random.uniform(0.5, 1.5))
    churn.over = True
    for thread in churn.threads:
        thread.join()
    wait_permitted(stage, "one", "two", seconds=45)

    def settled():
        descriptors, pipes, flows, tracked = _left(stage)
        # The health round's connections come and go.
        return descriptors <= before[0] + 8 and flows <= before[2] and pipes <= before[1] + 64 and tracked <= before[3]

    try:
        wait_until(settled, 30, "nothing is left")
    except TimeoutError as error:
        raise AssertionError(f"before {before}, after {_left(stage)} (descriptors, pipes, flows, tracked connections)") from error
    grown = stage.processes["forwarder"].resident() - memory
    expect_true(churn.made > 5 * SECONDS, f"only {churn.made} connections were made, {churn.failed} failed")
    expect_true(stage.processes["forwarder"].resident() < 64 << 10, "the forwarder stays under 64 MB")
    return f"{churn.made} connections, {churn.failed} failed, at most {most} at once; {before} before, {_left(stage)} after; memory {grown:+} KiB"
