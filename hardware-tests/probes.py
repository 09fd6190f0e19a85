"""What a client learns when it tries: through real sockets, as an application would."""

import errno
import os
import select
import socket
import struct
import time

import packets

ANSWERED, REFUSED, PROHIBITED, UNREACHABLE, SILENT = "answered", "refused", "prohibited", "unreachable", "silent"


class Answer(str):
    """One of the words above; `text` is what the other side said, `seconds` how long it took."""

    text = ""
    seconds = 0.0


def _answer(kind, begin, text=""):
    answer = Answer(kind)
    answer.text, answer.seconds = text, time.monotonic() - begin
    return answer


# net/ipv4/icmp.c icmp_err_convert: administratively prohibited is EHOSTUNREACH; net/ipv6/icmp.c: EACCES.
_KINDS = {
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: REFUSED,
    errno.EHOSTUNREACH: PROHIBITED,
    errno.EACCES: PROHIBITED,
    errno.ENETUNREACH: UNREACHABLE,
}


def _open(namespace, target, kind, source):
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with namespace.inside():
        client = socket.socket(family, kind)
    if source:
        client.bind((source, 0))
    return client


def tcp(namespace, target, port, timeout=1.0, source=None):
    """Connects, asks, and reads the answer."""
    begin = time.monotonic()
    with _open(namespace, target, socket.SOCK_STREAM, source) as client:
        client.settimeout(timeout)
        try:
            client.connect((target, port))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            text = b""
            while chunk := client.recv(4096):
                text += chunk
            return _answer(ANSWERED, begin, text.decode(errors="replace").partition("\r\n\r\n")[2].strip())
        except TimeoutError:
            return _answer(SILENT, begin)
        except OSError as error:
            return _answer(_KINDS.get(error.errno, errno.errorcode.get(error.errno, str(error))), begin)


def udp(namespace, target, port, timeout=1.0, source=None, payload=b"who are you?"):
    begin = time.monotonic()
    with _open(namespace, target, socket.SOCK_DGRAM, source) as client:
        client.settimeout(timeout)
        try:
            client.connect((target, port))
            client.send(payload)
            return _answer(ANSWERED, begin, client.recv(4096).decode(errors="replace").strip())
        except TimeoutError:
            return _answer(SILENT, begin)
        except OSError as error:
            return _answer(_KINDS.get(error.errno, errno.errorcode.get(error.errno, str(error))), begin)


def ping(namespace, target, count=1, interval=0.0, timeout=1.0):
    """How many of `count` echo requests were answered."""
    six = ":" in target
    with namespace.inside():
        client = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
    identifier = struct.unpack("!H", os.urandom(2))[0]
    answered = set()

    def collect(until):
        while (left := until - time.monotonic()) > 0 and select.select([client], [], [], left)[0]:
            message = client.recv(2048)
            message = message if six else message[(message[0] & 15) * 4:]
            kind, _, _, seen, sequence = struct.unpack("!BBHHH", message[:8])
            if kind == (129 if six else 0) and seen == identifier:
                answered.add(sequence)
            if len(answered) == count:
                return

    with client:
        for sequence in range(count):
            # The kernel fills in ICMPv6's checksum; ICMP's is ours.
            message = struct.pack("!BBHHH", 128 if six else 8, 0, 0, identifier, sequence) + b"portcullis"
            if not six:
                message = message[:2] + struct.pack("!H", packets.checksum(message)) + message[4:]
            client.sendto(message, (target, 0))
            collect(time.monotonic() + interval)
        collect(time.monotonic() + timeout)
    return len(answered)
