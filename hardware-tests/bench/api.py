#!/usr/bin/env python3
"""Ten programs ask control through its front, each over one kept-alive TLS connection, one request after the other.

Prints milliseconds at the client: p50 and p99 of each operation, and what control holds in memory before and after. `/healthz` is the floor:
the front, TLS and this Python, without control's own work.
"""

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

USERS = 10
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 6.0
PASSWORD = "ten programs at once 10"
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
READS = ["/healthz", "/api/v1/account", "/api/v1/candidate", "/api/v1/revisions", "/api/v1/audit", "/api/v1/users", "/api/v1/candidate/resources"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        control = subprocess.Popen([f"{ROOT}/target/release/portcullis-control", "--run-dir", folder, "--state-dir", folder], env={**os.environ, "RUST_LOG": "error"}, stderr=subprocess.DEVNULL)
        wait(lambda: os.path.exists(f"{folder}/setup-code") and os.path.exists(f"{folder}/control.sock"))
        port = free_port()
        with open(f"{folder}/haproxy.cfg", "w") as config:
            config.write(front_config(port))
        front = subprocess.Popen(["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"], env={**os.environ, "PORTCULLIS_RUN_DIR": folder}, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            wait(lambda: answers(port))
            measure(port, folder, control.pid)
        finally:
            for process in (front, control):
                process.terminate()
                process.wait()


def measure(port, folder, pid):
    idle = resident(pid)
    with open(f"{folder}/setup-code") as code:
        ask(connect(port), "POST", "/api/v1/setup", {"code": code.read().strip(), "user": "ada", "password": PASSWORD})
    token = ask(connect(port), "POST", "/api/v1/tokens", {"user": "ada", "password": PASSWORD})["token"]
    with open(f"{ROOT}/examples/small-office.yaml") as example:
        text = example.read()
    ask(connect(port), "PUT", "/api/v1/candidate", {"version": 0, "sources": {"small-office.yaml": text}}, token)

    after_login = resident(pid)
    times = {name: [] for name in [*READS, "PUT /api/v1/candidate"]}
    until = time.monotonic() + SECONDS
    threads = [threading.Thread(target=one_user, args=(n, port, token, text, until, times)) for n in range(USERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    print(f"{USERS} users, {SECONDS:.0f} s, {sum(map(len, times.values()))} requests; milliseconds at the client")
    print(f"{'':32}{'requests':>9}{'p50':>8}{'p99':>8}")
    for name, took in [*times.items(), ("all of the API", [t for name, took in times.items() if name != "/healthz" for t in took])]:
        took.sort()
        print(f"{name:32}{len(took):>9}{took[len(took) // 2] * 1000:>8.2f}{took[len(took) * 99 // 100] * 1000:>8.2f}")
    print(f"control resident: {idle} kB idle, {after_login} kB after a login, {resident(pid)} kB at the end")


def one_user(n, port, token, text, until, times):
    connection = connect(port)
    turn = n
    while time.monotonic() < until:
        # One of ten changes something; all others read.
        if turn % 10 == 9 and n == 0:
            version = ask(connection, "GET", "/api/v1/candidate", None, token)["version"]
            begun = time.perf_counter()
            ask(connection, "PUT", "/api/v1/candidate", {"version": version, "sources": {"small-office.yaml": f"{text}# {turn}\n"}}, token)
            times["PUT /api/v1/candidate"].append(time.perf_counter() - begun)
        else:
            path = READS[turn % len(READS)]
            begun = time.perf_counter()
            ask(connection, "GET", path, None, token)
            times[path].append(time.perf_counter() - begun)
        turn += 1
        # People and programs pause; without it ten Python threads measure themselves.
        time.sleep(0.02)


def ask(connection, method, path, body=None, token=None):
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    data = response.read()
    if response.status >= 400:
        raise SystemExit(f"{method} {path}: {response.status} {data[:300]}")
    return json.loads(data) if data.startswith((b"{", b"[")) else data


def connect(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def front_config(port):
    """What the policy renders, with a rate that a load test does not reach."""
    with open(f"{ROOT}/templates/services/admin-front/haproxy.cfg") as template:
        text = template.read() + "\n"
    for name, value in {"port": port, "requests_per_minute": 10 ** 6, "flood_per_minute": 10 ** 7, "max_body": 4 << 20}.items():
        text = text.replace("{{ " + name + " }}", str(value))
    # Without a policy that runs, control itself counts 100 a minute for each address it is told; here it is told none.
    return text.replace("    http-request set-header X-Portcullis-Client %[src]\n", "")


def answers(port):
    try:
        return ask(connect(port), "GET", "/healthz") == b"ok\n"
    except OSError:
        return False


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(done):
    until = time.monotonic() + 10
    while not done():
        if time.monotonic() > until:
            raise SystemExit("the processes did not come up")
        time.sleep(0.05)


main()
