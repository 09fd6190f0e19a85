"""The attacks that would end the HTTP server behind the front, if they got there."""

import contextlib
import socket
import ssl
import time

import api
from stage import wait_until
from stories import expect, expect_true, story

HEAD = b"Host: 192.168.77.1\r\nAccept: application/json\r\n"
# KiB; the tests run unoptimised programs, whose text is larger. `scripts/bench commit` tells what the optimised ones hold.
CONTROL_LIMIT = 48 * 1024
# Another machine in the administrators' network: limits by address must hit it and nobody else.
ATTACKER = "192.168.77.66"
# Whom they talk to is not the question here; api.py looks at the certificate.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE


@contextlib.contextmanager
def _survives(stage):
    """Whatever happens in the block: the same control answers afterwards, and has not grown beyond its limit."""
    control = stage.processes["control"]
    stage.admin.ip("address", "replace", ATTACKER + "/24", "dev", stage.lab.far_port("mgmt0"))
    wait_until(lambda: _healthy(stage), 10, "the pages answer before the attack")
    pid = control.pid
    yield
    wait_until(lambda: _healthy(stage), 5, "the pages answer after the attack")
    expect(control.pid, pid, "control's process")
    expect_true(control.resident() < CONTROL_LIMIT, f"control holds {control.resident()} KiB")


def _healthy(stage):
    try:
        answer = _say(stage, b"GET /healthz HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n", source="192.168.77.2")
        return answer.startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _connect(stage, timeout=5.0, source=ATTACKER):
    with stage.admin.inside():
        plain = socket.socket()
    plain.settimeout(timeout)
    plain.bind((source, 0))
    plain.connect(("192.168.77.1", 443))
    return TLS.wrap_socket(plain)


def _say(stage, data, timeout=5.0, source=ATTACKER):
    """Sends it all and returns what comes back until the end, a pause or a reset."""
    with _connect(stage, timeout, source) as connection:
        answer = b""
        with contextlib.suppress(OSError):
            connection.sendall(data)
        with contextlib.suppress(OSError):
            while chunk := connection.recv(65536):
                answer += chunk
        return answer


def _refused(answer):
    """A 4xx, or a closed connection without a word."""
    return not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))


@story("a request that announces a body of a terabyte is refused, and the pages keep answering")
def terabyte(stage):
    with _survives(stage):
        for length in (1 << 40, 1 << 63, (1 << 64) + 5, -1):
            answer = _say(stage, b"POST /api/v1/tokens HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n{}" % length, timeout=2)
            expect_true(_refused(answer), f"Content-Length {length}: {answer[:60]}")


@story("a body without end and a header without end are cut off")
def endless(stage):
    with _survives(stage):
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        answer = _say(stage, b"POST /api/v1/tokens HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 320)
        expect_true(_refused(answer), f"20 MiB in chunks: {answer[:60]}")
        answer = _say(stage, b"GET / HTTP/1.1\r\n" + HEAD + b"X-Long: " + b"x" * (64 << 20) + b"\r\n\r\n")
        expect_true(_refused(answer), f"a header line of 64 MiB: {answer[:60]}")


@story("a request with two lengths, or a length and chunks, is refused or read in one way only")
def smuggling(stage):
    hidden = b"GET /api/v1/status HTTP/1.1\r\n" + HEAD + b"\r\n"
    with _survives(stage):
        for framing in (b"Content-Length: 2\r\nContent-Length: 40\r\n", b"Content-Length: 2, 40\r\n", b"Content-Length: +2\r\n", b"Transfer-Encoding: xchunked\r\n"):
            answer = _say(stage, b"POST /api/v1/tokens HTTP/1.1\r\n" + HEAD + framing + b"\r\n{}" + hidden, timeout=1)
            expect_true(_refused(answer), f"{framing}: {answer[:60]}")
        # RFC 9112 section 6.3 lets a proxy take chunks over a length, if it then drops the length and closes.
        answer = _say(stage, b"POST /api/v1/tokens HTTP/1.1\r\n" + HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, timeout=1)
        expect_true(answer.count(b"HTTP/1.1 ") <= 2 and b" 200 " not in answer, f"length and chunks: {answer[:200]}")


@story("two hundred thousand pipelined requests cost neither the service nor its memory")
def pipelined(stage):
    with _survives(stage):
        answer = _say(stage, (b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n") * 200_000, timeout=3)
        expect_true(b" 429 " in answer or answer.count(b"HTTP/1.1 200") < 200_000, "the flood was limited")


@story("six hundred connections that say nothing, or only half a request, do not keep an administrator out")
def idle(stage):
    with _survives(stage), contextlib.ExitStack() as standing:
        for number in range(600):
            with contextlib.suppress(OSError):
                connection = standing.enter_context(_connect(stage, timeout=0.5))
                if number % 2:
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        begin = time.monotonic()
        expect_true(_healthy(stage), "the pages answer while the idle connections stand")
        expect_true(time.monotonic() - begin < 1, "and at once")


@story("a client cannot say who it is or when it came: the front overwrites what control trusts")
def forged(stage):
    token = api.administrator(stage.lab)
    with _on_trial(stage, token) as applied, _connect(stage, source="192.168.77.2") as new:
        body = b'{"generation": %d}' % applied["generation"]
        new.sendall(b"POST /api/v1/trial/confirm HTTP/1.1\r\n" + HEAD + b"Authorization: Bearer " + token.encode()
                    + b"\r\nX-Portcullis-Client: 10.9.9.9\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        answer = b""
        with contextlib.suppress(OSError):
            while chunk := new.recv(65536):
                answer += chunk
        expect_true(b" 200 " in answer.split(b"\r\n")[0], f"the honest confirmation: {answer[:80]}")
    with api.Connection(stage.lab) as connection:
        audit = str(connection.ask("GET", "/audit", token=token))
    expect_true("10.9.9.9" not in audit and "192.168.77.2" in audit, "the audit names the real address")


@contextlib.contextmanager
def _on_trial(stage, token):
    with api.Connection(stage.lab) as connection:
        yield api.apply(connection, token, stage.office(**{"hostname: office-gw": "hostname: other-gw"}), within=30)
