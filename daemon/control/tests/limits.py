"""The rate limit through the front, headers that clients must not set, and that a connection can be made to end."""

import os
import signal
import socket
import threading
import time

import wire
from wire import answer, ask, connect, request


def rate_limit():
    with connect("127.0.4.1") as connection:
        statuses = []
        for n in range(101):
            # Whatever a client says of itself: it stays who it is.
            connection.sendall(request("/api/v1/openapi.json", headers=[f"X-Portcullis-Client: 203.0.113.{n}", f"X-Forwarded-For: 198.51.100.{n}"]))
            status, data = answer(connection)
            statuses.append(status)
            assert status == 200 or b"retry-after" in data.lower(), data
    assert statuses.count(200) in (100, 101) and statuses[-1] in (200, 429), statuses
    # Slow machines let a few tokens flow meanwhile.
    refused = next(data for status, data in (ask("/api/v1/openapi.json", source="127.0.4.1") for _ in range(20)) if status == 429)
    assert b"application/problem+json" in refused
    assert ask("/api/v1/openapi.json", source="127.0.4.2")[0] == 200, "others are not slowed"


def flood():
    with connect("127.0.4.3") as connection:
        for n in range(700):
            connection.sendall(request("/healthz"))
            status, data = answer(connection)
            if status == 429:
                assert b"retry-after: 60" in data.lower(), data
                return
    raise AssertionError("700 requests in a row were never refused by the front")


def headers():
    for path in ("/healthz", "/login", "/nothing", "/api/v1/nothing"):
        _, data = ask(path, source="127.0.4.4")
        head = data.partition(b"\r\n\r\n")[0].decode().lower()
        for wanted in (
            "strict-transport-security: max-age=31536000",
            "content-security-policy: default-src 'none'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: same-origin",
        ):
            assert wanted in head, f"{path} lacks {wanted}"
        assert "unsafe-inline" not in head and "\r\nserver:" not in head, head


def old_tls_is_refused():
    import ssl
    import wire

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        context.wrap_socket(wire.plain("127.0.4.5")).close()
    except (ssl.SSLError, OSError):
        return
    raise AssertionError("TLS 1.1 was spoken")


def control_can_end_a_connection():
    """A confirmation must be able to come over a new connection. Control's place is taken by something that always asks for that."""
    os.kill(wire.CONTROL, signal.SIGTERM)
    path = f"{wire.FOLDER}/control.sock"
    while os.path.exists(path):
        time.sleep(0.05)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve():
        while True:
            peer, _ = listener.accept()
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 307 Again\r\nLocation: /x\r\nX-Portcullis-Close: close\r\nContent-Length: 0\r\n\r\n")
            peer.close()

    threading.Thread(target=serve, daemon=True).start()
    with connect("127.0.4.6") as connection:
        connection.sendall(request("/x"))
        status, data = answer(connection)
        assert status == 307 and b"connection: close" in data.lower() and b"x-portcullis" not in data.lower(), data
        connection.settimeout(5)
        assert connection.recv(1) == b"", "the connection stayed open"


for check in (headers, old_tls_is_refused, rate_limit, flood, control_can_end_a_connection):
    begun = time.monotonic()
    check()
    print(f"{check.__name__}: {time.monotonic() - begun:.1f} s")
