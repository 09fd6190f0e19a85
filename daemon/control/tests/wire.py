"""Raw bytes over TLS to the front, from any loopback address."""

import socket
import ssl
import sys
import time

PORT, CONTROL = int(sys.argv[1]), int(sys.argv[2])
FOLDER = sys.argv[3]

CONTEXT = ssl.create_default_context()
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE


def plain(source="127.0.0.1", timeout=10.0):
    return socket.create_connection(("127.0.0.1", PORT), timeout=timeout, source_address=(source, 0))


def connect(source="127.0.0.1", timeout=10.0):
    return CONTEXT.wrap_socket(plain(source, timeout))


def request(path, method="GET", headers=(), body=b""):
    head = [f"{method} {path} HTTP/1.1", "Host: box.example", *headers]
    if body and not any(header.lower().startswith("content-length") for header in headers):
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def answer(connection, limit=1 << 20):
    """Status and everything that came until the peer closed or a head with its whole body was there."""
    data = b""
    try:
        while len(data) < limit:
            piece = connection.recv(65536)
            if not piece:
                break
            data += piece
            head, end, rest = data.partition(b"\r\n\r\n")
            length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), None)
            if end and length is not None and len(rest) >= length:
                break
    except (TimeoutError, ConnectionError, ssl.SSLError, OSError):
        pass
    return (int(data.split(b" ")[1]) if data.startswith(b"HTTP/1.") else None), data


def ask(path, source="127.0.0.1", patience=10.0, **how):
    with connect(source, patience) as connection:
        try:
            connection.sendall(request(path, **how))
        except OSError:
            pass  # Refused before everything was sent; the answer may still be there.
        return answer(connection)


def alive(source="127.0.9.9"):
    """Within a moment, for somebody else."""
    begun = time.monotonic()
    status, _ = ask("/healthz", source=source)
    assert status == 200, f"the front answers {status} afterwards"
    took = time.monotonic() - begun
    assert took < 20, f"the front took {took:.1f} s to answer"


def resident():
    """Kilobytes that control holds."""
    with open(f"/proc/{CONTROL}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
